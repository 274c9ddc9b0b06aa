//! Events of a guest's and a host's life: what should pass does, what should not does not, nothing old remains. Reboots,
//! suspended and destroyed guests, interfaces that come and go: cases D6 to D12.

use anyhow::{Result, ensure};
use e2e::lab::{Guest, Lab};
use e2e::probe::check;
use e2e::scenario::{POLICY, dom0_boots, expectations, pool};
use e2e::station::Family;

use crate::{assert_nothing_of, on_each};

fn applied(backend: e2e::lab::Backend) -> Result<Lab> {
    let lab = pool(backend).start()?;
    lab.apply()?.success()?;
    Ok(lab)
}

on_each! {
    /// Started paused, given its rules, let go.
    fn create(backend) {
        let lab = pool(backend).guest(Guest::new("web3", "host2", 15).halted()).start()?;
        lab.set_policy(&format!("{POLICY}{}", include_str!("policy/web3.toml")))?;
        lab.apply()?.success()?;
        lab.start("web3", true)?;
        lab.hook("create", "web3")?.success()?;
        lab.unpause("web3")?;
        let (web3, outside) = (lab.guest("web3")?, lab.outside());
        for family in Family::BOTH {
            check([
                outside.tcp(&web3, 80, family).passes(),
                outside.tcp(&web3, 22, family).blocked(),
                // It is a member of `web` for the other guests, too.
                web3.tcp(&lab.guest("db")?, 5432, family).passes(),
                web3.tcp(&lab.guest("db")?, 22, family).blocked(),
            ]);
        }
    }

    /// dom0 boots: all our chains are gone, bridged packets no longer reach iptables. One call brings back every guest.
    fn host_initialisation(backend) {
        let lab = applied(backend)?;
        dom0_boots(&lab, "host1")?;
        // Unfiltered again: the check after the hook would notice a hook that does nothing.
        check([lab.outside().udp(&lab.guest("web1")?, 9, Family::V4).passes()]);
        let before = lab.audit("host1")?.len();
        lab.hook("host-init", "host1")?.success()?;
        let calls = lab.audit("host1")?.len() - before;
        ensure!(calls <= 8, "host initialisation took {calls} plugin calls, both families together");
        check(expectations(&lab)?);
    }

    /// No rules of the old name, whatever the hooks said: a reboot nobody announced is put right by `apply`.
    fn an_unannounced_reboot(backend) {
        let lab = applied(backend)?;
        let old = lab.vif_names("web1")?;
        lab.clean_reboot("web1")?;
        lab.apply()?.success()?;
        assert_nothing_of(&lab, "host1", &old)?;
        check(expectations(&lab)?);
    }
}
