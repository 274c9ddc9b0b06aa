//! `drawbridge boot`: started by systemd at dom0's boot, before XAPI starts any guest; and `drawbridge boot flows`, when an
//! Open vSwitch starts, which has no flows then.
//!
//! It closes the bridges that were guarded before the boot: no guest on them sends or gets a packet until the driver has
//! written, which replaces these rules at once. Everybody else's packets are let through, since dom0's own FORWARD
//! would reject them once bridged packets meet it.

mod flows;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use drawbridge_wire::{Family, Function};

use crate::authorise::{Plan, authorise, boundary, is_our_chain};
use crate::config::Config;
use crate::guarded::{Bridges, FAMILIES, lifelines};
use crate::paths::Paths;
use crate::perform::Performer;
use crate::{
    Code, Refusal, Result, audit, bridge_nf, bridges, filter, generation, guarded, lock, sanitise, state,
};
use flows::{Closed, Guarded, Patience};

/// How a guest's interfaces in dom0 are called (xenopsd).
const GUEST_INTERFACES: [&str; 2] = ["vif+", "tap+"];

/// The program's run at boot. Its exit code and messages are for systemd and people.
pub(crate) fn run(paths: &Paths, boot: fn(&Paths) -> Result<Bridges>) -> ExitCode {
    let done = sanitise::process().and_then(|()| boot(paths));
    let said = match &done {
        Ok(bridges) if bridges.is_empty() => "boot: nothing to close".to_owned(),
        Ok(bridges) => {
            let names: Vec<_> = bridges.iter().map(String::as_str).collect();
            format!("boot: closed until the driver has written: {}", names.join(" "))
        }
        Err(refusal) => format!("boot: result={} detail={:?}", refusal.code, refusal.details.join(": ")),
    };
    audit::say(&paths.syslog, done.is_ok(), &said);
    if done.is_ok() {
        return ExitCode::SUCCESS;
    }
    let _ = writeln!(std::io::stderr(), "drawbridge {said}");
    ExitCode::FAILURE
}

/// Closes the networks that were guarded when rules were last written, with chains and, where an Open vSwitch answers,
/// with flows: a host may have changed from one to the other. Answers which. Where the driver has written since the
/// boot, its rules stay.
///
/// # Errors
/// The first failure. The rest is attempted whatever becomes of one.
pub fn boot(paths: &Paths) -> Result<Bridges> {
    let Some((mut guarded, believed)) = remembered(paths)? else { return Ok(Bridges::new()) };
    let all = if are_all(&guarded.bridges) { std::mem::take(&mut guarded.bridges) } else { Bridges::new() };
    // A mistake in the settings must not leave guests unguarded; the next call will name it.
    let config = Config::load(&paths.config).unwrap_or_default();
    let run = Performer { config: &config, paths, lock: None };
    state::secure_dir(&paths.state)?;
    let flows = flows::close(&guarded, Patience::None, &run);
    let (mut closed, present) = match &flows {
        Ok(Closed { closed, present }) => (closed.clone(), present.clone()),
        Err(_) => Default::default(),
    };
    let mut bridges: Bridges = guarded.names().difference(&present).cloned().collect();
    // "All" is about Linux bridges: with flows nobody would reach XAPI from there.
    if present.is_empty() {
        bridges.extend(all);
    }
    let chains = close_chains(&bridges, &run);
    closed.extend(bridges);
    flows.and(chains).and(believed).map(|()| closed)
}

/// Closes them with flows only. Waits for a switch that does not answer: something of it has just changed.
///
/// # Errors
/// As [`boot()`].
pub fn boot_flows(paths: &Paths) -> Result<Bridges> {
    let Some((mut guarded, believed)) = remembered(paths)? else { return Ok(Bridges::new()) };
    if are_all(&guarded.bridges) {
        guarded.bridges.clear();
    }
    if guarded.networks.is_empty() && guarded.bridges.is_empty() {
        return believed.map(|()| Bridges::new());
    }
    let config = Config::load(&paths.config).unwrap_or_default();
    state::secure_dir(&paths.state)?;
    let done = flows::close(&guarded, Patience::Some, &Performer { config: &config, paths, lock: None })?;
    believed.map(|()| done.closed)
}

/// What was guarded, `None` if nothing was; and whether all records can be believed. Where that of the bridges cannot, all
/// of them were; where that of what passes there cannot, nothing does.
fn remembered(paths: &Paths) -> Result<Option<(Guarded, Result<()>)>> {
    let mut believed = Ok(());
    let mut or = |refusal: Refusal| believed = std::mem::replace(&mut believed, Ok(())).and(Err(refusal));
    let mut unknown = false;
    let networks = guarded::flows::networks(paths).unwrap_or_else(|refusal| {
        or(refusal);
        unknown = true;
        BTreeSet::new()
    });
    let mut bridges = guarded::remembered(paths).unwrap_or_else(|refusal| {
        or(refusal);
        unknown = true;
        Bridges::new()
    });
    if unknown {
        bridges.extend(bridges::all(paths));
    }
    let lifelines = guarded::flows::lifelines::remembered(paths).unwrap_or_else(|refusal| {
        or(refusal);
        BTreeSet::new()
    });
    match (networks.is_empty() && bridges.is_empty(), believed) {
        (true, believed) => believed.map(|()| None),
        (false, believed) => Ok(Some((Guarded { lifelines, networks, bridges }, believed))),
    }
}

/// Whether these are all of XAPI's bridges: a record could not be believed, at this boot or one before.
fn are_all(bridges: &Bridges) -> bool {
    boundary::NAMES.iter().all(|name| bridges.contains(*name))
}

/// What passes where every bridge is closed, so that the driver can mend it: it may be a guest of this host. iptables does not see ARP.
fn essentials(family: Family) -> Vec<String> {
    let xapi = [
        "-A dwb-unknown-from -p tcp -m addrtype --dst-type LOCAL -m tcp --dport 443 -j RETURN",
        "-A dwb-unknown-to -p tcp -m addrtype --src-type LOCAL -m tcp --sport 443 -j RETURN",
    ];
    let addresses: &[&str] = match family {
        Family::Ipv4 => &[
            "-A dwb-unknown-from -p udp -m udp --sport 68 --dport 67 -j RETURN",
            "-A dwb-unknown-to -p udp -m udp --sport 67 --dport 68 -j RETURN",
        ],
        Family::Ipv6 => &[
            "-A dwb-unknown-from -p udp -m udp --sport 546 --dport 547 -j RETURN",
            "-A dwb-unknown-to -p udp -m udp --sport 547 --dport 546 -j RETURN",
            "-A dwb-unknown-from -p ipv6-icmp -m icmp6 --icmpv6-type 133 -j RETURN",
            "-A dwb-unknown-from -p ipv6-icmp -m icmp6 --icmpv6-type 135 -j RETURN",
            "-A dwb-unknown-from -p ipv6-icmp -m icmp6 --icmpv6-type 136 -j RETURN",
            "-A dwb-unknown-to -p ipv6-icmp -m icmp6 --icmpv6-type 134 -j RETURN",
            "-A dwb-unknown-to -p ipv6-icmp -m icmp6 --icmpv6-type 135 -j RETURN",
            "-A dwb-unknown-to -p ipv6-icmp -m icmp6 --icmpv6-type 136 -j RETURN",
        ],
    };
    xapi.iter().chain(addresses).map(|&rule| rule.to_owned()).collect()
}

/// Closes bridges for both families.
fn close_chains(bridges: &Bridges, run: &Performer<'_>) -> Result<()> {
    if bridges.is_empty() {
        return Ok(());
    }
    let mut closed = Vec::new();
    let mut failure = Ok(());
    {
        let lock = lock::acquire(&run.paths.in_state("lock"), run.config.lock)?;
        let run = &Performer { lock: Some(&lock), ..*run };
        // Nobody has: chains of ours that stand all the same came with dom0's saved rules, and speak of interfaces as
        // they were before the boot.
        let leftovers = generation::seen(run.paths)?.is_none();
        for family in FAMILIES {
            let exceptions = lifelines::remembered(run.paths, family, bridges);
            let mut some = exceptions.clone().unwrap_or_default();
            if are_all(bridges) {
                some.extend(essentials(family));
            }
            let attempt =
                |exceptions: &[String]| close(family, bridges, &rules(bridges, exceptions), leftovers, run);
            // What cannot be believed, or is refused, opens nothing.
            let done = match attempt(&some) {
                Err(refusal) if !some.is_empty() => {
                    failure = failure.and(Err(refusal));
                    attempt(&[])
                }
                done => done,
            };
            match done {
                Ok(()) => closed.push(family),
                Err(refusal) => failure = failure.and(Err(refusal)),
            }
            failure = failure.and_then(|()| exceptions.map(drop));
        }
    }
    bridge_nf::keep_on(run.paths, &closed)?;
    failure
}

/// Loads the closed rules of one family, if they are called for.
fn close(family: Family, bridges: &Bridges, rules: &str, leftovers: bool, run: &Performer<'_>) -> Result<()> {
    let Plan::Save(save) = authorise(Function::IptablesSave, family, &[], None)? else {
        return Err(Code::Internal.into());
    };
    let standing = run.save(&save)?;
    if standing.exit_code != 0 {
        return Err(Refusal::new(Code::ProgramFailed)
            .detail(save.run.program())
            .detail(standing.stderr.trim_ascii()));
    }
    if !leftovers && our_chains(&standing.stdout).any(|chain| chain == "dwb-forward") {
        // What the driver has written stays; dom0's saved rules may have brought it back without the boundary.
        return run.look(family).map(drop);
    }
    let input = replacing(&standing.stdout, bridges, rules).into_bytes();
    let Plan::Restore(restore) = authorise(Function::IptablesRestore, family, &[], Some(input))? else {
        return Err(Code::Internal.into());
    };
    let done = run.restore(&restore)?;
    match done.exit_code {
        0 => Ok(()),
        _ => {
            Err(Refusal::new(Code::ProgramFailed).detail("iptables-restore").detail(done.stderr.trim_ascii()))
        }
    }
}

/// Our chains in the table `filter` of a cut dump.
fn our_chains(cut: &str) -> impl Iterator<Item = &str> {
    let filter = cut.lines().take_while(|&line| line != "COMMIT");
    filter.filter_map(|line| line.strip_prefix(':')?.split(' ').next()).filter(|chain| is_our_chain(chain))
}

/// The chains of the closed rules.
const CHAINS: [&str; 3] = ["dwb-forward", "dwb-unknown-from", "dwb-unknown-to"];

/// The closed rules, with exceptions. The chains of the bridges are the compiler's, so that the driver finds them as it wants
/// them.
fn rules(bridges: &Bridges, exceptions: &[String]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for interfaces in GUEST_INTERFACES {
        let _ = writeln!(text, "-A dwb-forward -m physdev --physdev-in {interfaces} -j dwb-unknown-from");
        let _ = writeln!(text, "-A dwb-forward -m physdev --physdev-out {interfaces} -j dwb-unknown-to");
    }
    text += "-A dwb-forward -j ACCEPT\n";
    for rule in exceptions {
        let _ = writeln!(text, "{rule}");
    }
    for bridge in bridges {
        let _ = writeln!(text, "-A dwb-unknown-from -i {bridge} -j DROP");
        let _ = writeln!(text, "-A dwb-unknown-to -o {bridge} -j DROP");
    }
    text
}

/// The conntrack zone of a bridge: the driver's (`zones` in its compiler), so that what passes there goes on when it writes.
#[must_use]
pub fn zone(bridge: &str) -> u16 {
    let digest = hmac_sha256::Hash::hash(bridge.as_bytes());
    u16::from_be_bytes([digest[0], digest[1]]).clamp(1, u16::MAX - 1)
}

/// Input for `iptables-restore` that puts the closed rules in place of what stands.
fn replacing(standing: &str, bridges: &Bridges, rules: &str) -> String {
    // What passes is told by its connection, and without a zone nothing is tracked.
    let mut text = String::from("*raw\n:dwb-raw - [0:0]\n");
    for bridge in bridges {
        let _ = writeln!(text, "-A dwb-raw -i {bridge} -j CT --zone {}", zone(bridge));
    }
    text += "COMMIT\n*filter\n";
    // A declaration empties a chain that is there.
    for chain in CHAINS {
        let _ = writeln!(text, ":{chain} - [0:0]");
    }
    text += rules;
    if !filter::jump_stands_first(standing) {
        let _ = writeln!(text, "{}", filter::FORWARD_JUMP);
    }
    // Emptied, not removed: a hand may have put a jump to one of them somewhere. The driver's next write removes them.
    for chain in our_chains(standing).filter(|chain| !CHAINS.contains(chain)) {
        let _ = writeln!(text, "-F {chain}");
    }
    text + "COMMIT\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_of_the_filter_table() {
        let cut = "# drawbridge bridge-nf-call=0\n*filter\n:dwb-a - [0:0]\n-A dwb-a -j DROP\n:dwb-b - [0:0]\n\
                   COMMIT\n*raw\n:dwb-raw - [0:0]\nCOMMIT\n";
        assert_eq!(our_chains(cut).collect::<Vec<_>>(), ["dwb-a", "dwb-b"]);
    }

    #[test]
    fn leftovers_are_emptied() {
        let bridges = Bridges::from(["xapi1".to_owned()]);
        let rules = rules(&bridges, &[]);
        let input = |standing: &str| replacing(standing, &bridges, &rules);
        let jump = format!("*filter\n{}\nCOMMIT\n", filter::FORWARD_JUMP);
        assert!(input("*filter\nCOMMIT\n*raw\nCOMMIT\n").contains("\n-I FORWARD 1 "));
        assert!(!input(&jump).contains("-I FORWARD"));
        let stale = input("*filter\n:dwb-forward - [0:0]\n:dwb-i-vif1.0 - [0:0]\nCOMMIT\n");
        assert!(stale.ends_with("\n-F dwb-i-vif1.0\nCOMMIT\n"), "{stale}");
        assert!(!stale.contains("-F dwb-forward"), "{stale}");
    }
}
