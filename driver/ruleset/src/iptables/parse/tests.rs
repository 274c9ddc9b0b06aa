use super::*;

const EMPTY: &str =
    "# drawbridge bridge-nf-call=0\n# drawbridge boundary=missing\n*raw\nCOMMIT\n*filter\nCOMMIT\n";

#[test]
fn empty_is_said_and_not_implied() {
    let observed = parse_save(EMPTY).unwrap();
    assert!(observed.filter.chains.is_empty());
    assert_eq!(observed.bridge_netfilter, BridgeNetfilter::Off);
    for (cut, problem) in [
        ("", Problem::TableMissing("raw")),
        ("*raw\nCOMMIT\n", Problem::TableMissing("filter")),
        ("*raw\nCOMMIT\n*filter\n", Problem::NoCommit("filter")),
        ("*raw\nCOMMIT\n*filter\nCOMMIT\n", Problem::NoBridgeNetfilter),
        ("# drawbridge bridge-nf-call=1\n*raw\nCOMMIT\n*filter\nCOMMIT\n", Problem::NoBoundary),
        ("# drawbridge boundary=odd\n", Problem::Syntax),
        ("# drawbridge conntrack=many/7\n", Problem::Syntax),
        ("# drawbridge hello\n", Problem::Syntax),
        ("*raw\n*filter\nCOMMIT\n", Problem::NoCommit("raw")),
        ("*raw\nCOMMIT\n*raw\nCOMMIT\n", Problem::TableTwice("raw")),
        ("*nat\nCOMMIT\n", Problem::UnknownTable("nat".to_owned())),
        (":dwb-a - [0:0]\n", Problem::OutsideTable),
        ("*raw\n-A dwb-a -j DROP\n", Problem::UndeclaredChain("dwb-a".parse().unwrap())),
        ("*raw\n-I PREROUTING 0 -j dwb-a\n", Problem::Position("0".to_owned())),
        ("*raw\nnonsense\n", Problem::Syntax),
    ] {
        assert_eq!(parse_save(cut).unwrap_err().problem, problem, "{cut}");
    }
}

#[test]
fn what_the_plugin_says_of_dom0() {
    let said = "# drawbridge routes=xenbr0\n# drawbridge routes=xapi7\n# drawbridge conntrack=70/100\n";
    let observed = parse_save(&format!("{said}{EMPTY}")).unwrap();
    assert_eq!(observed.routed, ["xenbr0", "xapi7"]);
    let fill = observed.conntrack.unwrap();
    assert!(fill.is_high() && !ConntrackFill { tracked: 69, ..fill }.is_high());
    for (word, boundary) in [
        ("stands", Boundary::Stands),
        ("missing", Boundary::Missing),
        ("preceded", Boundary::Preceded),
        ("altered", Boundary::Altered),
    ] {
        let text = EMPTY.replace("boundary=missing", &format!("boundary={word}"));
        assert_eq!(parse_save(&text).unwrap().boundary, boundary);
    }
}

#[test]
fn a_rule_we_could_not_have_written_is_kept_word_for_word() {
    let text = EMPTY.replace(
        "*filter\n",
        "*filter\n:dwb-a - [0:0]\n-A dwb-a -m limit --limit 3/sec -j ACCEPT\n-A dwb-a -j DROP\n-I FORWARD 2 -p tcp -j dwb-a\n",
    );
    let observed = parse_save(&text).unwrap();
    let rules = &observed.filter.chains[&"dwb-a".parse().unwrap()];
    assert_eq!(rules[0], ObservedRule::Foreign("-m limit --limit 3/sec -j ACCEPT".to_owned()));
    assert!(matches!(rules[1], ObservedRule::Known(_)));
    assert_eq!(observed.filter.hooks[0].position, 2);
}

#[test]
fn a_rule_that_says_more_than_one_of_ours_is_not_taken_for_it() {
    for spec in [
        // A condition without any option.
        "-m socket -j ACCEPT",
        "-m rpfilter -j dwb-a",
        // Could not be printed as it is.
        r#"-m u32 --u32 "0=\"1" -j DROP"#,
        // Whose ports?
        "-p tcp -m tcp --dport 1 -p udp -j ACCEPT",
    ] {
        assert_eq!(rule::parse(spec), None, "{spec}");
    }
}

#[test]
fn printed_rules_read_back_and_print_the_same() {
    for spec in [
        "-s 10.0.0.5/32 -p udp -m udp --sport 68 --dport 67 -m mac --mac-source 00:16:3e:aa:bb:cc -j RETURN",
        "-p tcp -m tcp --dport 80:81 -g dwb-accept",
        "-p udplite -m multiport --dports 5:6 -g dwb-accept",
        "-p 47 -j dwb-ms-0123456789abcdef",
        "-p ipv6-icmp -m icmp6 --icmpv6-type 136 -m u32 --u32 \"0x3&0xff=0x3a&&0x30=0xfe800000\" -j RETURN",
        "-p icmp -m icmp --icmp-type 3/4 -j DROP",
        "-m addrtype ! --dst-type LOCAL -j dwb-raw",
        "-m physdev --physdev-in vif1+ -g dwb-f-vif1",
        "-m physdev --physdev-is-bridged -j dwb-forward",
        "-m conntrack --ctstate RELATED,ESTABLISHED --ctdir REPLY -m connmark ! --mark 0xffffff00/0xffffff00 -j ACCEPT",
        "-m conntrack --ctstate INVALID -j DROP",
        "-j CONNMARK --set-xmark 0x100/0xffffff00",
        "-i xenbr0 -j CT --zone 7",
    ] {
        let rule = rule::parse(spec).unwrap_or_else(|| panic!("{spec}"));
        assert_eq!(rule.to_string(), spec);
    }
    // Older versions print protocol names from /etc/protocols and MACs in capitals.
    assert_eq!(rule::parse("-p gre -j DROP"), rule::parse("-p 47 -j DROP"));
    assert_eq!(
        rule::parse("-m mac --mac-source 00:16:3E:AA:BB:CC -j DROP"),
        rule::parse("-m mac --mac-source 00:16:3e:aa:bb:cc -j DROP")
    );
    for foreign in [
        "",
        "-j LOG",
        "! -s 10.0.0.0/8 -j DROP",
        "-j DROP -s 1.2.3.4",
        "-p nonsense -j DROP",
        "-m connmark --mark 0x1 -j DROP",
        "-j \"x",
    ] {
        assert_eq!(rule::parse(foreign), None, "{foreign}");
    }
}
