//! Every event of a guest's and a host's life: what should pass does, what should not does not, nothing old remains.

use anyhow::{Context, Result, ensure};
use e2e::lab::{Guest, Lab, mentions};
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

    /// A reboot gives a new domain and new names; so does one the guest makes itself.
    fn reboot(backend) {
        let lab = applied(backend)?;
        for reboot in [Lab::clean_reboot, Lab::hard_reboot, Lab::guest_reboots] {
            let old = lab.vif_names("web1")?;
            reboot(&lab, "web1")?;
            let new = lab.vif_names("web1")?;
            ensure!(old != new, "the domain id should change: {old:?}");
            lab.hook("reboot", "web1")?.success()?;
            check(expectations(&lab)?);
            assert_nothing_of(&lab, "host1", &old)?;
        }
    }

    /// A suspended guest leaves nothing behind and comes back under a new name.
    fn suspend_and_resume(backend) {
        let lab = applied(backend)?;
        let old = lab.vif_names("db")?;
        lab.suspend("db")?;
        lab.hook("suspend", "db")?.success()?;
        assert_nothing_of(&lab, "host1", &old)?;
        check(expectations(&lab)?);
        lab.resume("db", true)?;
        lab.hook("resume", "db")?.success()?;
        lab.unpause("db")?;
        check(expectations(&lab)?);
        assert_nothing_of(&lab, "host1", &old)?;
    }

    /// Nothing of a destroyed guest remains, on any host; whoever takes its address inherits nothing.
    fn terminate(backend) {
        let lab = applied(backend)?;
        let old = lab.vif_names("web2")?;
        lab.hard_shutdown("web2")?;
        lab.destroy("web2")?;
        let (without, _) = POLICY.split_once("\n[[port]]\nvm = \"web2\"").context("web2's port is the policy's last")?;
        lab.set_policy(without)?;
        lab.hook("terminate", "web2")?.success()?;
        assert_nothing_of(&lab, "host2", &old)?;
        let rules = lab.rules("host1")?;
        for address in ["10.20.0.13", "fd20::d"] {
            let left: Vec<_> = rules.iter().filter(|rule| mentions(rule, address)).collect();
            ensure!(left.is_empty(), "host1 still admits {address}: {left:#?}");
        }
        let squatter = lab.add_station("squatter", 13)?;
        let db = lab.guest("db")?;
        check(Family::BOTH.map(|family| squatter.tcp(&db, 5432, family).blocked()));
        check(expectations(&lab)?);
    }

    /// A second interface, plugged into a running guest and pulled out again.
    fn plug_and_unplug(backend) {
        let lab = pool(backend)
            .network("backup")
            .guest(Guest::new("nas", "host1", 16).on(&[0, 1]))
            .guest(Guest::new("peer", "host2", 17).on(&[1]))
            .policy(&format!("{POLICY}{}", include_str!("policy/nas.toml")))
            .start()?;
        lab.unplug("nas", 1)?;
        lab.apply()?.success()?;
        let before = lab.vif_names("nas")?;
        lab.plug("nas", 1)?;
        lab.hook("create", "nas")?.success()?;
        let plugged: Vec<_> = lab.vif_names("nas")?.into_iter().filter(|name| !before.contains(name)).collect();
        let (backup, peer) = (lab.guest_nic("nas", 1)?, lab.guest("peer")?);
        for family in Family::BOTH {
            check([peer.tcp(&backup, 873, family).passes(), peer.tcp(&backup, 22, family).blocked()]);
        }
        lab.unplug("nas", 1)?;
        lab.hook("terminate", "nas")?.success()?;
        ensure!(plugged.len() == 1, "one interface came: {plugged:?}");
        assert_nothing_of(&lab, "host1", &plugged)?;
        check(expectations(&lab)?);
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
