//! A small cloud that most Lab tests and the demo share.
//!
//! | guest | host | number | groups | what it may |
//! |---|---|---|---|---|
//! | `web1` | `host1` | 11 | `web` | serve TCP 80 and ping to everybody, reach everybody |
//! | `db` | `host1` | 12 | `db` | serve TCP 5432 to members of `web`; nothing of its own |
//! | `web2` | `host2` | 13 | `web` | as `web1` |
//! | `plain` | `host2` | 14 | no port | everything: it is not ours |

use anyhow::Result;

use crate::frame::dhcp;
use crate::frame::ip::{Path, UDP};
use crate::frame::{Mac, arp_reply, ethernet, nd};
use crate::lab::{Backend, Builder, Guest, Lab, NetworkBackend, ipv4, ipv6};
use crate::probe::Expectation;
use crate::station::{Family, Station};

/// The policy file.
pub const POLICY: &str = include_str!("scenario/policy.toml");

/// The guests, in the order they are made.
pub const GUESTS: [(&str, &str, u8); 4] =
    [("web1", "host1", 11), ("db", "host1", 12), ("web2", "host2", 13), ("plain", "host2", 14)];

/// The pool with the policy file in place; nothing is applied yet.
#[must_use]
pub fn pool(backend: impl Into<Backend>) -> Builder {
    GUESTS
        .into_iter()
        .fold(Lab::builder(backend), |builder, (name, host, number)| {
            builder.guest(Guest::new(name, host, number))
        })
        .policy(POLICY)
}

/// What must hold among those of the guests that run, and `outside`.
///
/// # Errors
/// XAPI could not be asked.
pub fn expectations(lab: &Lab) -> Result<Vec<Expectation>> {
    let present = |name: &str| -> Result<Option<Station>> {
        if lab.is_running(name)? { lab.guest(name).map(Some) } else { Ok(None) }
    };
    let [web1, db, web2, plain] = [present("web1")?, present("db")?, present("web2")?, present("plain")?];
    let outside = lab.outside();
    let mut all = Vec::new();
    for family in Family::BOTH {
        for web in [&web1, &web2].into_iter().flatten() {
            all.push(outside.tcp(web, 80, family).passes());
            all.push(outside.echo(web, family).passes());
            all.push(outside.tcp(web, 22, family).blocked());
            all.push(outside.udp(web, 80, family).blocked());
            all.push(web.udp(outside, 53, family).passes());
            if let Some(db) = &db {
                all.push(web.tcp(db, 5432, family).passes());
                all.push(web.tcp(db, 22, family).blocked());
            }
        }
        if let Some(db) = &db {
            all.push(outside.tcp(db, 5432, family).blocked());
            all.push(db.tcp(outside, 80, family).blocked());
            all.push(db.echo(outside, family).blocked());
        }
        if let Some(plain) = &plain {
            all.push(outside.tcp(plain, 22, family).passes());
            all.extend(db.iter().map(|db| plain.tcp(db, 5432, family).blocked()));
        }
    }
    Ok(all)
}

/// Frames `guest` must not get out, and the ones it needs, seen by `victim`.
#[must_use]
pub fn spoofing(guest: &Station, victim: &Station) -> Vec<Expectation> {
    let Mac([.., network, number]) = guest.mac;
    let (stranger4, stranger6) = (ipv4(network, 99), ipv6(network, 99));
    let (own4, own6) = (ipv4(network, number), ipv6(network, number));
    let (victim4, victim6) = (ipv4(network, victim.mac.0[5]), ipv6(network, victim.mac.0[5]));
    let stranger = Mac([0x00, 0x16, 0x3e, 0x66, 0x66, 0x66]);
    let udp = |path: Path, source: Mac| path.frame(victim.mac, source, UDP, &path.udp(1, 53, b"x"));
    let own_local = guest.mac.link_local();
    let refused = [
        ("IPv4 from a foreign address", udp(Path::V4(stranger4, victim4), guest.mac)),
        ("IPv6 from a foreign address", udp(Path::V6(stranger6, victim6), guest.mac)),
        ("IPv4 from a foreign MAC", udp(Path::V4(own4, victim4), stranger)),
        ("IPv6 from a foreign MAC", udp(Path::V6(own6, victim6), stranger)),
        ("router advertisement", nd::router_advertisement((guest.mac, own_local), ipv6(9, 0))),
        ("redirect", nd::redirect((guest.mac, own_local), (victim.mac, victim6), own6, stranger6)),
        ("ARP reply for a foreign address", arp_reply((guest.mac, stranger4), (victim.mac, victim4))),
        ("VLAN-tagged IPv4", tagged(&udp(Path::V4(own4, victim4), guest.mac))),
        ("unknown EtherType", ethernet(victim.mac, guest.mac, 0x88b5, b"experiment")),
        ("DHCP offer", dhcp::offer((guest.mac, own4), victim.mac, stranger4)),
        ("DHCPv6 advertise", dhcp::advertise(guest.mac, victim.mac)),
    ];
    let passed = [
        ("DHCP discover", dhcp::discover(guest.mac)),
        ("DHCPv6 solicit", dhcp::solicit(guest.mac)),
        ("neighbour solicitation", nd::solicitation((guest.mac, own6), victim6)),
        ("router solicitation", nd::router_solicitation((guest.mac, own_local))),
        ("duplicate address detection", nd::solicitation((guest.mac, std::net::Ipv6Addr::UNSPECIFIED), own6)),
        ("multicast listener report", nd::listener_report((guest.mac, own_local), nd::solicited_node(own6))),
        ("ARP reply for its own address", arp_reply((guest.mac, own4), (victim.mac, victim4))),
    ];
    let refused = refused.map(|(name, bytes)| guest.frame(victim, name, bytes).blocked());
    let passed = passed.map(|(name, bytes)| guest.frame(victim, name, bytes).passes());
    refused.into_iter().chain(passed).collect()
}

/// The same frame on VLAN 7.
fn tagged(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0x00, 0, 7], &frame[12..]].concat()
}

/// What a boot of dom0 leaves of our work: no chains and no flows, nothing in `/run`, and bridged packets that do not meet
/// iptables; then what `drawbridge-boot.service` does before the first guest starts.
///
/// # Errors
/// The host's own programs failed.
pub fn dom0_boots(lab: &Lab, host: &str) -> Result<()> {
    match lab.network_backend(host)? {
        NetworkBackend::Bridge => forget_chains(lab, host)?,
        NetworkBackend::OpenVSwitch => lab.host(host)?.restart_ovs()?,
    }
    lab.dom0_program(host, "rm", &["-rf", "/run/drawbridge"], b"")?;
    lab.dom0_program(host, "/etc/xapi.d/plugins/drawbridge", &["boot"], b"")?;
    Ok(())
}

fn forget_chains(lab: &Lab, host: &str) -> Result<()> {
    for (family, switch) in
        [(Family::V4, "bridge-nf-call-iptables"), (Family::V6, "bridge-nf-call-ip6tables")]
    {
        let switch = format!("/proc/sys/net/bridge/{switch}");
        lab.host(host)?.run(|| std::fs::write(switch, "0"))?;
        let removal = without_ours(&lab.iptables_save(host, family)?);
        lab.iptables_restore(host, family, &removal)?;
        anyhow::ensure!(!lab.iptables_save(host, family)?.contains("dwb-"), "something of ours is left");
    }
    Ok(())
}

/// Input for `iptables-restore --noflush` that takes everything of ours out of a saved ruleset.
fn without_ours(saved: &str) -> String {
    let mut input = String::new();
    for table in saved.split_inclusive("COMMIT\n").filter(|table| table.contains("\n*")) {
        let lines = || table.lines().filter(|line| !line.starts_with('#'));
        let chains: Vec<_> = lines()
            .filter_map(|line| line.strip_prefix(':')?.split(' ').next())
            .filter(|name| name.starts_with("dwb-"))
            .collect();
        let jumps = lines().filter(|line| line.contains(" -j dwb-") && !line.starts_with("-A dwb-"));
        input.extend(lines().filter(|line| line.starts_with('*')).map(|line| format!("{line}\n")));
        input.extend(jumps.map(|line| format!("{}\n", line.replacen("-A", "-D", 1))));
        input.extend(chains.iter().map(|name| format!("-F {name}\n")));
        input.extend(chains.iter().map(|name| format!("-X {name}\n")));
        input.push_str("COMMIT\n");
    }
    input
}
