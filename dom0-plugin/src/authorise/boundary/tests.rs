use super::*;

fn boundary(dump: &str, family: Family) -> Boundary {
    Boundary::read(dump, family, &BTreeSet::new())
}

/// What `iptables-save` says once a repair was carried out on an empty table.
fn standing(family: Family, before: &str) -> String {
    let repair = boundary("", family).repair();
    let lines = repair.lines().filter(|line| !line.starts_with('-'));
    let rules = repair.lines().filter(|line| line.starts_with("-A "));
    let jump = repair.lines().find_map(|line| line.strip_prefix("-I PREROUTING 1 ")).unwrap();
    let mut dump: String =
        lines.clone().take_while(|line| *line != "COMMIT").map(|line| format!("{line}\n")).collect();
    dump += &format!("{before}-A PREROUTING {jump}\n");
    dump.extend(rules.map(|line| format!("{line}\n")));
    dump + "COMMIT\n"
}

#[test]
fn ipv4() {
    assert_eq!(
        boundary("", Family::Ipv4).repair(),
        "*raw\n:dwb-dom0 - [0:0]\n:dwb-dom0-zone - [0:0]\n:dwb-dom0-others - [0:0]\n:dwb-dom0-here - [0:0]\n\
         :dwb-dom0-forged - [0:0]\n:dwb-raw - [0:0]\n\
         -A dwb-dom0 -i lo -j RETURN\n-A dwb-dom0 -i vif+ -j CT --notrack\n-A dwb-dom0 -i tap+ -j CT --notrack\n\
         -A dwb-dom0 -i xapi+ -m physdev --physdev-is-in -g dwb-dom0-zone\n\
         -A dwb-dom0 -i xenbr+ -m physdev --physdev-is-in -g dwb-dom0-zone\n\
         -A dwb-dom0 -i xenapi -m physdev --physdev-is-in -g dwb-dom0-zone\n\
         -A dwb-dom0 -m addrtype --src-type LOCAL -j CT --notrack\n\
         -A dwb-dom0-forged -m addrtype ! --dst-type LOCAL,BROADCAST,MULTICAST -g dwb-dom0-others\n\
         -A dwb-dom0-forged -s 0.0.0.0/32 ! -d 0.0.0.0/8 -j CT --zone 65535\n\
         -A dwb-dom0-forged -j CT --notrack\n\
         -A dwb-dom0-here -m addrtype --dst-type LOCAL -j RETURN\n\
         -A dwb-dom0-here -p icmp -m icmp --icmp-type 3 -j CT --notrack\n\
         -A dwb-dom0-here -p icmp -m icmp --icmp-type 4 -j CT --notrack\n\
         -A dwb-dom0-here -p icmp -m icmp --icmp-type 5 -j CT --notrack\n\
         -A dwb-dom0-here -p icmp -m icmp --icmp-type 11 -j CT --notrack\n\
         -A dwb-dom0-here -p icmp -m icmp --icmp-type 12 -j CT --notrack\n\
         -A dwb-dom0-here -j CT --zone 65535\n\
         -A dwb-dom0-others -j dwb-raw\n-A dwb-dom0-others -j CT --notrack\n\
         -A dwb-dom0-zone -m addrtype --src-type LOCAL,BROADCAST,MULTICAST -g dwb-dom0-forged\n\
         -A dwb-dom0-zone -m addrtype --dst-type LOCAL,BROADCAST,MULTICAST -g dwb-dom0-here\n\
         -A dwb-dom0-zone -g dwb-dom0-others\n\
         -I PREROUTING 1 -j dwb-dom0\nCOMMIT\n"
    );
}

#[test]
fn ipv6() {
    assert_eq!(
        boundary("", Family::Ipv6).repair(),
        "*raw\n:dwb-dom0 - [0:0]\n:dwb-dom0-zone - [0:0]\n:dwb-dom0-others - [0:0]\n:dwb-dom0-here - [0:0]\n\
         :dwb-dom0-forged - [0:0]\n:dwb-raw - [0:0]\n\
         -A dwb-dom0 -i lo -j RETURN\n-A dwb-dom0 -i vif+ -j CT --notrack\n-A dwb-dom0 -i tap+ -j CT --notrack\n\
         -A dwb-dom0 -i xapi+ -m physdev --physdev-is-in -g dwb-dom0-zone\n\
         -A dwb-dom0 -i xenbr+ -m physdev --physdev-is-in -g dwb-dom0-zone\n\
         -A dwb-dom0 -i xenapi -m physdev --physdev-is-in -g dwb-dom0-zone\n\
         -A dwb-dom0 -m addrtype --src-type LOCAL -j CT --notrack\n\
         -A dwb-dom0-forged ! -d ff00::/8 -m addrtype ! --dst-type LOCAL,ANYCAST -g dwb-dom0-others\n\
         -A dwb-dom0-forged -j CT --notrack\n\
         -A dwb-dom0-here -m addrtype --dst-type LOCAL,ANYCAST -j RETURN\n\
         -A dwb-dom0-here -p ipv6-icmp -m icmp6 --icmpv6-type 1 -j CT --notrack\n\
         -A dwb-dom0-here -p ipv6-icmp -m icmp6 --icmpv6-type 2 -j CT --notrack\n\
         -A dwb-dom0-here -p ipv6-icmp -m icmp6 --icmpv6-type 3 -j CT --notrack\n\
         -A dwb-dom0-here -p ipv6-icmp -m icmp6 --icmpv6-type 4 -j CT --notrack\n\
         -A dwb-dom0-here -j CT --zone 65535\n\
         -A dwb-dom0-others -j dwb-raw\n-A dwb-dom0-others -j CT --notrack\n\
         -A dwb-dom0-zone -s ff00::/8 -g dwb-dom0-forged\n\
         -A dwb-dom0-zone -m addrtype --src-type LOCAL -g dwb-dom0-forged\n\
         -A dwb-dom0-zone -m addrtype --src-type ANYCAST --dst-type ANYCAST -g dwb-dom0-forged\n\
         -A dwb-dom0-zone -d ff00::/8 -g dwb-dom0-here\n\
         -A dwb-dom0-zone -m addrtype --dst-type LOCAL,ANYCAST -g dwb-dom0-here\n\
         -A dwb-dom0-zone -g dwb-dom0-others\n\
         -I PREROUTING 1 -j dwb-dom0\nCOMMIT\n"
    );
}

#[test]
fn bridges_with_names_of_their_own_are_named() {
    let bridges = ["xenbr0", "xapi7", "xenapi", "storage", "-x"].map(str::to_owned).into();
    let repair = Boundary::read("", Family::Ipv4, &bridges).repair();
    let named: Vec<_> = repair.lines().filter(|line| line.ends_with(" -g dwb-dom0-zone")).collect();
    assert_eq!(
        named[..4],
        ["xapi+", "xenbr+", "xenapi", "storage"]
            .map(|name| format!("-A dwb-dom0 -i {name} -m physdev --physdev-is-in -g dwb-dom0-zone"))
    );
}

#[test]
fn how_it_stands() {
    for family in [Family::Ipv4, Family::Ipv6] {
        let good = standing(family, "");
        let is = |dump: &str| boundary(dump, family).standing();
        assert_eq!(is(&good), Standing::Stands, "{good}");
        // As iptables 1.4.21 writes it, and with counters.
        assert_eq!(is(&good.replace("-m physdev ", "-m physdev  ")), Standing::Stands);
        assert_eq!(is(&good.replace("\n-A ", "\n[0:12] -A ")), Standing::Stands);
        // What callers have in their chain is theirs.
        let zoned = good.replace("COMMIT", "-A dwb-raw -i xenbr0 -j CT --zone 7\nCOMMIT");
        assert_eq!(is(&zoned), Standing::Stands);

        assert_eq!(is("*filter\nCOMMIT\n"), Standing::Missing);
        assert_eq!(is(&good.replace("-j dwb-dom0\n", "-j dwb-raw\n")), Standing::Missing);
        assert_eq!(is(&standing(family, "-A PREROUTING -i docker0 -j CT --zone 5\n")), Standing::Preceded);
        let jump = "-A PREROUTING -j dwb-dom0\n";
        assert_eq!(is(&good.replace(jump, &jump.repeat(2))), Standing::Preceded);
        for (from, to) in [
            ("-A dwb-dom0-forged -j CT --notrack\n", ""),
            ("-A dwb-dom0-forged -j CT --notrack\n", "-A dwb-dom0-forged -j ACCEPT\n"),
            (
                "-A dwb-dom0-zone -g dwb-dom0-others\n",
                "-A dwb-dom0-zone -j RETURN\n-A dwb-dom0-zone -g dwb-dom0-others\n",
            ),
            ("-i xenbr+", "-i xenbr0"),
            ("-A dwb-dom0 -m addrtype --src-type LOCAL -j CT --notrack\n", ""),
            (":dwb-raw - [0:0]\n", ""),
        ] {
            let altered = good.replace(from, to);
            assert_ne!(altered, good, "{from}");
            assert_eq!(is(&altered), Standing::Altered, "{altered}");
        }
        // The same in another table means nothing.
        assert_eq!(is(&good.replace("*raw", "*mangle")), Standing::Missing);
    }
}

#[test]
fn a_repair_keeps_what_is_the_callers() {
    let good = standing(Family::Ipv4, "-A PREROUTING -i docker0 -j CT --zone 5\n");
    let repair = boundary(&good, Family::Ipv4).repair();
    assert!(!repair.contains(":dwb-raw"), "a declaration would empty it: {repair}");
    assert!(
        repair.ends_with(
            "-D PREROUTING -j dwb-dom0\n\
             -I PREROUTING 1 -j dwb-dom0\nCOMMIT\n"
        ),
        "{repair}"
    );
}

#[test]
fn reserved_names() {
    for name in ["dwb-dom0", "dwb-dom0-", "dwb-dom0-zone"] {
        assert!(is_reserved(name), "{name}");
    }
    for name in ["dwb-dom", "dwb-dom00", "dwb-raw", "dom0", "dwb-x-dom0"] {
        assert!(!is_reserved(name), "{name}");
    }
}
