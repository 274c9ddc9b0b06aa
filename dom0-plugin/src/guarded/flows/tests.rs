use super::*;

const PREFIX: &str = " cookie=0x4457427200000001, duration=1.2s, ";

#[test]
fn what_guards() {
    let dump = format!(
        "OFPST_FLOW reply (OF1.4) (xid=0x6):\n\
         {PREFIX}table=0, n_packets=0, n_bytes=0, priority=45800,in_port=5 actions=drop\n\
         {PREFIX}table=87, n_packets=0, n_bytes=0, priority=1,dl_vlan=100 actions=drop\n\
         {PREFIX}table=87, n_packets=0, n_bytes=0, idle_age=3, priority=1,vlan_tci=0x0000/0x1fff actions=drop\n"
    );
    assert_eq!(standing(&dump), Ok(BTreeSet::from([None, Some(100)])));
    assert_eq!(standing("NXST_FLOW reply (xid=0x4):\n"), Ok(BTreeSet::new()));
    for other in [
        "priority=1 actions=drop",
        "priority=1,dl_vlan=4096 actions=drop",
        "priority=1,dl_vlan=7 actions=NORMAL",
    ] {
        let line = format!("{PREFIX}table=87, n_packets=0, n_bytes=0, {other}\n");
        assert!(standing(&line).is_err(), "{other}");
    }
}

#[test]
fn lines_are_read_as_they_were_written() {
    let lines = "xenbr0 - xenbr0\nxenbr0 100 xapi1\nxenbr1 7 -\n";
    let read: BTreeSet<Network> = lines.lines().map(|line| network(line).unwrap()).collect();
    assert_eq!(text(read.clone()), lines);
    assert_eq!(names(&read), Bridges::from(["xapi1".to_owned(), "xenbr0".to_owned()]));
    for bad in ["", "xenbr0", "xenbr0 -", "xenbr0 4096 x", "xenbr0 07 x", "../x - x", "x - a/b", "x - y z"] {
        assert_eq!(network(bad), None, "{bad}");
    }
}
