//! What others got wrong before: cases gathered from the tests, bug trackers and advisories of nova's and neutron's
//! security groups, each as packets from somebody to somebody. A case's letter and number begin its test's name; the
//! bug it stems from, where there is one, stands with the test.
//!
//! A is about what a policy admits, B about groups as remotes, C about what holds for every guest, D about what happens
//! in the course of time. Cases that need what this back end cannot do are not here: live migration, resizing, and
//! changes of the back end have tests of their own.

mod base;
mod events;
mod groups;
mod hosts;
mod lifecycle;
mod policy;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use e2e::lab::{Backend, Guest, Lab, ipv4, ipv6};
use e2e::probe::{Expectation, Probe, check};
use e2e::station::{Family, Station};
use ruleset::ids::Mac;
use ruleset::packet::{Packet, Transport};

use crate::replay::wire;

/// A group with these rules and no others.
fn group(id: &str, rules: &[String]) -> String {
    format!("\n[[group]]\nid = '{id}'\nimplicit_rules = 'none'\nrule = [\n  {}\n]\n", rules.join(",\n  "))
}

/// A rule for what comes to a guest: the rest of its fields.
fn ingress(fields: &str) -> String {
    rule("ingress", fields)
}

/// A rule for what a guest sends.
fn egress(fields: &str) -> String {
    rule("egress", fields)
}

fn rule(direction: &str, fields: &str) -> String {
    let comma = if fields.is_empty() { "" } else { "," };
    format!("{{ direction = '{direction}'{comma} {fields} }}")
}

/// The addresses of this number on `lan`, of both families.
fn addresses(number: u8) -> [IpAddr; 2] {
    [ipv4(0, number).into(), ipv6(0, number).into()]
}

/// The port of a guest's first interface, with the guest's addresses.
fn port(vm: &str, number: u8, groups: &[&str]) -> String {
    let addresses = addresses(number).map(|address| address.to_string());
    format!("\n[[port]]\nvm = '{vm}'\ndevice = 0\ngroups = {groups:?}\naddresses = {addresses:?}\n")
}

/// The same that may also speak for others: `{ address = '10.20.0.99' }`.
fn port_with_pairs(vm: &str, number: u8, groups: &[&str], pairs: &[&str]) -> String {
    format!("{}address_pairs = [{}]\n", port(vm, number, groups), pairs.join(", "))
}

/// One guest, `vm` (number 11, on `host1`), in a group with these rules and no others; applied.
fn one(backend: Backend, rules: &[String]) -> Result<Lab> {
    applied(Lab::builder(backend).host_count(1).guest(Guest::new("vm", "host1", 11)).policy(&format!(
        "{}{}",
        group("only", rules),
        port("vm", 11, &["only"])
    )))
}

fn applied(builder: e2e::lab::Builder) -> Result<Lab> {
    let lab = builder.start()?;
    lab.apply()?.success()?;
    Ok(lab)
}

/// Whether connection tracking knows every kind of packet. That of a switch in user space, as the Lab's switches are,
/// takes some for invalid that the kernel's, which dom0 has, does not: ICMP with a code of its own, DCCP.
fn tracks_everything(backend: Backend) -> bool {
    backend != Backend::OpenVSwitch
}

/// A single packet between two stations, with a source address that need not be the sender's.
fn sends(from: &Station, to: &Station, source: impl Into<IpAddr>, transport: Transport) -> Result<Probe> {
    sends_as(from, (from.mac, source.into()), to, transport)
}

/// The same from another hardware address, too.
fn sends_as(
    from: &Station,
    (mac, source): (e2e::frame::Mac, IpAddr),
    to: &Station,
    transport: Transport,
) -> Result<Probe> {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
    let destination = to.address(family).with_context(|| format!("{} has no {family} address", to.name))?;
    let name = format!("{transport:?} from {mac} {source}");
    let packet =
        Packet::ip((Mac(mac.0), Mac(to.mac.0)), (source, destination), transport).context("one family")?;
    let frames = wire::frames(&packet, NUMBER.fetch_add(1, Ordering::Relaxed), wire::Shape::Whole, None);
    Ok(from.frame(to, name, frames.concat()))
}

/// TCP to these ports passes, to those it does not, over both families.
fn tcp(from: &Station, to: &Station, passes: &[u16], blocked: &[u16]) -> Vec<Expectation> {
    let mut all = Vec::new();
    for family in Family::BOTH {
        all.extend(passes.iter().map(|port| from.tcp(to, *port, family).passes()));
        all.extend(blocked.iter().map(|port| from.tcp(to, *port, family).blocked()));
    }
    all
}

/// Before the policy is applied everything arrives, so what does not afterwards was stopped by it.
fn applied_in_between(lab: &Lab, expectations: Vec<Expectation>) -> Result<()> {
    check(expectations.iter().cloned().map(|one| one.probe.passes()));
    lab.apply()?.success()?;
    check(expectations);
    Ok(())
}
