use super::*;
use crate::iptables::parse_save;

/// What a filter table of the given lines does with tcp 1024 → 80 from vif1.0 to eth0.
fn fate(lines: &str) -> Result<(Fate, Option<u32>), InterpretError> {
    let mut chains: Vec<&str> =
        lines.lines().filter_map(|l| l.strip_prefix("-A ")?.split(' ').next()).collect();
    chains.sort_unstable();
    chains.dedup();
    let declared: String = chains.iter().map(|c| format!(":{c} - [0:0]\n")).collect();
    let dump = format!(
        "# drawbridge bridge-nf-call=1\n# drawbridge boundary=stands\n*raw\nCOMMIT\n*filter\n{declared}\
         -I FORWARD 1 -m physdev --physdev-is-bridged -j dwb-a\n{lines}\nCOMMIT\n"
    );
    let observed = parse_save(&dump).unwrap();
    let (mac, a, b) = ("00:16:3e:00:00:01".parse().unwrap(), [10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let packet = Packet::ip((mac, mac), (a, b), Transport::tcp(1024, 80)).unwrap();
    let transit = Transit {
        packet: &packet,
        bridge: "xapi1",
        input: "vif1.0",
        output: Some("eth0"),
        for_dom0: false,
        conntrack: Conntrack::Some { state: CtStates::NEW, direction: CtDirection::Original, mark: 0x7f },
    };
    let outcome = traverse(&observed, Table::Filter, &transit)?;
    Ok((outcome.fate, outcome.mark))
}

#[test]
fn jumps_come_back_and_gotos_do_not() {
    for (lines, expected) in [
        ("-A dwb-a -j ACCEPT", Fate::Accepted),
        ("-A dwb-a -p udp -j ACCEPT\n-A dwb-a -j DROP", Fate::Dropped),
        ("-A dwb-a -p udp -j ACCEPT", Fate::NotDecided),
        // The end of a chain jumped to leads back to the next rule of its caller ...
        ("-A dwb-a -j dwb-b\n-A dwb-a -j ACCEPT\n-A dwb-b -p udp -j DROP", Fate::Accepted),
        ("-A dwb-a -j dwb-b\n-A dwb-a -j ACCEPT\n-A dwb-b -j RETURN\n-A dwb-b -j DROP", Fate::Accepted),
        // ... the end of one gone to, to the caller of the chain that left.
        ("-A dwb-a -g dwb-b\n-A dwb-a -j ACCEPT\n-A dwb-b -p udp -j DROP", Fate::NotDecided),
        (
            "-A dwb-a -j dwb-b\n-A dwb-a -j ACCEPT\n-A dwb-b -g dwb-c\n-A dwb-b -j DROP\n-A dwb-c -j RETURN",
            Fate::Accepted,
        ),
    ] {
        assert_eq!(fate(lines).unwrap().0, expected, "{lines}");
    }
}

#[test]
fn matches_are_those_of_the_kernel() {
    for (condition, holds) in [
        ("-s 10.0.0.0/24", true),
        ("-d 10.0.0.1/32", false),
        ("-i xapi1", true),
        ("-o xapi2", false),
        ("-p tcp -m tcp --sport 1024 --dport 80:81", true),
        ("-p tcp -m tcp --dport 81:90", false),
        ("-m physdev --physdev-in vif+", true),
        ("-m physdev --physdev-in vif1.0", true),
        ("-m physdev --physdev-in vif1", false),
        ("-m physdev --physdev-out vif+", false),
        ("-m conntrack --ctstate RELATED,NEW", true),
        ("-m conntrack --ctstate NEW --ctdir REPLY", false),
        // The bits that are not ours do not count.
        ("-m connmark --mark 0x0/0xffffff00", true),
        ("-m connmark ! --mark 0x100/0xffffff00", true),
        ("-m mac --mac-source 00:16:3e:00:00:01", true),
        ("-m u32 --u32 \"0x6&0xff=0x6\"", true),
        ("-p icmp -m icmp --icmp-type 255", false),
    ] {
        let expected = if holds { Fate::Accepted } else { Fate::NotDecided };
        assert_eq!(fate(&format!("-A dwb-a {condition} -j ACCEPT")).unwrap().0, expected, "{condition}");
    }
}

#[test]
fn marks_keep_other_peoples_bits() {
    let outcome = fate("-A dwb-a -j CONNMARK --set-xmark 0x100/0xffffff00\n-A dwb-a -j ACCEPT");
    assert_eq!(outcome, Ok((Fate::Accepted, Some(0x17f))));
}

#[test]
fn what_cannot_be_said_is_an_error() {
    assert!(matches!(fate("-A dwb-a -m limit --limit 1/sec -j ACCEPT"), Err(InterpretError::Foreign { .. })));
    assert!(matches!(fate("-A dwb-a -j dwb-none"), Err(InterpretError::NoChain(_))));
    assert_eq!(fate("-A dwb-a -j dwb-b\n-A dwb-b -g dwb-a"), Err(InterpretError::Circle));
    assert!(matches!(fate("-A dwb-a -m u32 --u32 \"0x6=\" -j DROP"), Err(InterpretError::U32(_))));
}
