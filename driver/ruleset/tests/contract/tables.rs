//! The kernel's tables as text: carries out `iptables-restore --noflush` input line by line, refuses what iptables
//! would refuse, and answers as the plugin's `iptables-save` does.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::generate::Random;

#[derive(Clone, Default)]
struct Table {
    chains: BTreeMap<String, Vec<String>>,
}

#[derive(Clone)]
pub(crate) struct Tables {
    tables: BTreeMap<&'static str, Table>,
    bridge_netfilter: bool,
    boundary: bool,
}

const HOOKS: [(&str, &str); 2] = [("raw", "PREROUTING"), ("filter", "FORWARD")];

impl Tables {
    /// A dom0 as shipped: rules of its own, bridged packets kept from iptables.
    pub(crate) fn new() -> Self {
        let with = |hook: &str, rules: &[&str]| Table {
            chains: [(hook.to_owned(), rules.iter().map(|&r| r.to_owned()).collect())].into(),
        };
        let tables = [
            ("raw", with("PREROUTING", &[])),
            (
                "filter",
                with("FORWARD", &["-j RH-Firewall-1-INPUT", "-j REJECT --reject-with icmp-host-prohibited"]),
            ),
        ];
        Self { tables: tables.into(), bridge_netfilter: false, boundary: false }
    }

    /// Carries out an input as a whole or not at all.
    pub(crate) fn restore(&mut self, input: &str) -> Result<(), String> {
        let mut next = self.clone();
        let mut open: Option<&'static str> = None;
        for line in input.lines() {
            if let Some(name) = line.strip_prefix('*') {
                open =
                    Some(HOOKS.iter().find(|(t, _)| *t == name).ok_or_else(|| format!("no table {name}"))?.0);
                continue;
            }
            let table = open.ok_or("a line outside tables")?;
            if line == "COMMIT" {
                open = None;
                next.tables[table].check().map_err(|e| format!("{table}: {e}"))?;
                continue;
            }
            next.tables.entry(table).or_default().line(line).map_err(|e| format!("{line}: {e}"))?;
        }
        if open.is_some() {
            return Err("no COMMIT".to_owned());
        }
        next.bridge_netfilter = true;
        next.boundary = true;
        *self = next;
        Ok(())
    }

    /// As the plugin answers.
    pub(crate) fn save(&self) -> String {
        let mut out = format!(
            "# drawbridge bridge-nf-call={}\n# drawbridge boundary={}\n",
            u8::from(self.bridge_netfilter),
            if self.boundary { "stands" } else { "missing" }
        );
        for (name, hook) in HOOKS {
            let table = &self.tables[name];
            let _ = writeln!(out, "*{name}");
            for chain in table.ours() {
                let _ = writeln!(out, ":{chain} - [0:0]");
            }
            for (position, rule) in (1..).zip(&table.chains[hook]) {
                if rule.contains(" dwb-") {
                    let _ = writeln!(out, "-I {hook} {position} {rule}");
                }
            }
            for chain in table.ours() {
                for rule in &table.chains[chain] {
                    let _ = writeln!(out, "-A {chain} {rule}");
                }
            }
            out.push_str("COMMIT\n");
        }
        out
    }

    /// The chains of `filter`.
    pub(crate) fn filter(&self) -> &BTreeMap<String, Vec<String>> {
        &self.tables["filter"].chains
    }

    /// Another hand is at a chain of ours in `filter`, most often at one that an input is about.
    pub(crate) fn tamper(&mut self, r: &mut Random, input: &str) {
        let table = self.tables.entry("filter").or_default();
        let everywhere = r.percent(20);
        let chosen = |chain: &&String| everywhere || input.contains(&format!(" {chain} "));
        let ours: Vec<String> = table.ours().filter(chosen).cloned().collect();
        let rules: Vec<String> = ours.iter().flat_map(|chain| &table.chains[chain]).cloned().collect();
        if ours.is_empty() || rules.is_empty() {
            return;
        }
        let (name, rule) = (r.pick(&ours), r.pick(&rules));
        let Some(chain) = table.chains.get_mut(&name) else { return };
        match r.below(6) {
            0 => chain.clear(),
            1 => r.shuffle(chain),
            2 | 3 if !chain.is_empty() => drop(chain.remove(r.below(chain.len()))),
            _ => chain.insert(r.below(chain.len() + 1), rule),
        }
    }

    /// Rules of built-in chains that are not jumps of ours.
    pub(crate) fn foreign(&self) -> Vec<&String> {
        let builtin = HOOKS.iter().flat_map(|(table, hook)| &self.tables[table].chains[*hook]);
        builtin.filter(|rule| !rule.contains(" dwb-")).collect()
    }
}

impl Table {
    fn ours(&self) -> impl Iterator<Item = &String> {
        self.chains.keys().filter(|name| name.starts_with("dwb-"))
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(declaration) = line.strip_prefix(':') {
            let name = declaration.strip_suffix(" - [0:0]").ok_or("a strange declaration")?;
            // With --noflush too, declaring a chain that stands empties it.
            self.chains.insert(name.to_owned(), Vec::new());
            return Ok(());
        }
        let mut words = line.splitn(3, ' ');
        let (command, name, rest) =
            (words.next().unwrap_or(""), words.next().ok_or("no chain")?, words.next());
        if command == "-X" {
            let chain = self.chains.remove(name).ok_or("no such chain")?;
            return if chain.is_empty() { Ok(()) } else { Err("the chain is not empty".to_owned()) };
        }
        let chain = self.chains.get_mut(name).ok_or("no such chain")?;
        match (command, rest) {
            ("-F", None) => chain.clear(),
            ("-A", Some(rule)) => chain.push(rule.to_owned()),
            ("-I", Some(rest)) => {
                let (at, rule) = rest.split_once(' ').ok_or("no rule")?;
                let at: usize = at.parse().map_err(|_| "no position")?;
                if !(1..=chain.len() + 1).contains(&at) {
                    return Err("position beyond the end".to_owned());
                }
                chain.insert(at - 1, rule.to_owned());
            }
            ("-D", Some(rest)) => {
                let at = match rest.parse::<usize>() {
                    Ok(at) => at.checked_sub(1).filter(|at| *at < chain.len()),
                    Err(_) => chain.iter().position(|rule| rule == rest),
                };
                chain.remove(at.ok_or("no such rule")?);
            }
            _ => return Err("unknown command".to_owned()),
        }
        Ok(())
    }

    /// What the kernel checks at COMMIT: every chain led to exists.
    fn check(&self) -> Result<(), String> {
        for rule in self.chains.values().flatten() {
            let mut words = rule.split(' ').skip_while(|word| !matches!(*word, "-j" | "-g"));
            if let Some(target) = words.nth(1).filter(|t| t.starts_with("dwb-"))
                && !self.chains.contains_key(target)
            {
                return Err(format!("{rule}: there is no chain {target}"));
            }
        }
        Ok(())
    }
}
