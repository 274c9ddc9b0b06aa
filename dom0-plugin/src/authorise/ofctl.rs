//! The arguments of `ovs-ofctl`: flows of ours, on a bridge, from standard input.

mod flows;

use drawbridge_wire::call::Function;
use drawbridge_wire::flow;

use super::grammar::{is_interface, is_list};
use super::{Approved, FlowsPlan, Plan, Program, need_input, no_input, refuse_argument};
use crate::Result;

const NAME: &str = "ovs-ofctl";

/// Where flows say which networks of a bridge are guarded; no packet comes there.
pub(crate) const GUARDED_TABLE: u64 = 87;

const VERSIONS: [&str; 6] =
    ["OpenFlow10", "OpenFlow11", "OpenFlow12", "OpenFlow13", "OpenFlow14", "OpenFlow15"];

/// `--version`, or `[-O VERSIONS]` and one of
/// `[--no-stats] [--names|--no-names] dump-flows BRIDGE [FILTER]`, `[--bundle] add-flows BRIDGE -`,
/// `[--bundle] [--strict] del-flows BRIDGE -`.
pub(super) fn authorise(args: &[&str], stdin: Option<Vec<u8>>) -> Result<Plan> {
    if args == ["--version"] {
        no_input(Function::OvsOfctl, stdin.as_deref())?;
        return Ok(Plan::Read(Approved::new(Program::Ofctl, args)));
    }
    let mut at = 0;
    if args.first() == Some(&"-O") {
        let known = args.get(1).is_some_and(|list| is_list(list, VERSIONS.len(), |v| VERSIONS.contains(&v)));
        if !known {
            return Err(refuse_argument(NAME, 1, "expected OpenFlow10 to OpenFlow15"));
        }
        at = 2;
    }
    let options_from = at;
    while args.get(at).is_some_and(|arg| arg.starts_with("--")) {
        at += 1;
    }
    let options = &args[options_from..at];
    let allowed: &[&str] = match args.get(at) {
        Some(&"dump-flows") => &["--no-stats", "--names", "--no-names"],
        Some(&"add-flows") => &["--bundle"],
        Some(&"del-flows") => &["--bundle", "--strict"],
        _ => {
            let problem = "expected --version, or [-O VERSION] and dump-flows, add-flows or del-flows";
            return Err(refuse_argument(NAME, at, problem));
        }
    };
    for (i, option) in options.iter().enumerate() {
        if !allowed.contains(option) || options[..i].contains(option) {
            return Err(refuse_argument(
                NAME,
                options_from + i,
                "not an option of this command, or given twice",
            ));
        }
    }
    // A path, or `unix:…`, `tcp:…`, would be another switch.
    let bridge = match args.get(at + 1) {
        Some(bridge) if is_interface(bridge) => (*bridge).to_owned(),
        _ => return Err(refuse_argument(NAME, at + 1, "expected a bridge's name")),
    };
    let mut run = Approved::new(Program::Ofctl, args);
    if args[at] == "dump-flows" {
        no_input(Function::OvsOfctl, stdin.as_deref())?;
        let filter = match args[at + 2..] {
            [] => flows::dump_filter("")?,
            [filter] => flows::dump_filter(filter)?,
            _ => return Err(refuse_argument(NAME, at + 3, "expected nothing more")),
        };
        run.args.truncate(at + 2);
        run.args.push(filter);
        return Ok(Plan::DumpFlows(FlowsPlan { run, bridge, look: None, forgets: false }));
    }
    if args[at + 2..] != ["-"] {
        return Err(refuse_argument(
            NAME,
            at + 2,
            "expected - : flows come from standard input, never from a file",
        ));
    }
    let input = need_input(stdin)?;
    let deletes = args[at] == "del-flows";
    flows::check(&input, deletes)?;
    let forgets = flows::reaches(&input, deletes, GUARDED_TABLE);
    run.stdin = input;
    let mut look = Approved::new(Program::Ofctl, &args[..options_from]);
    look.args.extend(["dump-flows".to_owned(), bridge.clone(), flows::dump_filter("")?]);
    Ok(Plan::ChangeFlows(FlowsPlan { run, bridge, look: Some(look), forgets }))
}

/// Whether a cookie, under a mask, can only be ours.
fn is_ours(cookie: u64, mask: u64) -> bool {
    mask & flow::COOKIE_MASK == flow::COOKIE_MASK && cookie & flow::COOKIE_MASK == flow::COOKIE
}
