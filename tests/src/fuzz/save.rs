//! Dumps: what the plugin lets out of one is ours and the driver can read it; what the driver reads, it has understood.

use dom0_plugin::authorise::Table;
use dom0_plugin::filter::cut;
use ruleset::iptables::{self, Boundary, BridgeNetfilter, ConntrackFill, Observed, ObservedRule, parse_save};

const HEADER: &str = "# drawbridge bridge-nf-call=1\n# drawbridge boundary=stands\n";

/// The two jumps, with the chains that they stand in.
const HOOKS: [(&str, &str, &str); 2] = [
    ("filter", "FORWARD", "-m physdev --physdev-is-bridged -j dwb-forward"),
    ("raw", "PREROUTING", "-m addrtype ! --dst-type LOCAL -j dwb-raw"),
];

/// What iptables-save wrote, on its way through the plugin.
pub fn save_filter(data: &[u8]) -> bool {
    let Some(dump) = super::text(data) else { return false };
    let Ok(kept) = cut(dump, &[Table::Filter, Table::Raw]) else { return false };
    let mut readable = HEADER.to_owned();
    let mut table = "";
    for line in kept.lines() {
        let line = without_counters(line);
        readable += line;
        readable.push('\n');
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(jump) = line.strip_prefix("-I ") {
            is_in(dump, table, jump);
        } else {
            let ours = [":dwb-", "-A dwb-"].iter().any(|start| line.starts_with(start));
            assert!(ours || line == "COMMIT", "leaves dom0: {line}");
            let boundary = [":dwb-dom0 ", ":dwb-dom0-", "-A dwb-dom0 ", "-A dwb-dom0-"];
            assert!(!boundary.iter().any(|start| line.starts_with(start)), "the plugin's own: {line}");
        }
    }
    if let Err(e) = parse_save(&readable) {
        panic!("the driver cannot read what the plugin sends: {e}\n{readable}");
    }
    for (table, chain, hook) in HOOKS {
        for at in
            rules(dump, table, chain).iter().enumerate().filter(|(_, rule)| **rule == hook).map(|(at, _)| at)
        {
            assert!(readable.contains(&format!("\n-I {chain} {} {hook}\n", at + 1)), "a jump is lost");
        }
    }
    let alone = |table| cut(dump, &[table]).unwrap_or_default();
    assert_eq!(kept, alone(Table::Filter) + &alone(Table::Raw), "one table alone is cut differently");
    true
}

/// A jump stands in the dump, at the place that is named.
fn is_in(dump: &str, table: &str, jump: &str) {
    let words: Vec<&str> = jump.splitn(3, ' ').collect();
    let [chain, position, rule] = words.as_slice() else { panic!("leaves dom0: -I {jump}") };
    let at: usize = position.parse().unwrap_or_default();
    let found = at.checked_sub(1).and_then(|index| rules(dump, table, chain).get(index).copied());
    assert_eq!(found, Some(*rule), "the place of {jump} is wrong");
    assert!(rule.contains("dwb-"), "leaves dom0: {jump}");
}

/// The rules of a chain, counted by hand.
fn rules<'a>(dump: &'a str, table: &str, chain: &str) -> Vec<&'a str> {
    dump.lines()
        .skip_while(|line| line.strip_prefix('*') != Some(table))
        .take_while(|line| *line != "COMMIT")
        .filter_map(|line| without_counters(line).strip_prefix("-A "))
        .filter_map(|rule| rule.strip_prefix(chain))
        .filter_map(|rule| if rule.is_empty() { Some("") } else { rule.strip_prefix(' ') })
        .collect()
}

fn without_counters(line: &str) -> &str {
    line.strip_prefix('[').and_then(|line| line.split_once("] ")).map_or(line, |(_, rule)| rule)
}

/// What the plugin answers, read by the driver: written again it reads the same, and no word of a rule was passed over.
pub fn save_parser(data: &[u8]) -> bool {
    let Some(text) = super::text(data) else { return false };
    let Ok(observed) = parse_save(text) else { return false };
    let again = parse_save(&render(&observed));
    // The end of a line takes a CR with it.
    assert!(
        text.contains('\r') || again.as_ref() == Ok(&observed),
        "reads differently: {observed:?}\n{again:?}"
    );
    for line in text.lines().filter(|line| line.starts_with("-A ")) {
        understood(line.splitn(3, ' ').nth(2).unwrap_or_default());
    }
    true
}

/// A rule taken for one of ours says what we would say, option by option; only the names of matches may differ, and only
/// of those that look at nothing by themselves (`-m socket` alone, for one, does).
fn understood(spec: &str) {
    let dump = format!("{HEADER}*raw\nCOMMIT\n*filter\n:dwb-a - [0:0]\n-A dwb-a {spec}\nCOMMIT\n");
    let Ok(observed) = parse_save(&dump) else { panic!("not readable alone: {spec}") };
    let Some([ObservedRule::Known(rule)]) = observed.filter.chains.values().next().map(Vec::as_slice) else {
        return;
    };
    assert_eq!(options(spec), options(&rule.to_string()), "taken for {rule}: {spec}");
}

fn options(spec: &str) -> Vec<String> {
    let Ok(words) = shell_words::split(spec) else { panic!("taken for one of ours: {spec}") };
    let mut words = words.iter().map(String::as_str);
    let mut options = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "-m" => {
                let module = words.next().unwrap_or_default();
                assert!(super::restore::MODULES.contains(&module), "-m {module} is passed over: {spec}");
            }
            // multiport's, for one port.
            "--sports" | "--dports" => options.push(word.trim_end_matches('s').to_owned()),
            // Everybody: iptables-save leaves it out.
            "-s" | "-d" if words.clone().next().is_some_and(|net| net.ends_with("/0")) => {}
            word if word == "!" || word.starts_with('-') => options.push(word.to_owned()),
            _ => {}
        }
    }
    options.sort();
    options
}

fn render(observed: &Observed) -> String {
    let mut text = match observed.bridge_netfilter {
        BridgeNetfilter::On => "# drawbridge bridge-nf-call=1\n",
        BridgeNetfilter::Off => "# drawbridge bridge-nf-call=0\n",
        BridgeNetfilter::Absent => "# drawbridge bridge-nf-call=absent\n",
    }
    .to_owned();
    text += match observed.boundary {
        Boundary::Stands => "# drawbridge boundary=stands\n",
        Boundary::Missing => "# drawbridge boundary=missing\n",
        Boundary::Preceded => "# drawbridge boundary=preceded\n",
        Boundary::Altered => "# drawbridge boundary=altered\n",
    };
    for bridge in &observed.routed {
        text += &format!("# drawbridge routes={bridge}\n");
    }
    if let Some(ConntrackFill { tracked, most }) = observed.conntrack {
        text += &format!("# drawbridge conntrack={tracked}/{most}\n");
    }
    for table in iptables::Table::ALL {
        let content = observed.table(table);
        text += &format!("*{}\n", table.name());
        for chain in content.chains.keys() {
            text += &format!(":{} - [0:0]\n", chain.as_str());
        }
        for hook in &content.hooks {
            text += &format!("-I {} {} {}\n", hook.chain, hook.position, hook.rule.text());
        }
        for (chain, rules) in &content.chains {
            for rule in rules {
                text += &format!("-A {} {}\n", chain.as_str(), rule.text());
            }
        }
        text += "COMMIT\n";
    }
    text
}
