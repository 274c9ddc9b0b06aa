//! A [`BridgeSpec`] checked, and the lines of `ip` that bridges share.

use std::fmt;
use std::io;

use ipnet::IpNet;

use super::port::{Id, Name};
use super::space::{Space, sysctl};
use crate::dataplane::{BridgeSpec, VlanSpec};

/// A VLAN's number, 1 to 4094.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(u16);

impl TryFrom<u16> for Tag {
    type Error = io::Error;

    fn try_from(number: u16) -> io::Result<Self> {
        if (1..=4094).contains(&number) { Ok(Self(number)) } else { Err(invalid("not a VLAN", number)) }
    }
}

impl Tag {
    pub(super) const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a bridge reaches the other hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// By an uplink of its own, of this name.
    Uplink(Name),
    /// Tagged, by the uplink of another.
    Vlan { parent: Name, tag: Tag },
}

/// A bridge of dom0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bridge {
    pub(super) name: Name,
    pub(super) network: Id,
    pub(super) address: Option<IpNet>,
    pub(super) wire: Wire,
}

impl Bridge {
    /// The bridges of a host, each VLAN after all that are none.
    pub(super) fn all(specs: &[BridgeSpec]) -> io::Result<Vec<Self>> {
        let mut bridges = specs.iter().enumerate().map(Self::new).collect::<io::Result<Vec<_>>>()?;
        bridges.sort_by_key(|bridge| matches!(bridge.wire, Wire::Vlan { .. }));
        Ok(bridges)
    }

    fn new((index, spec): (usize, &BridgeSpec)) -> io::Result<Self> {
        let BridgeSpec { name, network_uuid, management_address, vlan } = spec;
        let address = (management_address.as_deref())
            .map(|it| it.parse().map_err(|_| invalid("not an address in CIDR form", it)))
            .transpose()?;
        let wire = match vlan {
            None => Wire::Uplink(format!("eth{index}").parse()?),
            Some(VlanSpec { parent, tag }) => Wire::Vlan { parent: parent.parse()?, tag: (*tag).try_into()? },
        };
        Ok(Self { name: name.parse()?, network: network_uuid.parse()?, address, wire })
    }

    /// Sets the kernel parameters of the bridge's own link: dom0 has IPv6 switched off but for an IPv6 management
    /// network.
    pub(super) fn tune(&self, space: &Space) -> io::Result<()> {
        let Some(IpNet::V6(_)) = self.address else { return Ok(()) };
        space.in_network(|| sysctl(&format!("ipv6/conf/{}/disable_ipv6", self.name), "0"))
    }

    /// The lines that bring up the bridge's own link.
    pub(super) fn up(&self) -> Vec<String> {
        let Self { name, address, .. } = self;
        let address = address.map(|it| format!("address replace {it} dev {name}{}", no_dad(it)));
        address.into_iter().chain([format!("link set dev {name} up")]).collect()
    }
}

/// The line that makes a bridge which forwards from its first moment, and everything.
pub(super) fn new_bridge(name: &impl fmt::Display) -> String {
    format!("link add name {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
}

/// How an address is added so that it serves at once.
pub(super) fn no_dad(address: IpNet) -> &'static str {
    match address {
        IpNet::V4(_) => "",
        IpNet::V6(_) => " nodad",
    }
}

fn invalid(what: &str, value: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{what}: {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, vlan: Option<(&str, u16)>) -> BridgeSpec {
        BridgeSpec {
            name: name.into(),
            network_uuid: format!("network-{name}"),
            management_address: None,
            vlan: vlan.map(|(parent, tag)| VlanSpec { parent: parent.into(), tag }),
        }
    }

    #[test]
    fn uplinks_are_counted_by_place_and_vlans_come_last() {
        let bridges =
            Bridge::all(&[spec("xenbr0", None), spec("xapi1", Some(("xenbr2", 7))), spec("xenbr2", None)]);
        let bridges = bridges.unwrap();
        let names: Vec<_> = bridges.iter().map(|bridge| bridge.name.to_string()).collect();
        assert_eq!(names, ["xenbr0", "xenbr2", "xapi1"]);
        assert_eq!(bridges[1].wire, Wire::Uplink("eth2".parse().unwrap()));
        assert_eq!(bridges[2].wire, Wire::Vlan { parent: "xenbr2".parse().unwrap(), tag: Tag(7) });
    }

    #[test]
    fn a_tag_is_a_vlan() {
        for (tag, accepted) in [(0, false), (1, true), (4094, true), (4095, false), (u16::MAX, false)] {
            assert_eq!(Bridge::all(&[spec("xapi1", Some(("xenbr0", tag)))]).is_ok(), accepted, "{tag}");
        }
    }
}
