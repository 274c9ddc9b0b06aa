//! Arguments: what is approved runs one of four programs on this host, reads no file and writes only what is ours.

use dom0_plugin::authorise::{Approved, Plan, Program, authorise, look_at_rules};
use drawbridge_wire::{Family, Function, flow};

/// What the four programs may be told, besides names of bridges, columns, and a filter.
const OPTIONS: [&str; 15] = [
    "--noflush",
    "--test",
    "-c",
    "-t",
    "--version",
    "-O",
    "--no-stats",
    "--names",
    "--no-names",
    "--bundle",
    "--strict",
    "-",
    "--format=json",
    "--wait=10",
    "--",
];

/// Words that would change something, or leave for another switch.
const NEVER: [&str; 24] = [
    "modprobe",
    "--db",
    "nat",
    "mangle",
    "set",
    "add",
    "remove",
    "clear",
    "create",
    "destroy",
    "add-br",
    "del-br",
    "add-port",
    "del-port",
    "set-controller",
    "set-manager",
    "emer-reset",
    "init",
    "mod-flows",
    "replace-flows",
    "add-group",
    "add-meter",
    "snoop",
    "monitor",
];

/// What a flow may do: none of these leaves the switch, learns, or translates an address.
const ACTIONS: [&str; 17] = [
    "drop",
    "normal",
    "NORMAL",
    "LOCAL",
    "output",
    "set_field",
    "load",
    "strip_vlan",
    "pop_vlan",
    "push_vlan",
    "resubmit",
    "conjunction",
    "ct",
    "commit",
    "table",
    "zone",
    "exec",
];

/// A function's name, its arguments, and (if there is a third line) its input.
pub fn argv(data: &[u8]) -> bool {
    let Some(text) = super::text(data) else { return false };
    let mut parts = text.splitn(3, '\n');
    let (Some(Ok(function)), Some(args)) = (parts.next().map(str::parse::<Function>), parts.next()) else {
        return false;
    };
    let Ok(args) = shell_words::split(args) else { return false };
    let stdin = parts.next().map(|input| input.as_bytes().to_vec());
    let mut taken = false;
    for family in [Family::Ipv4, Family::Ipv6] {
        let Ok(plan) = authorise(function, family, &args, stdin.clone()) else { continue };
        taken = true;
        check(&plan);
        again(function, family, &plan);
    }
    taken
}

fn check(plan: &Plan) {
    match plan {
        Plan::Save(save) => harmless(&save.run),
        Plan::Restore(restore) => {
            for trial in [true, false] {
                for wait in [None, Some(std::time::Duration::from_secs(10))] {
                    let run = restore.run(trial, wait);
                    assert!(run.args().iter().any(|arg| arg == "--noflush"), "flushes: {run:?}");
                    harmless(&run);
                }
            }
            harmless(&look_at_rules(restore.family()));
        }
        Plan::Read(run) => harmless(run),
        Plan::DumpFlows(flows) => {
            harmless(&flows.bridge_exists());
            harmless(flows.run());
        }
        Plan::ChangeFlows(change) => {
            harmless(&change.all());
            if let Ok(look) = change.look() {
                harmless(&look);
            }
            if let Ok(run) = change.against(&super::flows::bridge(), "") {
                harmless(run);
                cookies_are_ours(run.stdin());
            }
        }
    }
}

fn harmless(run: &Approved) {
    let args = run.args();
    for arg in args {
        assert!(!arg.is_empty() && arg.bytes().all(|b| b.is_ascii_graphic()), "{run:?}");
        assert!(!arg.contains(':'), "another switch: {run:?}");
        assert!(!arg.contains('/') || arg.starts_with("cookie="), "a path: {run:?}");
        let known = OPTIONS.contains(&arg.as_str()) || arg.starts_with("--columns=");
        assert!(!arg.starts_with('-') || known, "an unknown option: {run:?}");
    }
    // A bridge may be called anything; what counts is what stands where a command does.
    let command = |word: &&String| !word.starts_with('-') && !word.starts_with("OpenFlow");
    for command in args.split(|arg| arg == "--").filter_map(|words| words.iter().find(command)) {
        assert!(!NEVER.contains(&command.as_str()), "{run:?}");
    }
    let positional = |from: usize| args.iter().skip(from).filter(|arg| !arg.starts_with('-'));
    match run.program() {
        Program::Restore(_) => assert_eq!(positional(0).count(), 0, "a file: {run:?}"),
        Program::Save(_) => assert!(positional(0).all(|arg| arg == "filter" || arg == "raw"), "{run:?}"),
        Program::Ofctl
            if args.iter().find(command).is_some_and(|it| it == "add-flows" || it == "del-flows") =>
        {
            assert_eq!(args.last().map(String::as_str), Some("-"), "flows from a file: {run:?}");
        }
        Program::Ofctl | Program::Vsctl => {}
    }
}

/// Every flow names a cookie of ours, whatever else stands in it.
fn cookies_are_ours(stdin: &[u8]) {
    let Some(text) = super::text(stdin) else { panic!("flows that are no text") };
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let flow = line.rsplit(' ').next().unwrap_or_default();
        let matches = flow.split("actions=").next().unwrap_or_default();
        let cookies: Vec<&str> =
            matches.split(',').filter_map(|field| field.strip_prefix("cookie=0x")).collect();
        let [cookie] = cookies.as_slice() else { panic!("not one cookie: {line}") };
        let value = cookie.split('/').next().unwrap_or_default();
        let ours = u64::from_str_radix(value, 16).is_ok_and(|v| v & flow::COOKIE_MASK == flow::COOKIE);
        assert!(ours, "somebody else's cookie: {line}");
        let actions = flow[matches.len()..].strip_prefix("actions=").unwrap_or_default();
        for action in actions.split([',', '(', ')']).filter(|action| !action.is_empty()) {
            let name = action.split([':', '=']).next().unwrap_or_default();
            let operand = name.bytes().all(|b| b.is_ascii_digit() || b == b'/') || name.starts_with("0x");
            assert!(operand || ACTIONS.contains(&name), "the action {name}: {line}");
        }
    }
}

/// What was approved would be approved again, and be the same.
fn again(function: Function, family: Family, plan: &Plan) {
    let bridge = super::flows::bridge();
    let run = match plan {
        Plan::Save(save) => &save.run,
        Plan::Read(run) => run,
        Plan::DumpFlows(flows) => flows.run(),
        Plan::ChangeFlows(change) => match change.against(&bridge, "") {
            Ok(run) => run,
            Err(_) => return,
        },
        // The plugin adds arguments that a caller may not give.
        Plan::Restore(_) => return,
    };
    let stdin = matches!(plan, Plan::ChangeFlows(_)).then(|| run.stdin().to_vec());
    let args = run.args();
    match authorise(function, family, args, stdin) {
        Ok(Plan::Save(save)) => assert_eq!(save.run.args(), args),
        Ok(Plan::Read(run)) => assert_eq!(run.args(), args),
        Ok(Plan::DumpFlows(flows)) => assert_eq!(flows.run().args(), args),
        Ok(Plan::ChangeFlows(change)) => {
            assert_eq!(change.against(&bridge, "").map(Approved::args), Ok(args));
        }
        other => panic!("approved, then not: {args:?}: {other:?}"),
    }
}
