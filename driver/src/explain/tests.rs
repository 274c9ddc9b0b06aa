use ruleset::model::Protocol;

use super::*;

#[test]
fn packets_are_typed_as_people_say_them() {
    for (text, probe) in [
        ("tcp/22", Probe::Port(Protocol::TCP, 22)),
        ("UDP/53", Probe::Port(Protocol::UDP, 53)),
        ("icmp", Probe::Icmp(None)),
        ("icmp/3/4", Probe::Icmp(Some((3, 4)))),
        ("gre", Probe::Protocol(Protocol(47))),
        ("47", Probe::Protocol(Protocol(47))),
    ] {
        assert_eq!(text.parse(), Ok(probe), "{text}");
        assert_eq!(probe.to_string().parse(), Ok(probe), "{text}");
    }
    for bad in ["", "tcp", "tcp/0", "tcp/70000", "icmp/256", "icmp/1/2/3", "gre/1", "nonsense/1", "tcp/1/2"] {
        assert!(bad.parse::<Probe>().is_err(), "{bad}");
    }
}

#[test]
fn a_protocol_of_one_family_is_asked_in_that_family() {
    assert!(Probe::Protocol(Protocol(44)).transport(Family::Ipv4).is_none());
    assert!(Probe::Protocol(Protocol(44)).transport(Family::Ipv6).is_some());
    assert_ne!(Probe::Icmp(None).transport(Family::Ipv4), Probe::Icmp(None).transport(Family::Ipv6));
}
