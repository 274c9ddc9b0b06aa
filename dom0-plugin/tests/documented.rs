//! `docs/plugin.md` names every code, and nothing that is none.

use std::collections::BTreeSet;

use drawbridge_wire::Code;

#[test]
fn every_code_is_in_the_table() {
    let page = include_str!("../../docs/plugin.md");
    let documented: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split('`').next())
        .filter(|word| word.starts_with("DRAWBRIDGE_") || word.starts_with("UNKNOWN_"))
        .collect();
    let codes: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(documented, codes);
}
