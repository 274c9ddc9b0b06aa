//! What the rules that stand may cost: no packet walks without bound, and what stands can always be read back.
//!
//! A caller with a key decides about guests' packets; it must not be able to stop dom0. Eighty rules that jump twice each
//! make a packet walk for seconds. So before a write the longest walk is worked out over what will stand, and refused if it
//! is too long. What stands is remembered in short (`load-ipv4`, `load-ipv6` in the state directory) from the dump that
//! follows each write, so that nothing has to be read before the next.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use drawbridge_wire::limits::{DUMPED_RULE_BYTES, RULES, WALK_CHAINS, WALK_RULES, ZONE_RULES};

/// Where packets come into our chains.
const ENTRY: &str = "dwb-forward";

/// The callers' chain in `raw`.
const ZONES_CHAIN: &str = "dwb-raw";

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

/// Our chains of one family, in short. Never less than what stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    chains: BTreeMap<String, Chain>,
}

impl Load {
    /// Of a dump that was cut to what is ours.
    #[must_use]
    pub fn of(cut: &str) -> Self {
        let mut load = Self::default();
        // A chain's rules follow each other.
        let mut current = ("", Chain::default());
        for line in cut.lines() {
            let line = line.strip_prefix('[').and_then(|l| l.split_once("] ")).map_or(line, |(_, rule)| rule);
            if let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) {
                if chain != current.0 {
                    let (name, done) = std::mem::replace(&mut current, (chain, Chain::default()));
                    load.chains.insert(name.to_owned(), done);
                    current.1 = load.chains.remove(chain).unwrap_or_default();
                }
                current.1.add(rule);
            }
        }
        load.chains.insert(current.0.to_owned(), current.1);
        load.chains.remove("");
        load
    }

    /// After input that the guard has let through. What is taken out by number or text is not looked up: where it led to
    /// stays counted until the next dump.
    #[must_use]
    pub fn after(mut self, input: &str) -> Self {
        for line in input.lines() {
            if let Some(declared) = line.strip_prefix(':') {
                // A declaration empties a chain that is there.
                *self.chain(declared.split(' ').next().unwrap_or_default()) = Chain::default();
                continue;
            }
            let mut words = line.splitn(3, ' ');
            let (Some(command), Some(chain)) = (words.next(), words.next()) else { continue };
            let rule = words.next().unwrap_or_default();
            match command {
                "-A" | "-I" if chain.starts_with("dwb-") => self.chain(chain).add(rule),
                "-D" if chain.starts_with("dwb-") => {
                    let chain = self.chain(chain);
                    chain.rules = chain.rules.saturating_sub(1);
                }
                "-F" => *self.chain(chain) = Chain::default(),
                "-X" => drop(self.chains.remove(chain)),
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
        Walker { load: self, known: HashMap::new() }.from(ENTRY, WALK_CHAINS)
    }

    fn chain(&mut self, name: &str) -> &mut Chain {
        self.chains.entry(name.to_owned()).or_default()
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
            let name = words.next()?;
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
            load.chains.insert(name.to_owned(), chain);
        }
        Some(load)
    }
}

impl Chain {
    fn add(&mut self, rule: &str) {
        self.rules += 1;
        // The chain's name and `-A`, roughly.
        self.bytes += rule.len() as u64 + 32;
        let Some((goto, target)) = target(rule).filter(|(_, target)| target.starts_with("dwb-")) else {
            return;
        };
        let targets = if goto { &mut self.gotos } else { &mut self.jumps };
        match targets.get_mut(target) {
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

/// Works out walks, each chain's once.
struct Walker<'a> {
    load: &'a Load,
    /// `None`: under way.
    known: HashMap<&'a str, Option<u64>>,
}

impl<'a> Walker<'a> {
    fn from(&mut self, name: &str, depth: usize) -> Result<u64, Excess> {
        let Some((name, chain)) = self.load.chains.get_key_value(name) else { return Ok(0) };
        match self.known.get(name.as_str()) {
            Some(Some(walk)) => return Ok(*walk),
            Some(None) => return Err(format!("chain {name} leads to itself")),
            None => {}
        }
        let deeper = depth
            .checked_sub(1)
            .ok_or_else(|| format!("more than {WALK_CHAINS} chains lead on to each other"))?;
        self.known.insert(name, None);
        let mut walk = chain.rules;
        for (target, times) in &chain.jumps {
            walk = walk.saturating_add(self.from(target, deeper)?.saturating_mul(*times));
        }
        let mut furthest = 0;
        for target in chain.gotos.keys() {
            furthest = furthest.max(self.from(target, deeper)?);
        }
        let walk = walk.saturating_add(furthest);
        self.known.insert(name, Some(walk));
        Ok(walk)
    }
}

#[cfg(test)]
mod tests;
