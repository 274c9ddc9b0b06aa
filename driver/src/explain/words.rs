//! Verdicts in plain words. The letters are those of docs/security.md.

use api::control::Side;
use ruleset::model::{Direction, Remote, Rule};
use ruleset::verdict::{Pass, Reason, Spoof};

/// What let a packet pass a side.
pub(super) fn pass(direction: Direction, pass: &Pass<'_>) -> Side {
    let side = |because: String| Side {
        direction: direction.into(),
        passes: true,
        because,
        group: None,
        rule: None,
    };
    match pass {
        Pass::Unfiltered => side("not filtered on this side".to_owned()),
        Pass::Essential => side("DHCP, ARP and neighbour discovery always pass (E2, I1)".to_owned()),
        Pass::Connection => side("it belongs to an allowed connection (E4, I3)".to_owned()),
        Pass::Provider(provider) => Side {
            rule: Some(provider.rule.id.to_string()),
            ..side(format!("the operator's rule {}: {} (E5, I4)", provider.rule.id, rule(&provider.rule)))
        },
        Pass::Group(group, found) => Side {
            group: Some(group.id.to_string()),
            rule: Some(found.id.to_string()),
            ..side(format!("rule {} of group {}: {} (E6, I5)", found.id, group.id, rule(found)))
        },
        Pass::Default => side("the default (E7, I6)".to_owned()),
    }
}

/// What stopped a packet on a side.
pub(super) fn stop(direction: Direction, reason: &Reason<'_>) -> Side {
    let side = |because: String| Side {
        direction: direction.into(),
        passes: false,
        because,
        group: None,
        rule: None,
    };
    match reason {
        Reason::UnknownVif => side("the network is guarded and this VIF has no rules (H1)".to_owned()),
        Reason::Source(spoof) => side(format!("the sender is not who it says it is: {} (E1)", claim(*spoof))),
        Reason::Invalid => side("it belongs to no connection and can begin none (E3, I2)".to_owned()),
        Reason::Cut => side("its connection was cut (H4)".to_owned()),
        Reason::Provider(provider) => Side {
            rule: Some(provider.rule.id.to_string()),
            ..side(format!(
                "the operator's rule {} denies {} (E5, I4)",
                provider.rule.id,
                rule(&provider.rule)
            ))
        },
        Reason::Default => side("no rule of the port's groups admits it (E7, I6)".to_owned()),
    }
}

fn claim(spoof: Spoof) -> &'static str {
    match spoof {
        Spoof::Mac => "the MAC address is not the port's",
        Spoof::Arp => "ARP in another's name",
        Spoof::Ipv4 | Spoof::Ipv6 => "the address is not the port's",
        Spoof::Nd => "neighbour discovery for another's address",
        Spoof::DhcpServer => "a guest is no DHCP server",
        Spoof::Router => "a guest is no router",
    }
}

fn rule(rule: &Rule) -> String {
    let Rule { id: _, direction, family, service, remote, description } = rule;
    let (direction, preposition) = match direction {
        Direction::Ingress => ("ingress", "from"),
        Direction::Egress => ("egress", "to"),
    };
    let remote = match remote {
        Remote::Any => "anybody".to_owned(),
        Remote::Prefix(net) => net.to_string(),
        Remote::Group(id) => format!("members of {id}"),
        Remote::Set(id) => format!("address set {id}"),
    };
    let note = if description.is_empty() { String::new() } else { format!(" ({description})") };
    format!("{direction} {family} {service} {preposition} {remote}{note}")
}
