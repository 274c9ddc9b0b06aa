//! The Lab itself, before anything is filtered: what the other tests expect to be blocked does arrive here.

use anyhow::{Result, ensure};
use e2e::lab::{Backend, Lab};
use e2e::probe::{Expected, Seen, check, run};
use e2e::scenario::{GUESTS, expectations, pool, spoofing};
use e2e::station::Family;

use crate::{on_both, on_each};

on_each! {
    fn an_unfiltered_pool_passes_everything(backend) {
        let lab = unfiltered(backend)?;
        let mut all = expectations(&lab)?;
        ensure!(all.len() > 30 && all.iter().any(|one| one.expected == Expected::Blocked));
        all.extend(spoofing(&lab.guest("web1")?, lab.outside()));
        all.extend(spoofing(&lab.guest("web2")?, &lab.guest("db")?));
        for expectation in &mut all {
            expectation.expected = Expected::Passes;
        }
        check(all);
    }
}

on_both! {
    /// Bridged packets do not meet dom0's own firewall, until somebody sends them there without care.
    fn dom0_as_shipped_would_reject_guests(iptables) {
        let lab = unfiltered(iptables)?;
        lab.host("host1")?.run(|| std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "1"))?;
        let outcomes = run(vec![lab.outside().tcp(&lab.guest("web1")?, 8080, Family::V4).blocked()]);
        ensure!(matches!(outcomes[0].seen, Seen::Refused(_)), "{}", outcomes[0]);
    }
}

fn unfiltered(backend: impl Into<Backend>) -> Result<Lab> {
    GUESTS.iter().fold(pool(backend), |builder, (_, host, _)| builder.without_plugin(host)).start()
}
