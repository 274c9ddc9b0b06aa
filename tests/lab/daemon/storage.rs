//! Big writes cut short, and a disk that is full.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use e2e::lab::Backend;
use e2e::postgres::Postgres;
use e2e::probe::check;
use e2e::scenario::{POLICY, expectations, pool};
use e2e::traffic::Traffic;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::editor::{Editor, extra_ports, policy_of, some_time};
use super::faults::{ROUNDS, SOMETIME};
use crate::on_bridge_and_ovs;

/// The scenario's policy, and a rule that admits so many single addresses that they do not fit into one call.
fn big() -> Result<String> {
    let mut addresses = String::new();
    let mut state = 1_u64;
    for _ in 0..15_000 {
        // Spread out, so that they neither join to prefixes nor compress well (Knuth's MMIX generator).
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let [a, b, c, d, ..] = state.to_be_bytes();
        write!(addresses, "\"{}.{b}.{c}.{d}\", ", 100 + a % 100)?;
    }
    let rule = "remote_group = \"web\"\n\n[[group.rule]]\ndirection = \"ingress\"\nethertype = \"ipv4\"\nremote_set = \"big\"\n";
    let set = format!("[[set]]\nid = \"big\"\naddresses = [{addresses}]\n\n");
    Ok(set + &POLICY.replacen("remote_group = \"web\"\n", rule, 1))
}

on_bridge_and_ovs! {
    /// Killed while it compares, uploads or waits for dom0: nothing half stands, and the next one finishes.
    fn killed_while_uploading(backend) {
        let lab = pool(backend).start()?;
        let mut daemon = lab.daemon("a")?.as_shipped().start_with(POLICY)?;
        let traffic = Traffic::start(&lab)?;
        let big = big()?;
        daemon.set_policy(&big)?;
        daemon.settle()?;
        ensure!(lab.audit("host1")?.iter().any(|line| line.contains(" part=")), "nothing was uploaded in parts");
        for round in 0..ROUNDS {
            daemon.set_policy(if round % 2 == 0 { POLICY } else { &big })?;
            some_time(Duration::from_secs(2));
            daemon.kill()?;
            daemon.start()?;
            daemon.settle_since(Instant::now())?;
        }
        daemon.set_policy(POLICY)?;
        daemon.settle()?;
        check(expectations(&lab)?);
        traffic.judge_connections()?;
    }

    /// The store's disk is full: edits are refused, and said to be; everything else goes on. When there is room again, edits are
    /// taken again.
    fn disk_full(backend) {
        let lab = pool(backend).start()?;
        let small = Small::new(lab.scratch_path("small"))?;
        let daemon = lab.daemon("a")?.as_shipped().store_in(small.0.join("store.db")).start_with(POLICY)?;
        let traffic = Traffic::start(&lab)?;
        for _ in 0..ROUNDS {
            let generation = || -> Result<u64> { Ok(daemon.call(daemon.api().status())?.generation) };
            let an_edit_is_taken = || -> Result<()> {
                let before = generation()?;
                daemon.until("an edit is taken", |_| Ok(generation()? > before))
            };
            let editor = Editor::start(&daemon)?;
            an_edit_is_taken()?;
            some_time(SOMETIME);
            small.fill()?;
            daemon.until("readyz tells", |daemon| Ok(daemon.trouble().contains("store")))?;
            // Hosts are looked after all the same.
            lab.hard_reboot("web2")?;
            daemon.hook("reboot", "web2")?;
            some_time(SOMETIME);
            small.clear()?;
            let whole = Instant::now();
            daemon.until("it is ready again", |daemon| Ok(daemon.trouble().is_empty()))?;
            an_edit_is_taken()?;
            let ledger = editor.end(&daemon)?;
            ensure!(ledger.refused > 0 && ledger.acknowledged > 0, "{ledger:?}");
            lab.set_policy(&policy_of(&daemon)?)?;
            daemon.settle_since(whole)?;
        }
        check(expectations(&lab)?);
        traffic.judge_connections()?;
    }
}

/// PostgreSQL dies in the middle of a commit. Nobody can say then whether the edit was done, and whoever made it is told that;
/// here it was, and it is enforced like any other as soon as the server is back.
#[test]
fn the_store_dies_while_it_saves() -> Result<()> {
    let lab = pool(Backend::Nft).start()?;
    let mut postgres = Postgres::start()?;
    let daemon = lab.daemon("a")?.as_shipped().store_at(postgres.url()).start_with(POLICY)?;
    let traffic = Traffic::start(&lab)?;
    let generation = || -> Result<u64> { Ok(daemon.call(daemon.api().status())?.generation) };
    for _ in 0..ROUNDS {
        let editor = Editor::start(&daemon)?;
        let before = generation()?;
        daemon.until("an edit is taken", |_| Ok(generation()? > before))?;
        some_time(SOMETIME);
        postgres.set_commits_wait(true)?;
        daemon.until("a commit waits", |_| {
            let before = generation()?;
            std::thread::sleep(Duration::from_millis(500));
            Ok(generation()? == before)
        })?;
        postgres.kill()?;
        daemon.until("readyz tells", |daemon| Ok(daemon.trouble().contains("store")))?;
        // Hosts are looked after all the same.
        daemon.hook("host-init", "host1")?;
        some_time(SOMETIME);
        postgres.resume()?;
        let whole = Instant::now();
        let ledger = editor.end(&daemon)?;
        daemon.until("it is ready again", |daemon| Ok(daemon.trouble().is_empty()))?;
        let [(port, is_there)] = ledger.in_doubt[..] else { bail!("one edit was in doubt: {ledger:?}") };
        ensure!(
            extra_ports(&daemon)?.contains(&port) == is_there,
            "the edit of {port} was written: {ledger:?}"
        );
        lab.set_policy(&policy_of(&daemon)?)?;
        daemon.settle_since(whole)?;
    }
    check(expectations(&lab)?);
    traffic.judge_connections()
}

/// A file system that is soon full.
struct Small(PathBuf);

impl Small {
    fn new(path: PathBuf) -> Result<Self> {
        std::fs::create_dir(&path)?;
        // More than SQLite lets its log grow to.
        mount(Some("small"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=24m"))?;
        Ok(Self(path))
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Leaves no byte.
    fn fill(&self) -> Result<()> {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.ballast())?;
        for size in [64 << 10, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        Ok(())
    }

    fn clear(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.ballast())?)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Nothing is left to do if it cannot be.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        let _ = std::fs::remove_dir(&self.0);
    }
}
