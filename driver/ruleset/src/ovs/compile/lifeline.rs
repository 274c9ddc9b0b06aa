//! H1.1: the driver's own VM reaches XAPI from a guarded network, whether its port was seen or not.
//!
//! Flows know ports by number, and a VM that restarts has a new one. So what it says to XAPI, and hears from there, is the
//! switch's to deliver, always: it learns where the VM is from what it says.

use ipnet::IpNet;

use super::hooks::{arrive, leave, on_trunks, priority};
use super::site::{Layout, Net, macs};
use super::state::{essentials_from_guest, essentials_to_guest};
use super::{Builder, ether, of_ether};
use crate::model::{Direction, Family, Protocol};
use crate::ovs::flow::{Action, Destination, Ether, Masked, Match, OfPort, Vlan};
use crate::ovs::table;
use crate::resolve::{HostPolicy, Lifeline, XAPI};

pub(super) fn write(host: &HostPolicy, layout: &Layout<'_>, out: &mut Builder) {
    for net in layout.nets.iter().filter(|net| net.guarded) {
        for line in host.lifelines_on(net.name.as_str()) {
            says(layout, net, line, out);
            hears(layout, net, line, out);
            note(net, line, out);
        }
    }
}

fn says(layout: &Layout<'_>, net: &Net, line: &Lifeline, out: &mut Builder) {
    let said = |said: Match| Match { vlan: Some(Vlan::None), dl_src: Some(line.mac), ..said };
    let all: Vec<Match> = spoken(line, Direction::Egress).into_iter().map(said).collect();
    // It passes its port's checks where it is known. Only its calls are the switch's to deliver: by them it is learned.
    let calls: Vec<Match> = xapi(line, Direction::Egress).map(said).collect();
    let mut from = |ofport: OfPort, said: &[Match], many: &[Action]| {
        for said in said {
            let said = Match { in_port: Some(ofport), ..said.clone() };
            let to_many = Match { dl_dst: Some(Destination::Many), ..said.clone() };
            out.add(table::HOOK, priority::LIFELINE_MANY, to_many, many.iter().cloned());
            out.add(table::HOOK, priority::LIFELINE, said, arrive(net, false, table::OURS));
        }
    };
    let copies = if net.explicit { arrive(net, false, table::TRACK_TO) } else { vec![Action::Normal] };
    for (ofport, _) in layout.unknown.iter().filter(|(_, number)| *number == net.number()) {
        from(*ofport, &all, &copies);
    }
    for site in layout.ports.iter().filter(|site| site.network == net.number()) {
        for ofport in site.ofports.iter().filter(|_| macs(site.port).contains(&line.mac)) {
            from(*ofport, &calls, &leave(site));
        }
    }
    out.otherwise(table::OURS, [Action::Normal]);
    if layout.all_guarded {
        for said in all {
            out.add(table::HOOK, priority::LIFELINE_UNSEEN, said, [Action::Normal]);
        }
    }
}

fn hears(layout: &Layout<'_>, net: &Net, line: &Lifeline, out: &mut Builder) {
    let access = net.access.iter().filter(|other| !other.locked);
    let access = access.map(|other| (other.ofport, Vlan::None));
    let known: Vec<(OfPort, Vlan)> = access.chain(on_trunks(layout, net)).collect();
    for heard in spoken(line, Direction::Ingress) {
        for (ofport, vlan) in &known {
            let heard = Match { in_port: Some(*ofport), vlan: Some(*vlan), ..heard.clone() };
            let one = Match { dl_dst: Some(Destination::Exactly(line.mac)), ..heard.clone() };
            out.add(table::HOOK, priority::TO_LIFELINE, one, [Action::Normal]);
            // What passes to every guest of the network may be left to the switch.
            if heard.ether == Some(Ether::Arp) || heard.icmp_type.is_some() {
                let many = Match { dl_dst: Some(Destination::Many), ..heard };
                out.add(table::HOOK, priority::TO_LIFELINE_MANY, many, [Action::Normal]);
            }
        }
    }
}

/// Says whose VM is where and what it reaches: the plugin reads it, as it does which networks are guarded.
fn note(net: &Net, line: &Lifeline, out: &mut Builder) {
    let vlan = Some(net.tag.map_or(Vlan::None, Vlan::Id));
    for asked in xapi(line, Direction::Egress) {
        let noted = Match { vlan, dl_src: Some(line.mac), ..asked };
        out.add(table::LIFELINES, 1, noted, super::default_verdict());
    }
}

/// What the VM may say to XAPI, or hear from there, and what it cannot live without.
fn spoken(line: &Lifeline, direction: Direction) -> Vec<Match> {
    let mut spoken = match direction {
        Direction::Egress => essentials_from_guest(),
        Direction::Ingress => essentials_to_guest(),
    };
    if direction == Direction::Egress {
        spoken.push(Match { arp_sha: Some(line.mac), ..of_ether(Ether::Arp) });
    }
    let family = |matches: &Match| match matches.ether {
        Some(Ether::Ipv6) => Family::Ipv6,
        _ => Family::Ipv4,
    };
    spoken.retain(|matches| line.speaks(family(matches)));
    spoken.extend(xapi(line, direction));
    spoken
}

fn xapi(line: &Lifeline, direction: Direction) -> impl Iterator<Item = Match> {
    line.hosts.iter().map(move |host| {
        let net = IpNet::from(*host);
        let tcp = Match { nw_proto: Some(Protocol::TCP.0), ..of_ether(ether(Family::of(&net))) };
        let port = Some(Masked::exactly(XAPI));
        match direction {
            Direction::Egress => Match { destination: Some(net), tp_dst: port, ..tcp },
            Direction::Ingress => Match { source: Some(net), tp_src: port, tcp_ack: true, ..tcp },
        }
    })
}
