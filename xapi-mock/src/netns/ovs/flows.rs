//! VIF locking as flows: those of xenopsd's `setup-vif-rules`, priority for priority.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::port::Mac;

/// ICMPv6 a locked guest never sends: router advertisement, redirect, mobile prefix solicitation and advertisement,
/// multicast router advertisement, solicitation and termination.
const FORBIDDEN_ICMPV6: [u8; 7] = [134, 137, 146, 147, 151, 152, 153];

/// The flows of one locked VIF, as `ovs-ofctl add-flows` reads them.
pub(super) fn locking(ofport: u16, mac: Mac, ipv4: &[Ipv4Addr], ipv6: &[Ipv6Addr]) -> String {
    let mut text = String::new();
    let mut add = |priority: u16, rest: &str, action: &str| {
        // Writing to a string cannot fail.
        let _written = writeln!(
            text,
            "cookie=1,in_port={ofport},priority={priority}{rest},idle_timeout=0,action={action}"
        );
    };
    add(8000, &format!(",dl_type=0x0800,nw_proto=0x11,tp_dst=67,dl_src={mac}"), "normal");
    let arp = format!(",dl_type=0x0806,dl_src={mac},arp_sha={mac}");
    add(7000, &format!("{arp},nw_src=0.0.0.0"), "normal");
    for address in ipv4 {
        add(7000, &format!("{arp},nw_src={address}"), "normal");
        add(6000, &format!(",dl_type=0x0800,nw_src={address},dl_src={mac}"), "normal");
    }
    for address in ipv6 {
        let own = format!(",dl_src={mac},ipv6_src={address}");
        add(8000, &format!("{own},icmp6,icmp_type=135,nd_sll={mac}"), "normal");
        add(8000, &format!("{own},icmp6,icmp_type=136,nd_target={address}"), "normal");
        for protocol in ["icmp6", "tcp6", "udp6"] {
            add(5000, &format!("{own},{protocol}"), "normal");
        }
    }
    for kind in [135, 136] {
        add(7000, &format!(",icmp6,icmp_type={kind}"), "drop");
    }
    for kind in FORBIDDEN_ICMPV6 {
        add(6000, &format!(",icmp6,icmp_type={kind}"), "drop");
    }
    add(4000, "", "drop");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_vif_has_the_scripts_flows() {
        let mac = "00:16:3e:00:00:01".parse().unwrap();
        let text = locking(5, mac, &["10.0.0.1".parse().unwrap()], &["fd00::1".parse().unwrap()]);
        let own = "dl_src=00:16:3e:00:00:01";
        let rules: Vec<_> = text
            .lines()
            .map(|line| {
                line.strip_prefix("cookie=1,in_port=5,priority=").unwrap().replace(",idle_timeout=0", "")
            })
            .collect();
        let arp = "dl_type=0x0806,dl_src=00:16:3e:00:00:01,arp_sha=00:16:3e:00:00:01";
        let mut expected = vec![
            format!("8000,dl_type=0x0800,nw_proto=0x11,tp_dst=67,{own},action=normal"),
            format!("7000,{arp},nw_src=0.0.0.0,action=normal"),
            format!("7000,{arp},nw_src=10.0.0.1,action=normal"),
            format!("6000,dl_type=0x0800,nw_src=10.0.0.1,{own},action=normal"),
            format!("8000,{own},ipv6_src=fd00::1,icmp6,icmp_type=135,nd_sll=00:16:3e:00:00:01,action=normal"),
            format!("8000,{own},ipv6_src=fd00::1,icmp6,icmp_type=136,nd_target=fd00::1,action=normal"),
        ];
        expected.extend(
            ["icmp6", "tcp6", "udp6"].map(|it| format!("5000,{own},ipv6_src=fd00::1,{it},action=normal")),
        );
        expected.extend([135, 136].map(|it| format!("7000,icmp6,icmp_type={it},action=drop")));
        expected.extend(
            [134, 137, 146, 147, 151, 152, 153].map(|it| format!("6000,icmp6,icmp_type={it},action=drop")),
        );
        expected.push("4000,action=drop".to_owned());
        assert_eq!(rules, expected);
    }
}
