//! A guest migrates: where it arrives its rules stand before it runs there, where it was nothing is left, and what is allowed
//! goes on. Case D8.

mod faults;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::flow::Flow;
use e2e::frame::ip::{Path, TCP, UDP, flag};
use e2e::lab::{Backend, Daemon, Guest, Lab, OUTSIDE, ipv4, ipv6, mac, mentions};
use e2e::probe::{Outcome, check, run};
use e2e::scenario::{POLICY, pool};
use e2e::station::Family;
use e2e::tap::Tap;
use e2e::traffic::{Shouting, refused};
use xapi_mock::faults::{Fault, MigrationFault};

use crate::{assert_nothing_of, on_each};

/// The number of `db`, which migrates: it may answer web servers and reach nobody.
const DB: u8 = 12;

/// Connection tracking goes on with a connection whose packets it has not seen for a while, and does not call them invalid:
/// what docs/security.md recommends where guests come back to a host.
const LIBERAL: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal";

/// What `db` may not say, in its own name and in another's.
fn forbidden() -> Vec<Vec<u8>> {
    let (own, out) = (mac(0, DB), mac(0, OUTSIDE));
    let paths = [
        Path::V4(ipv4(0, DB), ipv4(0, OUTSIDE)),
        Path::V6(ipv6(0, DB), ipv6(0, OUTSIDE)),
        Path::V4(ipv4(0, 99), ipv4(0, OUTSIDE)),
        Path::V6(ipv6(0, 99), ipv6(0, OUTSIDE)),
    ];
    let frames = paths.into_iter().flat_map(|path| {
        [
            path.frame(out, own, UDP, &path.udp(1000, 53, b"forbidden")),
            path.frame(out, own, TCP, &path.tcp((1000, 80), flag::SYN, (1, 0), b"forbidden")),
        ]
    });
    frames.collect()
}

/// What goes on meanwhile: connections of web servers on both hosts to `db`; what `db` may not send, and may not be sent.
struct Meanwhile {
    flows: Vec<(String, Flow)>,
    shouting: Shouting,
    over: Arc<AtomicBool>,
    said: Arc<AtomicU64>,
    inside: JoinHandle<u64>,
    outside: JoinHandle<u64>,
}

impl Meanwhile {
    fn start(lab: &Lab) -> Result<Self> {
        let db = lab.guest("db")?;
        let mut flows = Vec::new();
        for family in Family::BOTH {
            for web in ["web1", "web2"] {
                let probe = lab.guest(web)?.tcp(&db, 5432, family);
                flows.push((probe.to_string(), Flow::start(&probe)?));
            }
        }
        let (over, said) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let inside = db.namespace.spawn({
            let (over, said) = (Arc::clone(&over), Arc::clone(&said));
            move || speak_and_hear(&over, &said)
        });
        let ears = lab.outside().namespace.enter(|| Tap::open("eth0"))?;
        let told = Arc::clone(&over);
        let outside = std::thread::spawn(move || {
            let (forbidden, mut leaked) = (forbidden(), 0);
            while !told.load(Ordering::Relaxed) {
                leaked += heard(&ears, &forbidden).unwrap_or_default();
                std::thread::sleep(Duration::from_millis(5));
            }
            leaked + heard(&ears, &forbidden).unwrap_or_default()
        });
        let shouting = Shouting::start(lab.outside(), refused(DB));
        Ok(Self { flows, shouting, over, said, inside, outside })
    }

    /// Every connection lives.
    fn alive(&self) -> Result<()> {
        for (name, flow) in &self.flows {
            ensure!(flow.lives(), "{name} was cut");
        }
        Ok(())
    }

    /// Nothing that is refused passed, and every connection lives.
    fn judge(self) -> Result<()> {
        self.alive()?;
        // It goes on saying what it may not, where it is now.
        std::thread::sleep(Duration::from_millis(200));
        self.over.store(true, Ordering::Relaxed);
        let shouted = self.shouting.stop()?;
        let panicked = || anyhow::anyhow!("a thread panicked");
        let (into, out) =
            (self.inside.join().map_err(|_| panicked())?, self.outside.join().map_err(|_| panicked())?);
        let said = self.said.load(Ordering::Relaxed);
        ensure!(said > 100 && shouted > 100, "{said} and {shouted} frames: the test shows nothing");
        ensure!(into == 0, "{into} of {shouted} refused frames reached the guest");
        ensure!(out == 0, "{out} of {said} forbidden frames got out");
        for (name, flow) in self.flows {
            let report = flow.stop().context(name.clone())?;
            ensure!(report.broken.is_none(), "{name} ended: {report:?}");
        }
        Ok(())
    }
}

/// How many of these frames came in.
fn heard(tap: &Tap, frames: &[Vec<u8>]) -> std::io::Result<u64> {
    let seen = tap.drain()?;
    Ok(seen.iter().filter(|one| !one.outgoing && frames.contains(&one.bytes)).map(|_| 1).sum())
}

/// In the guest: says what it may not, and counts what it may not hear. Its link is another one after a migration.
fn speak_and_hear(over: &AtomicBool, said: &AtomicU64) -> u64 {
    let (forbidden, refused) = (forbidden(), refused(DB));
    let mut reached = 0;
    while !over.load(Ordering::Relaxed) {
        let Ok(tap) = Tap::open("eth0") else { continue };
        while !over.load(Ordering::Relaxed) {
            let sent = forbidden.iter().try_for_each(|frame| {
                tap.send(frame)?;
                said.fetch_add(1, Ordering::Relaxed);
                Ok::<_, std::io::Error>(())
            });
            match sent.and_then(|()| heard(&tap, &refused)) {
                Ok(count) => reached += count,
                Err(_) => break,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    reached
}

/// Who tells the daemon.
#[derive(Clone, Copy, PartialEq)]
enum Told {
    ByEvents,
    ByHooks,
}

impl Told {
    /// Migrates `db`, told of in this way.
    fn migrate(self, lab: &Lab, daemon: &Daemon<'_>, to: &str) -> Result<()> {
        match self {
            Self::ByHooks => {
                let report = daemon.pre_migrate("db", to)?;
                ensure!(report.hosts.iter().all(|host| host.enforced), "{report:?}");
                let migrated = lab.migrate("db", to);
                daemon.hook("post-migrate", "db")?;
                migrated
            }
            Self::ByEvents => {
                let migrated = lab.migrate("db", to);
                daemon.settle()?;
                migrated
            }
        }
    }

    /// The same, with a migration that takes as long as the daemon needs to hear of it.
    fn migrate_slowly(self, lab: &Lab, daemon: &Daemon<'_>, to: &str) -> Result<()> {
        let faults = lab.mock()?.faults();
        faults.inject(Fault::Migration { action: MigrationFault::Hold, times: 1 });
        std::thread::scope(|scope| {
            let migrated = scope.spawn(|| self.migrate(lab, daemon, to));
            let prepared = daemon.until("the migration begins", |_| {
                Ok(lab.vm("db")?.1.scheduled_to_be_resident_on.non_null().is_some())
            });
            let prepared = prepared.and_then(|()| daemon.settle().map(drop));
            // As long as a copy of the memory takes: the guest still runs where it was.
            std::thread::sleep(Duration::from_millis(1500));
            faults.inject(Fault::Clear);
            migrated.join().map_err(|_| anyhow::anyhow!("the migration panicked"))?.and(prepared)
        })
    }
}

/// As its group says.
fn enforced(lab: &Lab) -> Result<()> {
    let (db, outside) = (lab.guest("db")?, lab.outside());
    let mut all = Vec::new();
    for family in Family::BOTH {
        for web in ["web1", "web2"] {
            let web = lab.guest(web)?;
            all.extend([web.tcp(&db, 5432, family).passes(), web.tcp(&db, 22, family).blocked()]);
        }
        all.extend([outside.tcp(&db, 5432, family).blocked(), db.udp(outside, 53, family).blocked()]);
    }
    check(all);
    Ok(())
}

/// Nothing on the host speaks of `db`, neither of its address nor of its MAC.
fn unknown_on(lab: &Lab, host: &str) -> Result<()> {
    let names = [ipv4(0, DB).to_string(), ipv6(0, DB).to_string(), mac(0, DB).to_string()];
    let rules = lab.rules(host)?;
    let left: Vec<_> = rules.iter().filter(|rule| names.iter().any(|name| mentions(rule, name))).collect();
    ensure!(left.is_empty(), "{host} still speaks of it: {left:#?}");
    Ok(())
}

fn start(backend: Backend, guarded: bool) -> Result<Lab> {
    if !guarded {
        return pool(backend).start();
    }
    // `db` has the domid of `web1`.
    let guests = [("db", "host1", DB), ("web2", "host1", 13), ("web1", "host2", 11)];
    let lab = Lab::builder(backend).guarded("lan").policy(POLICY);
    guests.into_iter().fold(lab, |lab, (name, host, n)| lab.guest(Guest::new(name, host, n))).start()
}

fn there_and_back(backend: Backend, guarded: bool, told: Told) -> Result<()> {
    let lab = start(backend, guarded)?;
    for host in ["host1", "host2"] {
        lab.host(host)?.run(|| std::fs::write(LIBERAL, "1"))?;
    }
    let daemon = lab.daemon("a")?.start_with(POLICY)?;
    let meanwhile = Meanwhile::start(&lab)?;
    for (from, to) in [("host1", "host2"), ("host2", "host1")] {
        let old = lab.vif_names("db")?;
        told.migrate_slowly(&lab, &daemon, to)?;
        assert_nothing_of(&lab, from, &old)?;
        unknown_on(&lab, from)?;
    }
    meanwhile.judge()?;
    daemon.settle()?;
    enforced(&lab)
}

fn fails_in_the_middle(backend: Backend, told: Told) -> Result<()> {
    let lab = start(backend, false)?;
    let daemon = lab.daemon("a")?.start_with(POLICY)?;
    let meanwhile = Meanwhile::start(&lab)?;
    lab.mock()?.faults().inject(Fault::Migration { action: MigrationFault::Fail, times: 1 });
    ensure!(told.migrate(&lab, &daemon, "host2").is_err(), "it succeeded");
    unknown_on(&lab, "host2")?;
    meanwhile.judge()?;
    enforced(&lab)
}

on_each! {
    fn by_events_alone(backend) {
        there_and_back(backend, false, Told::ByEvents)?;
    }

    fn with_hooks(backend) {
        there_and_back(backend, false, Told::ByHooks)?;
    }

    /// As live storage motion does it.
    fn to_a_new_domain_on_its_host(backend) {
        let lab = start(backend, false)?;
        let daemon = lab.daemon("a")?.start_with(POLICY)?;
        let meanwhile = Meanwhile::start(&lab)?;
        let old = lab.vif_names("db")?;
        Told::ByEvents.migrate_slowly(&lab, &daemon, "host1")?;
        assert_nothing_of(&lab, "host1", &old)?;
        meanwhile.judge()?;
        enforced(&lab)?;
    }

    fn on_a_guarded_network(backend) {
        there_and_back(backend, true, Told::ByEvents)?;
    }

    /// Announced, and over before XAPI's events are heard.
    fn as_fast_as_can_be(backend) {
        let lab = start(backend, false)?;
        let daemon = lab.daemon("a")?.start_with(POLICY)?;
        let meanwhile = Meanwhile::start(&lab)?;
        let old = lab.vif_names("db")?;
        Told::ByHooks.migrate(&lab, &daemon, "host2")?;
        assert_nothing_of(&lab, "host1", &old)?;
        unknown_on(&lab, "host1")?;
        meanwhile.judge()?;
        enforced(&lab)?;
    }

    /// XAPI names the new host while it still has the old domid, which is another guest's there: neither is taken for the other.
    fn whose_domid_is_told_late(backend) {
        let lab = start(backend, true)?;
        let (_, web1) = lab.vm("web1")?;
        ensure!(lab.vm("db")?.1.domid == web1.domid, "the test shows nothing");
        let daemon = lab.daemon("a")?.start_with(POLICY)?;
        let meanwhile = Meanwhile::start(&lab)?;
        daemon.pre_migrate("db", "host2")?;
        let faults = lab.mock()?.faults();
        faults.inject(Fault::Migration { action: MigrationFault::LateDomid, times: 1 });
        let seen = std::thread::scope(|scope| {
            let migrated = scope.spawn(|| lab.migrate("db", "host2"));
            let half = daemon.until("the host is named", |_| Ok(lab.vm("db")?.1.resident_on == web1.resident_on));
            // With this the daemon has heard of it, and written what it makes of it.
            let heard = half.and_then(|()| Ok(daemon.hook("reboot", "web1")?));
            let (outside, web1) = (lab.outside(), lab.guest("web1")?);
            let seen = run(vec![outside.tcp(&web1, 80, Family::V4).passes(), outside.echo(&web1, Family::V6).passes()]);
            faults.inject(Fault::Clear);
            migrated.join().map_err(|_| anyhow::anyhow!("the migration panicked"))?.and(heard)?;
            Ok::<_, anyhow::Error>(seen)
        })?;
        ensure!(seen.iter().all(Outcome::ok), "{seen:?}");
        daemon.settle()?;
        meanwhile.judge()?;
        enforced(&lab)?;
    }

    fn one_that_fails_is_over(backend) {
        fails_in_the_middle(backend, Told::ByEvents)?;
    }

    fn one_that_was_announced_and_fails_is_over(backend) {
        fails_in_the_middle(backend, Told::ByHooks)?;
    }

    /// The test itself can see a leak: a guest that nobody expects is heard.
    fn whom_nobody_expects_is_heard(backend) {
        let lab = start(backend, false)?;
        lab.apply()?.success()?;
        let meanwhile = Meanwhile::start(&lab)?;
        lab.migrate("db", "host2")?;
        std::thread::sleep(Duration::from_millis(300));
        meanwhile.over.store(true, Ordering::Relaxed);
        let out = meanwhile.outside.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
        meanwhile.shouting.stop()?;
        ensure!(out > 0, "nothing was heard");
    }
}
