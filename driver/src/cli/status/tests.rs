use api::control::{HostStatus, Quarantine};

use super::*;

fn host(name: &str, status: HostStatus, enforced: Option<u64>) -> HostState {
    HostState {
        uuid: format!("uuid-of-{name}"),
        name: name.to_owned(),
        status,
        backend: Some("iptables".to_owned()),
        enforced_generation: enforced,
        wanted_generation: 42,
        ports: 7,
        quarantined: Vec::new(),
        complaints: Vec::new(),
        last_drift: None,
        last_success: Some("2026-11-21T03:00:00Z".to_owned()),
        last_error: None,
        next_attempt: None,
    }
}

fn store() -> Status {
    Status {
        generation: 42,
        adopted: true,
        projects: 1,
        groups: 2,
        rules: 3,
        sets: 0,
        ports: 14,
        provider_rules: 1,
        guarded_networks: 0,
        trouble: Vec::new(),
    }
}

fn overview(status: Status, hosts: Vec<HostState>, misfits: Vec<Misfit>) -> Overview {
    Overview { verdict: verdict(&status, &hosts, &misfits), status, hosts, misfits }
}

fn now() -> Timestamp {
    "2026-11-21T03:01:30Z".parse().unwrap()
}

#[test]
fn all_is_well() {
    let mut hosts =
        vec![host("xen1", HostStatus::InSync, Some(42)), host("long-name", HostStatus::InSync, Some(42))];
    hosts[1].last_success = None;
    let text = overview(store(), hosts, Vec::new()).to_text(now());
    assert_eq!(
        text,
        "OK: generation 42 is enforced on 2 hosts, 14 ports\n\
         \n\
         store: generation 42, adopted; 1 projects, 2 groups, 3 rules, 0 sets, 14 ports, 1 provider rules, \
         0 guarded networks\n\
         \n\
         HOST       STATUS   BACKEND   GENERATION  PORTS  CLOSED  LAST SUCCESS  LAST DRIFT  NEXT TRY\n\
         xen1       in-sync  iptables  42/42       7      0       90 s ago      -           -\n\
         long-name  in-sync  iptables  42/42       7      0       never         -           -\n"
    );
}

#[test]
fn what_is_the_matter_comes_first() {
    let mut failing = host("xen2", HostStatus::Failing, Some(40));
    failing.last_error = Some("dom0 does not\nanswer".to_owned());
    failing.next_attempt = Some("2026-11-21T03:01:42Z".to_owned());
    failing.last_drift = Some("2026-11-20T03:01:42Z".to_owned());
    failing.quarantined = vec![Quarantine {
        vif: "v1".to_owned(),
        interface: "vif5.0".to_owned(),
        reason: "dom0 refuses its rules".to_owned(),
    }];
    failing.complaints = vec!["FORWARD 3: not put there by Drawbridge".to_owned()];
    let mut unsupported = host("xen3", HostStatus::Unsupported, None);
    (unsupported.backend, unsupported.ports, unsupported.last_success) = (None, 0, None);
    unsupported.last_error = Some("it does not say its network_backend".to_owned());
    let misfit =
        |kind, id: &str, message: &str| Misfit { kind, id: id.to_owned(), message: message.to_owned() };
    let misfits = vec![
        misfit(MisfitKind::Port, "p9", "VM gone device 0: no such VM"),
        misfit(MisfitKind::GuardedNetwork, "tenants", "no such network"),
        misfit(MisfitKind::Host, "xen3", "it does not say its network_backend"),
    ];
    let status = Status { trouble: vec!["XAPI cannot be asked: timed out".to_owned()], ..store() };
    let text = overview(status, vec![failing, unsupported], misfits).to_text(now());
    assert_eq!(
        text,
        "PROBLEM: XAPI cannot be asked: timed out\n\
         also: failing: 1 host (xen2): dom0 does not answer. What stood there stands, and it is tried again by itself\n\
         also: 1 port closed: vif5.0 on xen2: dom0 refuses its rules\n\
         also: not enforced: 1 host (xen3): it does not say its network_backend\n\
         also: 1 port not enforced: p9 (VM gone device 0: no such VM). Correct it (`drawbridge port edit`) or delete it\n\
         also: 1 guarded network not enforced: tenants (no such network). Correct it (`drawbridge network create`) or delete it\n\
         \n\
         store: generation 42, adopted; 1 projects, 2 groups, 3 rules, 0 sets, 14 ports, 1 provider rules, \
         0 guarded networks\n\
         \n\
         HOST  STATUS       BACKEND   GENERATION  PORTS  CLOSED  LAST SUCCESS  LAST DRIFT  NEXT TRY\n\
         xen2  failing      iptables  40/42       7      1       90 s ago      23 h ago    in 12 s\n\
         xen3  unsupported            -/42        0      0       never         -           -\n\
         \x20 xen2: dom0 does not answer\n\
         \x20 xen2: FORWARD 3: not put there by Drawbridge\n\
         \x20 xen3: it does not say its network_backend\n\
         \n\
         IN TROUBLE               HOST  STATUS   WHY\n\
         vif5.0 (VIF v1)          xen2  closed   dom0 refuses its rules\n\
         port p9                        unbound  VM gone device 0: no such VM\n\
         guarded network tenants        unknown  no such network\n"
    );
}

/// A pool that fails as a whole fails in one line.
#[test]
fn the_same_reason_is_said_once() {
    let fails = |name, why: &str| HostState {
        last_error: Some(why.to_owned()),
        ..host(name, HostStatus::Failing, None)
    };
    let hosts = [fails("a", "no plugin"), fails("b", "no answer"), fails("c", "no plugin")];
    let verdict = verdict(&store(), &hosts, &[]);
    assert_eq!(verdict.reasons.len(), 2);
    assert!(verdict.reasons[0].starts_with("failing: 2 hosts (a, c): no plugin. "), "{verdict}");
}

#[test]
fn each_state_has_its_word() {
    let word = |status: Status, hosts: Vec<HostState>| verdict(&status, &hosts, &[]).word;
    for (state, enforced, expected) in [
        (HostStatus::InSync, Some(42), Word::Ok),
        // A plan of an older generation stands; the newer one is being made.
        (HostStatus::InSync, Some(41), Word::Busy),
        (HostStatus::InSync, None, Word::Busy),
        (HostStatus::Pending, Some(42), Word::Busy),
        (HostStatus::Standby, None, Word::Busy),
        (HostStatus::Failing, Some(42), Word::Problem),
        (HostStatus::Quarantined, Some(42), Word::Problem),
        (HostStatus::Unsupported, None, Word::Problem),
    ] {
        let hosts = vec![host("a", HostStatus::InSync, Some(42)), host("b", state, enforced)];
        assert_eq!(word(store(), hosts), expected, "{state:?} {enforced:?}");
    }
    assert_eq!(word(store(), Vec::new()), Word::Busy);
    let new = Status { adopted: false, ..store() };
    assert_eq!(word(new, vec![host("a", HostStatus::InSync, Some(42))]), Word::Problem);
}

#[test]
fn times_are_no_news() {
    let here = overview(store(), vec![host("a", HostStatus::InSync, Some(42))], Vec::new());
    let mut later = here.clone();
    later.hosts[0].last_success = Some("2026-11-21T03:05:00Z".to_owned());
    assert_ne!(here, later);
    assert_eq!(here.without_times(), later.without_times());
}

#[test]
fn lengths_of_time() {
    for (seconds, text) in [(-5, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (200_000, "2 d")] {
        assert_eq!(length(seconds), text);
    }
}
