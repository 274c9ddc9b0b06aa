//! The arguments of `ovs-vsctl`: it only reads.

use drawbridge_wire::call::Function;

use super::grammar::{is_interface, is_list};
use super::{Approved, Plan, Program, no_input, refuse_argument};
use crate::Result;

const NAME: &str = "ovs-vsctl";

/// The columns that may be read, by table. Others hold controllers' addresses and keys.
const COLUMNS: [(&str, &[&str]); 3] = [
    ("Bridge", &["_uuid", "name", "ports", "fail_mode", "protocols", "datapath_type", "external_ids"]),
    ("Port", &["_uuid", "name", "interfaces", "tag", "trunks", "external_ids"]),
    (
        "Interface",
        &[
            "_uuid",
            "name",
            "ofport",
            "type",
            "admin_state",
            "link_state",
            "mac_in_use",
            "external_ids",
            "error",
        ],
    ),
];

pub(super) fn authorise(args: &[&str], stdin: Option<&[u8]>) -> Result<Plan> {
    no_input(Function::OvsVsctl, stdin)?;
    match args {
        ["--version" | "list-br"] | ["get", "Open_vSwitch", ".", "ovs_version"] => {}
        ["br-to-parent" | "br-to-vlan" | "list-ports" | "list-ifaces", bridge] => {
            if !is_interface(bridge) {
                return Err(refuse_argument(NAME, 1, "not a bridge's name"));
            }
        }
        ["--format=json", commands @ ..] => snapshot(commands)?,
        _ => {
            let problem = "expected --version, list-br, br-to-parent|br-to-vlan|list-ports|list-ifaces BRIDGE, \
                           get Open_vSwitch . ovs_version, or --format=json and of --columns=LIST list TABLE, list-br, \
                           get Open_vSwitch . ovs_version, with -- between them";
            return Err(refuse_argument(NAME, 0, problem));
        }
    }
    Ok(Plan::Read(Approved::new(Program::Vsctl, args)))
}

/// Reads what [`crate::switch::Switch::parse`] takes, in one transaction.
pub(crate) fn look_at_switch() -> Approved {
    let words = "--format=csv --data=bare list-br -- --columns=name,ports list Bridge \
                 -- --columns=_uuid,name,tag,interfaces list Port -- --columns=_uuid,name,ofport,type,mac_in_use list Interface";
    Approved::new(Program::Vsctl, &words.split_ascii_whitespace().collect::<Vec<_>>())
}

/// Reads in one transaction: what is answered held at one moment.
fn snapshot(commands: &[&str]) -> Result<()> {
    let mut at = 1;
    for command in commands.split(|arg| *arg == "--") {
        match command {
            ["list-br"] | ["get", "Open_vSwitch", ".", "ovs_version"] => {}
            [columns, "list", table] => {
                let Some((_, known)) = COLUMNS.iter().find(|(name, _)| name == table) else {
                    return Err(refuse_argument(NAME, at + 2, "expected Bridge, Port or Interface"));
                };
                let listed = columns.strip_prefix("--columns=");
                if !listed
                    .is_some_and(|listed| is_list(listed, known.len(), |column| known.contains(&column)))
                {
                    let problem = format!("expected --columns= and of {}: {}", table, known.join(","));
                    return Err(refuse_argument(NAME, at, problem));
                }
            }
            _ => {
                let problem =
                    "expected --columns=LIST list TABLE, list-br, or get Open_vSwitch . ovs_version";
                return Err(refuse_argument(NAME, at, problem));
            }
        }
        at += command.len() + 1;
    }
    Ok(())
}
