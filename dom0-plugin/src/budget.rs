//! What the rules that stand may cost: no packet walks without bound, and what stands can always be read back.
//!
//! A caller with a key decides about guests' packets; it must not be able to stop dom0. Eighty rules that jump twice each
//! make a packet walk for seconds. So before a write the longest walk is worked out over what will stand, and refused if it
//! is too long. What stands is remembered in short (`load-ipv4`, `load-ipv6` in the state directory) from the dump that
//! follows each write, so that nothing has to be read before the next.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use drawbridge_wire::limits::{DUMPED_RULE_BYTES, RULES, WALK_CHAINS, WALK_RULES, ZONE_RULES};

/// Where packets come into our chains: our jumps there count, and each leads to all of it.
const ENTRY: &str = "filter FORWARD";

/// The callers' chain in `raw`.
const ZONES_CHAIN: &str = "raw dwb-raw";

/// Why a write would cost too much.
pub type Excess = String;

/// A chain, in short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Chain {
    rules: u64,
    bytes: u64,
    /// Chains that a packet comes back from, and how often each is named.
    jumps: BTreeMap<String, u64>,
    /// Chains that it does not come back from, likewise.
    gotos: BTreeMap<String, u64>,
}

/// Our chains of one family, in short, each under its table and name. Never less than what stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    chains: BTreeMap<String, Chain>,
}

/// A chain's key: two tables may have chains of one name.
fn key(table: &str, chain: &str) -> String {
    format!("{table} {chain}")
}

impl Load {
    /// Of a dump that was cut to what is ours.
    #[must_use]
    pub fn of(cut: &str) -> Self {
        let mut load = Self::default();
        let mut table = "";
        // A chain's rules follow each other.
        let mut current = (String::new(), Chain::default());
        let mut name = "";
        for line in cut.lines() {
            let line = line.strip_prefix('[').and_then(|l| l.split_once("] ")).map_or(line, |(_, rule)| rule);
            if let Some(opened) = line.strip_prefix('*') {
                (table, name) = (opened, "");
                continue;
            }
            let (chain, rule) = match line.split_at_checked(3) {
                Some(("-A ", rest)) => rest.split_once(' ').unwrap_or((rest, "")),
                // A jump from a built-in chain, with its place there.
                Some(("-I ", rest)) => {
                    let (chain, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                    (chain, rest.split_once(' ').map_or("", |(_, rule)| rule))
                }
                _ => continue,
            };
            if chain != name {
                let key = key(table, chain);
                let next = load.chains.remove(&key).unwrap_or_default();
                let (before, done) = std::mem::replace(&mut current, (key, next));
                load.chains.insert(before, done);
                name = chain;
            }
            current.1.add(table, rule);
        }
        load.chains.insert(current.0, current.1);
        load.chains.remove("");
        load
    }

    /// After input that the guard has let through. What is taken out by number or text is not looked up: where it led to
    /// stays counted until the next dump.
    #[must_use]
    pub fn after(mut self, input: &str) -> Self {
        let mut table = "";
        for line in input.lines() {
            if let Some(opened) = line.strip_prefix('*') {
                table = opened;
                continue;
            }
            if let Some(declared) = line.strip_prefix(':') {
                // A declaration empties a chain that is there.
                let chain = key(table, declared.split(' ').next().unwrap_or_default());
                self.chains.insert(chain, Chain::default());
                continue;
            }
            let mut words = line.splitn(3, ' ');
            let (Some(command), Some(chain)) = (words.next(), words.next()) else { continue };
            let (key, rule) = (key(table, chain), words.next().unwrap_or_default());
            match command {
                "-A" | "-I" => self.chains.entry(key).or_default().add(table, rule),
                "-D" => {
                    let chain = self.chains.entry(key).or_default();
                    chain.rules = chain.rules.saturating_sub(1);
                }
                "-F" => drop(self.chains.insert(key, Chain::default())),
                "-X" => drop(self.chains.remove(&key)),
                _ => {}
            }
        }
        self
    }

    /// Checks all of it against the budget.
    ///
    /// # Errors
    /// What is too much, and the bound.
    pub fn check(&self) -> Result<(), Excess> {
        let over = |what: &str, found: u64, most: u64| match found > most {
            true => Err(format!("{what}: {found}, and at most {most} may be")),
            false => Ok(()),
        };
        over("rules that stand", self.chains.values().map(|chain| chain.rules).sum(), RULES)?;
        over(
            "bytes of rules that stand",
            self.chains.values().map(|chain| chain.bytes).sum(),
            DUMPED_RULE_BYTES,
        )?;
        over("rules in dwb-raw", self.chains.get(ZONES_CHAIN).map_or(0, |chain| chain.rules), ZONE_RULES)?;
        over("rules that one packet meets", self.longest_walk()?, WALK_RULES)
    }

    /// Rules that a packet meets by the longest way; a bound from above, for a rule that ends the walk may stand anywhere.
    ///
    /// # Errors
    /// The chains lead in a circle.
    pub fn longest_walk(&self) -> Result<u64, Excess> {
        Ok(Walker { load: self, known: HashMap::new() }.from(ENTRY, WALK_CHAINS)?.rules)
    }

    /// As it is remembered: a line a chain.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (name, chain) in &self.chains {
            // Writing to a String cannot fail.
            let _ = write!(text, "{name} {} {}", chain.rules, chain.bytes);
            for (sign, targets) in [('j', &chain.jumps), ('g', &chain.gotos)] {
                for (target, times) in targets {
                    let _ = write!(text, " {sign} {target} {times}");
                }
            }
            text.push('\n');
        }
        text
    }

    /// What was remembered; `None` if it is not of this form.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut load = Self::default();
        for line in text.lines() {
            let mut words = line.split(' ');
            let name = key(words.next()?, words.next()?);
            let mut chain = Chain {
                rules: words.next()?.parse().ok()?,
                bytes: words.next()?.parse().ok()?,
                ..Chain::default()
            };
            while let Some(sign) = words.next() {
                let targets = match sign {
                    "j" => &mut chain.jumps,
                    "g" => &mut chain.gotos,
                    _ => return None,
                };
                targets.insert(words.next()?.to_owned(), words.next()?.parse().ok()?);
            }
            load.chains.insert(name, chain);
        }
        Some(load)
    }
}

impl Chain {
    fn add(&mut self, table: &str, rule: &str) {
        self.rules += 1;
        // The chain's name and `-A`, roughly.
        self.bytes += rule.len() as u64 + 32;
        let Some((goto, target)) = target(rule).filter(|(_, target)| target.starts_with("dwb-")) else {
            return;
        };
        let targets = if goto { &mut self.gotos } else { &mut self.jumps };
        // Chains of raw do not lead to each other.
        match targets.get_mut(target).filter(|_| table == "filter") {
            Some(times) => *times += 1,
            None => drop(targets.insert(target.to_owned(), 1)),
        }
    }
}

/// Where a rule leads, and whether a packet does not come back from there. Texts that a rule carries stand before that.
fn target(rule: &str) -> Option<(bool, &str)> {
    let is_sign = |w: &[u8]| matches!(w, [b' ', b'-', b'j' | b'g', b' ']);
    let at = match rule.as_bytes().windows(4).rposition(is_sign) {
        Some(at) => at + 1,
        None if rule.starts_with("-j ") || rule.starts_with("-g ") => 0,
        None => return None,
    };
    let goto = rule.as_bytes().get(at + 1) == Some(&b'g');
    Some((goto, rule.get(at + 3..)?.split(' ').next()?))
}

/// The longest way from a chain on.
#[derive(Clone, Copy, Default)]
struct Way {
    rules: u64,
    chains: usize,
}

/// Works out ways, each chain's once.
struct Walker<'a> {
    load: &'a Load,
    /// `None`: under way.
    known: HashMap<&'a str, Option<Way>>,
}

impl<'a> Walker<'a> {
    /// `depth`: how many chains may come yet.
    fn from(&mut self, name: &str, depth: usize) -> Result<Way, Excess> {
        let too_deep = || format!("more than {WALK_CHAINS} chains lead on to each other");
        let Some((name, chain)) = self.load.chains.get_key_value(name) else { return Ok(Way::default()) };
        match self.known.get(name.as_str()) {
            Some(Some(way)) if way.chains <= depth => return Ok(*way),
            Some(Some(_)) => return Err(too_deep()),
            Some(None) => return Err(format!("chain {name} leads to itself")),
            None => {}
        }
        let deeper = depth.checked_sub(1).ok_or_else(too_deep)?;
        self.known.insert(name, None);
        let mut way = Way { rules: chain.rules, chains: 0 };
        for (target, times) in &chain.jumps {
            let on = self.from(&key("filter", target), deeper)?;
            way.rules = way.rules.saturating_add(on.rules.saturating_mul(*times));
            way.chains = way.chains.max(on.chains);
        }
        let mut furthest = 0;
        for target in chain.gotos.keys() {
            let on = self.from(&key("filter", target), deeper)?;
            furthest = furthest.max(on.rules);
            way.chains = way.chains.max(on.chains);
        }
        way.rules = way.rules.saturating_add(furthest);
        way.chains += 1;
        self.known.insert(name, Some(way));
        Ok(way)
    }
}

#[cfg(test)]
mod tests;
