use super::*;

const JUMP: &str = "-I FORWARD 1 -m physdev --physdev-is-bridged -j dwb-forward\n";

/// What stands, our jump in FORWARD with it.
fn load(rules: &str) -> Load {
    Load::of(&format!("*filter\n{JUMP}{rules}COMMIT\n"))
}

fn chains(number: usize, rule: impl Fn(usize) -> String) -> String {
    (0..number).map(|n| rule(n) + "\n").collect()
}

#[test]
fn jumps_add_and_gotos_end() {
    // Without the jump itself.
    let walk = |rules: &str| load(rules).longest_walk().map(|walk| walk - 1);
    assert_eq!(
        Load::of("*filter\n-A dwb-forward -j DROP\nCOMMIT\n").longest_walk(),
        Ok(0),
        "nothing leads there"
    );
    assert_eq!(walk(""), Ok(0));
    assert_eq!(walk("-A dwb-other -j ACCEPT\n"), Ok(0), "nothing leads there");
    assert_eq!(walk("-A dwb-forward -j ACCEPT\n-A dwb-forward -j DROP\n"), Ok(2));
    let leaves = "-A dwb-a -j DROP\n-A dwb-b -s 10.0.0.1/32 -j DROP\n-A dwb-b -j RETURN\n";
    assert_eq!(walk(&format!("-A dwb-forward -j dwb-a\n-A dwb-forward -j dwb-b\n{leaves}")), Ok(5));
    assert_eq!(walk(&format!("-A dwb-forward -g dwb-a\n-A dwb-forward -g dwb-b\n{leaves}")), Ok(4));
    assert_eq!(
        walk(&format!("-A dwb-forward -p tcp -j dwb-b\n[7:9] -A dwb-forward -j dwb-b\n{leaves}")),
        Ok(6)
    );
    // A text is not a target.
    let text = r#"-A dwb-forward -m comment --comment "x -j dwb-b" -j DROP"#;
    assert_eq!(walk(&format!("{text}\n{leaves}")), Ok(1));
}

/// Each of eighty rules doubles the walk: seconds a packet.
#[test]
fn what_doubles_again_and_again_is_refused() {
    let twice = |n: usize| format!("-A dwb-{n} -j dwb-{0}\n-A dwb-{n} -j dwb-{0}", n + 1);
    let rules = format!("-A dwb-forward -j dwb-0\n{}", chains(40, twice));
    let excess = load(&rules).check().unwrap_err();
    assert!(excess.starts_with("rules that one packet meets: "), "{excess}");
}

#[test]
fn circles_and_endless_depths_are_refused() {
    let circle = "-A dwb-forward -j dwb-a\n-A dwb-a -g dwb-b\n-A dwb-b -j dwb-a\n";
    assert_eq!(load(circle).check().unwrap_err(), "chain filter dwb-a leads to itself");
    let deep =
        format!("-A dwb-forward -g dwb-0\n{}", chains(100_000, |n| format!("-A dwb-{n} -g dwb-{}", n + 1)));
    assert_eq!(load(&deep).check().unwrap_err(), "more than 64 chains lead on to each other");
}

#[test]
fn too_many_zones_rules_or_bytes_are_refused() {
    let zones = |most: u64| {
        let rules =
            chains(usize::try_from(most).unwrap(), |n| format!("-A dwb-raw -i xapi{n} -j CT --zone 7"));
        Load::of(&format!("*raw\n{rules}COMMIT\n")).check()
    };
    assert_eq!(zones(ZONE_RULES), Ok(()));
    assert!(zones(ZONE_RULES + 1).unwrap_err().starts_with("rules in dwb-raw: "));
    let many =
        |most: usize, rule: &str| load(&chains(most, |n| format!("-A dwb-{} {rule}", n % 1000))).check();
    assert!(many(500_001, "-j DROP").unwrap_err().starts_with("rules that stand: "));
    let long = format!("-m comment --comment {} -j DROP", "x".repeat(250));
    assert!(many(60_000, &long).unwrap_err().starts_with("bytes of rules that stand: "));
}

/// What input does to what stands: never less than what a dump says then.
#[test]
fn input_is_worked_in() {
    let before = load("-A dwb-forward -j dwb-a\n-A dwb-a -j dwb-b\n-A dwb-b -j DROP\n-A dwb-b -j DROP\n");
    let walk =
        |input: &str| before.clone().after(&format!("*filter\n{input}COMMIT\n")).longest_walk().unwrap();
    assert_eq!(walk(""), 5);
    assert_eq!(walk("-A dwb-b -j DROP\n-I dwb-b 1 -j DROP\n"), 7);
    assert_eq!(walk("-D dwb-b 1\n"), 4);
    assert_eq!(walk("-D dwb-a -j dwb-b\n"), 4, "where it led to is not known to be gone");
    assert_eq!(walk("-F dwb-a\n"), 2);
    assert_eq!(walk(":dwb-a - [0:0]\n"), 2);
    assert_eq!(walk("-F dwb-a\n-X dwb-a\n"), 2);
    assert_eq!(walk(JUMP), 10, "a second jump leads through all of it once more");
    // What is done to a chain of the same name in the other table means nothing.
    for other in [":dwb-b - [0:0]\n", "-F dwb-b\n", "-X dwb-b\n", "-D dwb-b 1\n"] {
        let after = before.clone().after(&format!("*raw\n{other}COMMIT\n"));
        assert_eq!(after.longest_walk(), Ok(5), "{other}");
    }
}

/// Our jump in FORWARD, again and again, each time through everything.
#[test]
fn jumps_in_forward_count() {
    let once =
        load(&chains(12_000, |n| format!("-A dwb-forward -s 10.0.{}.{}/32 -j RETURN", n / 250, n % 250)));
    assert_eq!(once.check(), Ok(()));
    let thrice = once.after(&format!("*filter\n{}COMMIT\n", JUMP.repeat(2)));
    assert!(
        thrice.check().unwrap_err().starts_with("rules that one packet meets: 36003"),
        "{:?}",
        thrice.check()
    );
}

/// Chains whose names sort so that the end of the way is looked at first.
#[test]
fn a_way_is_as_deep_as_it_is_from_the_start() {
    let deep = |most: usize| {
        let links = chains(most, |n| format!("-A dwb-{n:03} -g dwb-{:03}", n + 1));
        let shortcuts = chains(most, |n| format!("-A dwb-forward -g dwb-{:03}", most - n - 1));
        load(&format!("{shortcuts}{links}-A dwb-{most:03} -j DROP\n")).check()
    };
    assert_eq!(deep(60), Ok(()));
    assert_eq!(deep(80).unwrap_err(), "more than 64 chains lead on to each other");
}

#[test]
fn it_is_remembered_as_it_is() {
    let standing = load("-A dwb-forward -j dwb-a\n-A dwb-a -g dwb-b\n-A dwb-a -g dwb-b\n-A dwb-b -j DROP\n");
    assert_eq!(Load::from_text(&standing.to_text()), Some(standing));
    for wrong in
        ["dwb-a\n", "raw a\n", "raw a 1\n", "raw a 1 x\n", "raw a 1 1 j\n", "raw a 1 1 k dwb-b 1\n", "\n"]
    {
        assert_eq!(Load::from_text(wrong), None, "{wrong:?}");
    }
}
