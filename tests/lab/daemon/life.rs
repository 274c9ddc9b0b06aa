//! What happens in a pool's days: enforced by XAPI's events alone, and with hooks.

use anyhow::{Result, ensure};
use api::control::Outcome;
use e2e::lab::{Backend, Daemon, Guest, Lab};
use e2e::probe::check;
use e2e::scenario::{POLICY, expectations, pool};
use e2e::station::Family;

use crate::{assert_nothing_of, on_each};

/// A pool with one guest more, which does not run yet.
fn with_web3(backend: Backend) -> Result<Lab> {
    pool(backend).guest(Guest::new("web3", "host2", 15).halted()).start()
}

fn policy() -> String {
    format!("{POLICY}{}", include_str!("../policy/web3.toml"))
}

/// Who says what happens.
#[derive(Clone, Copy)]
enum Told {
    /// XAPI's events alone: it is enforced when the daemon says so.
    ByEvents,
    /// A hook: it is enforced when that returns.
    ByHooks,
}

impl Told {
    fn happened(self, daemon: &Daemon<'_>, event: &str, vm: &str) -> Result<()> {
        match self {
            Self::ByEvents => daemon.settle().map(drop),
            Self::ByHooks => {
                let report = daemon.hook(event, vm)?;
                ensure!(report.outcome == Outcome::Enforced, "{report:?}");
                // The other host is not waited for so long on a busy machine.
                if !report.hosts.iter().all(|host| host.enforced) {
                    daemon.settle()?;
                }
                Ok(())
            }
        }
    }

    /// Started, or resumed, and told of.
    fn up(self, lab: &Lab, daemon: &Daemon<'_>, event: &str) -> Result<()> {
        let begin = if event == "resume" { Lab::resume } else { Lab::start };
        match self {
            Self::ByEvents => {
                begin(lab, "web3", false)?;
                self.happened(daemon, event, "web3")?;
            }
            Self::ByHooks => {
                begin(lab, "web3", true)?;
                self.happened(daemon, event, "web3")?;
                lab.unpause("web3")?;
            }
        }
        enforced(lab)
    }
}

/// `web3` is as its groups say, and so is everybody else.
fn enforced(lab: &Lab) -> Result<()> {
    let (web3, db, outside) = (lab.guest("web3")?, lab.guest("db")?, lab.outside());
    let of_web3 = Family::BOTH.into_iter().flat_map(|family| {
        [
            outside.tcp(&web3, 80, family).passes(),
            outside.tcp(&web3, 22, family).blocked(),
            web3.tcp(&db, 5432, family).passes(),
            web3.tcp(&db, 22, family).blocked(),
        ]
    });
    check(of_web3.chain(expectations(lab)?));
    Ok(())
}

/// Nothing speaks of `web3`: neither of its interfaces, nor of its address, on any host.
fn gone(lab: &Lab, old: &[String]) -> Result<()> {
    assert_nothing_of(lab, "host2", old)?;
    for host in ["host1", "host2"] {
        let rules = lab.rules(host)?;
        let left: Vec<_> = rules
            .iter()
            .filter(|rule| ["10.20.0.15", "fd20::f"].iter().any(|address| e2e::lab::mentions(rule, address)))
            .collect();
        ensure!(left.is_empty(), "{host} still knows the guest's address: {left:?}");
    }
    check(expectations(lab)?);
    Ok(())
}

fn a_guests_life(backend: Backend, told: Told) -> Result<()> {
    let lab = with_web3(backend)?;
    let daemon = lab.daemon("a")?.start_with(&policy())?;
    told.up(&lab, &daemon, "create")?;
    for reboot in [Lab::clean_reboot, Lab::hard_reboot, Lab::guest_reboots] {
        let old = lab.vif_names("web3")?;
        reboot(&lab, "web3")?;
        told.happened(&daemon, "reboot", "web3")?;
        assert_nothing_of(&lab, "host2", &old)?;
        enforced(&lab)?;
    }
    let old = lab.vif_names("web3")?;
    lab.suspend("web3")?;
    told.happened(&daemon, "suspend", "web3")?;
    gone(&lab, &old)?;
    told.up(&lab, &daemon, "resume")?;
    let old = lab.vif_names("web3")?;
    lab.unplug("web3", 0)?;
    told.happened(&daemon, "unplug", "web3")?;
    gone(&lab, &old)?;
    lab.plug("web3", 0)?;
    told.happened(&daemon, "plug", "web3")?;
    enforced(&lab)?;
    let old = lab.vif_names("web3")?;
    lab.migrate("web3", "host1")?;
    told.happened(&daemon, "post-migrate", "web3")?;
    assert_nothing_of(&lab, "host2", &old)?;
    enforced(&lab)?;
    lab.migrate("web3", "host2")?;
    told.happened(&daemon, "post-migrate", "web3")?;
    let old = lab.vif_names("web3")?;
    lab.hard_shutdown("web3")?;
    told.happened(&daemon, "terminate", "web3")?;
    gone(&lab, &old)
}

on_each! {
    fn by_events_alone(backend) {
        a_guests_life(backend, Told::ByEvents)?;
    }

    fn with_hooks(backend) {
        a_guests_life(backend, Told::ByHooks)?;
    }

    /// An edit is enforced by itself; what was allowed before goes on, or ends, as the edit says.
    fn edits(backend) {
        let lab = pool(backend).start()?;
        let daemon = lab.daemon("a")?.start_with(POLICY)?;
        let (web1, outside) = (lab.guest("web1")?, lab.outside());
        for (policy, open) in [(POLICY.replace("ports = 80", "ports = 81"), 81), (POLICY.to_owned(), 80)] {
            daemon.set_policy(&policy)?;
            daemon.settle()?;
            let shut = 161 - open;
            check(Family::BOTH.into_iter().flat_map(|family| {
                [outside.tcp(&web1, open, family).passes(), outside.tcp(&web1, shut, family).blocked()]
            }));
        }
        check(expectations(&lab)?);
    }
}
