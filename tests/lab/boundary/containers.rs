//! What dom0 itself routes and translates, between bridges that are not XAPI's.

use anyhow::{Context, Result, ensure};
use e2e::frame::Mac;
use e2e::lab::Lab;
use e2e::probe::check;
use e2e::station::{Family, Namespace, Station};

use super::pool;
use crate::on_both;

/// A namespace behind an interface of dom0's: `name` with `address`, whose way out is `gateway`.
fn contain(lab: &Lab, name: &str, link: &str, address: &str, gateway: &str) -> Result<()> {
    let ip = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        lab.dom0_program("host1", "ip", &words, b"").with_context(|| line.to_owned())
    };
    ip(&format!("netns add {name}"))?;
    ip(&format!("link add {link} type veth peer name eth0 netns {name}"))?;
    ip(&format!("link set {link} up"))?;
    ip(&format!("-n {name} address add {address} dev eth0"))?;
    ip(&format!("-n {name} link set eth0 up"))?;
    ip(&format!("-n {name} link set lo up"))?;
    ip(&format!("-n {name} route add default via {gateway}"))?;
    Ok(())
}

/// Containers on a bridge of dom0's, whose addresses dom0 hides, and a network behind dom0 that only answers may reach.
fn route(lab: &Lab) -> Result<()> {
    let dom0 = |program: &str, line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        lab.dom0_program("host1", program, &words, b"").with_context(|| line.to_owned())
    };
    dom0("ip", "link add docker0 type bridge")?;
    dom0("ip", "address add 172.17.0.1/24 dev docker0")?;
    dom0("ip", "link set docker0 up")?;
    contain(lab, "container", "cont0", "172.17.0.2/24", "172.17.0.1")?;
    dom0("ip", "link set cont0 master docker0")?;
    contain(lab, "routed", "up0", "172.18.0.2/24", "172.18.0.1")?;
    dom0("ip", "address add 172.18.0.1/24 dev up0")?;
    for interface in ["docker0", "up0"] {
        let path = format!("/proc/sys/net/ipv4/conf/{interface}/forwarding");
        lab.dom0_program("host1", "tee", &[&path], b"1")?;
    }
    dom0("iptables", "-t nat -A POSTROUTING -s 172.17.0.0/24 ! -o docker0 -j MASQUERADE")?;
    // dom0's own FORWARD ends in a REJECT.
    dom0("iptables", "-I FORWARD 1 -i docker0 ! -o docker0 -j ACCEPT")?;
    dom0("iptables", "-I FORWARD 1 -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")?;
    Ok(())
}

/// A container, as one who talks.
fn station(lab: &Lab, name: &'static str, address: [u8; 4]) -> Result<Station> {
    let namespace = lab.host("host1")?.named_network(name)?.run(Namespace::current)?;
    Ok(Station {
        name: name.to_owned(),
        namespace,
        interface: "eth0".to_owned(),
        mac: Mac([0; 6]),
        ipv4: Some(address.into()),
        ipv6: None,
    })
}

/// What dom0 routes and translates works.
fn assert_routed(lab: &Lab) -> Result<()> {
    let container = station(lab, "container", [172, 17, 0, 2])?;
    let routed = station(lab, "routed", [172, 18, 0, 2])?;
    check([
        container.echo(&routed, Family::V4).passes(),
        container.tcp(&routed, 80, Family::V4).passes(),
        container.udp(&routed, 53, Family::V4).passes(),
    ]);
    Ok(())
}

on_both! {
    /// A container bridge with masquerading, and stateful rules, work before, during and after.
    fn dom0s_own_routing_and_nat_live(iptables) {
        let lab = pool(iptables).start()?;
        route(&lab)?;
        assert_routed(&lab)?;
        lab.apply()?.success()?;
        assert_routed(&lab)?;
        lab.set_policy("")?;
        lab.apply()?;
        assert_routed(&lab)?;
    }

    /// Where dom0 routes from a bridge of XAPI's, it is told by name.
    fn a_bridge_of_xapis_from_which_dom0_routes_is_named(iptables) {
        let lab = pool(iptables).start()?;
        lab.dom0_program("host1", "tee", &["/proc/sys/net/ipv4/conf/xenbr1/forwarding"], b"1")?;
        let said = lab.apply()?.success()?.stdout;
        ensure!(said.contains("dom0 routes packets from xenbr1"), "{said}");
        ensure!(!said.contains("dom0 routes packets from xenbr0"), "{said}");
    }
}
