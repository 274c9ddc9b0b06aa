//! Flows as text, in the spelling of `ovs-ofctl` 2.5 to 3.x.

use std::fmt;

use ipnet::IpNet;

use super::flow::{Action, CtMatch, CtState, Destination, Ether, Key, Masked, Match, OfPort, Vlan, Zone};
use super::table;
use crate::model::Protocol;

impl fmt::Display for OfPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Local => f.write_str("LOCAL"),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table={},priority={}{}", self.table, self.priority, self.matches)
    }
}

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mask == u16::MAX {
            write!(f, "{}", self.value)
        } else {
            write!(f, "{:#x}/{:#x}", self.value, self.mask)
        }
    }
}

impl fmt::Display for CtMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, flag) in CtState::NAMES {
            if self.set.0 & flag.0 != 0 {
                write!(f, "+{name}")?;
            } else if self.clear.0 & flag.0 != 0 {
                write!(f, "-{name}")?;
            }
        }
        Ok(())
    }
}

/// The word for an ethertype, or for an ethertype with a protocol that has a word.
fn protocol_word(ether: Ether, protocol: Option<u8>) -> (&'static str, Option<u8>) {
    match (ether, protocol.map(Protocol)) {
        (Ether::Arp, _) => ("arp", protocol),
        (Ether::Ipv4, Some(Protocol::ICMP)) => ("icmp", None),
        (Ether::Ipv6, Some(Protocol::ICMPV6)) => ("icmp6", None),
        (Ether::Ipv4, Some(Protocol::TCP)) => ("tcp", None),
        (Ether::Ipv6, Some(Protocol::TCP)) => ("tcp6", None),
        (Ether::Ipv4, Some(Protocol::UDP)) => ("udp", None),
        (Ether::Ipv6, Some(Protocol::UDP)) => ("udp6", None),
        (Ether::Ipv4, Some(Protocol::SCTP)) => ("sctp", None),
        (Ether::Ipv6, Some(Protocol::SCTP)) => ("sctp6", None),
        (Ether::Ipv4, _) => ("ip", protocol),
        (Ether::Ipv6, _) => ("ipv6", protocol),
    }
}

/// A prefix; a whole address without its length, as the switch prints it.
struct Net(IpNet);

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            write!(f, "{}", self.0.addr())
        } else {
            write!(f, "{}", self.0)
        }
    }
}

impl fmt::Display for Match {
    /// Every field with a comma before it; fields after those they depend on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            in_port,
            vlan,
            registers,
            conj_id,
            ct_state,
            ct_mark,
            dl_src,
            dl_dst,
            ether,
            nw_proto,
            source,
            destination,
            later_fragment,
            tp_src,
            tp_dst,
            tcp_ack,
            icmp_type,
            icmp_code,
            arp_sha,
            nd_target,
            nd_sll,
            nd_tll,
        } = self;
        if let Some(port) = in_port {
            write!(f, ",in_port={port}")?;
        }
        match vlan {
            None => {}
            Some(Vlan::None) => f.write_str(",vlan_tci=0x0000/0x1fff")?,
            Some(Vlan::Id(id)) => write!(f, ",dl_vlan={id}")?,
        }
        if *ct_state != CtMatch::default() {
            write!(f, ",ct_state={ct_state}")?;
        }
        if let Some((value, mask)) = ct_mark {
            write!(f, ",ct_mark={value:#x}/{mask:#x}")?;
        }
        if let Some(id) = conj_id {
            write!(f, ",conj_id={id}")?;
        }
        if let Some(ether) = ether {
            let (word, number) = protocol_word(*ether, *nw_proto);
            write!(f, ",{word}")?;
            if let Some(number) = number {
                write!(f, ",nw_proto={number}")?;
            }
        }
        for (register, value) in registers {
            write!(f, ",reg{register}={value:#x}")?;
        }
        if let Some(mac) = dl_src {
            write!(f, ",dl_src={mac}")?;
        }
        match dl_dst {
            None => {}
            Some(Destination::Exactly(mac)) => write!(f, ",dl_dst={mac}")?,
            Some(Destination::Many) => f.write_str(",dl_dst=01:00:00:00:00:00/01:00:00:00:00:00")?,
        }
        let (src, dst) = match ether {
            Some(Ether::Arp) => ("arp_spa", "arp_tpa"),
            Some(Ether::Ipv6) => ("ipv6_src", "ipv6_dst"),
            Some(Ether::Ipv4) | None => ("nw_src", "nw_dst"),
        };
        for (name, net) in [(src, source), (dst, destination)] {
            if let Some(net) = net {
                write!(f, ",{name}={}", Net(*net))?;
            }
        }
        if let Some(mac) = arp_sha {
            write!(f, ",arp_sha={mac}")?;
        }
        if *later_fragment {
            f.write_str(",nw_frag=later")?;
        }
        for (name, ports) in [("tp_src", tp_src), ("tp_dst", tp_dst)] {
            if let Some(ports) = ports {
                write!(f, ",{name}={ports}")?;
            }
        }
        if *tcp_ack {
            f.write_str(",tcp_flags=+ack")?;
        }
        for (name, number) in [("icmp_type", icmp_type), ("icmp_code", icmp_code)] {
            if let Some(number) = number {
                write!(f, ",{name}={number}")?;
            }
        }
        if let Some(net) = nd_target {
            write!(f, ",nd_target={}", Net(IpNet::V6(*net)))?;
        }
        for (name, mac) in [("nd_sll", nd_sll), ("nd_tll", nd_tll)] {
            if let Some(mac) = mac {
                write!(f, ",{name}={mac}")?;
            }
        }
        Ok(())
    }
}

/// A list of actions as text.
pub(super) struct Actions<'a>(pub(super) &'a [Action]);

impl fmt::Display for Actions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("drop");
        }
        for (i, action) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{action}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(number) => write!(f, "{number}"),
            Self::InRegister => write!(f, "NXM_NX_REG{}[0..15]", table::NETWORK),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Output(OfPort::Local) => f.write_str("LOCAL"),
            Self::Output(port) => write!(f, "output:{port}"),
            Self::Normal => f.write_str("NORMAL"),
            Self::Resubmit(table) => write!(f, "resubmit(,{table})"),
            Self::Load(register, value) => write!(f, "load:{value:#x}->NXM_NX_REG{register}[]"),
            Self::Track { zone, next } => write!(f, "ct(table={next},zone={zone})"),
            Self::Commit { zone, mark } => {
                write!(f, "ct(commit,zone={zone},exec(load:{:#x}->NXM_NX_CT_MARK[8..31]))", mark >> 8)
            }
            Self::Conjunction { id, dimension } => write!(f, "conjunction({id},{dimension}/2)"),
            Self::PopVlan => f.write_str("pop_vlan"),
            // OpenFlow's vlan_vid has a bit that says "there is a header".
            Self::PushVlan(id) => write!(f, "push_vlan:0x8100,set_field:{}->vlan_vid", 0x1000 | id),
        }
    }
}
