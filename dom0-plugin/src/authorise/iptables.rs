//! The arguments of `iptables-save` and `iptables-restore`.

use drawbridge_wire::Family;
use drawbridge_wire::call::Function;

use super::{
    Approved, Plan, Program, RestorePlan, SavePlan, Table, need_input, no_input, refuse_argument, restore,
};
use crate::Result;

/// `[-c] [-t filter|raw]`
pub(super) fn save(family: Family, args: &[&str], stdin: Option<&[u8]>) -> Result<Plan> {
    let program = Program::Save(family);
    let mut counters = false;
    let mut table = None;
    let mut rest = args.iter().copied().enumerate();
    while let Some((at, arg)) = rest.next() {
        match arg {
            "-c" if !counters => counters = true,
            "-t" if table.is_none() => {
                table = match rest.next() {
                    Some((_, "filter")) => Some(Table::Filter),
                    Some((_, "raw")) => Some(Table::Raw),
                    _ => return Err(refuse_argument(program.name(), at + 1, "expected filter or raw")),
                };
            }
            _ => return Err(refuse_argument(program.name(), at, "expected [-c] [-t filter|raw]")),
        }
    }
    no_input(Function::IptablesSave, stdin)?;
    let mut run = Approved::new(program, if counters { &["-c"] } else { &[] });
    if let Some(table) = table {
        run.args.extend(["-t".to_owned(), table.as_str().to_owned()]);
    }
    let tables = table.map_or_else(|| vec![Table::Filter, Table::Raw], |table| vec![table]);
    Ok(Plan::Save(SavePlan { run, tables, counters, family }))
}

/// `[--test]`, and input that touches nothing but our chains.
pub(super) fn restore(family: Family, args: &[&str], stdin: Option<Vec<u8>>) -> Result<Plan> {
    let program = Program::Restore(family);
    let trial_only = match args {
        [] => false,
        ["--test"] => true,
        ["--test", ..] => return Err(refuse_argument(program.name(), 1, "expected nothing after --test")),
        _ => return Err(refuse_argument(program.name(), 0, "expected nothing, or --test")),
    };
    let input = need_input(stdin)?;
    restore::check(&input, family)?;
    Ok(Plan::Restore(RestorePlan { family, input, trial_only }))
}
