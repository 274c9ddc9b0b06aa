//! dom0 boots and cannot read what was guarded: everything is closed, but for what mends it.

use e2e::frame::dhcp;
use e2e::frame::ip::{Path, UDP};
use e2e::lab::ipv4;
use e2e::probe::{Probe, check};
use e2e::scenario::dom0_boots;
use e2e::station::{Family, Station};

use super::pool;
use crate::on_both;

/// A datagram on `other`.
fn says(from: &Station, to: &Station) -> Probe {
    let path = Path::V4(ipv4(1, from.mac.0[5]), ipv4(1, to.mac.0[5]));
    from.frame(to, "a datagram", path.frame(to.mac, from.mac, UDP, &path.udp(1000, 53, b"hello")))
}

on_both! {
    /// `stranger` could be the driver's own VM: it reaches XAPI on this host, and nobody else.
    fn garbage_closes_every_bridge_and_xapi_is_reached(iptables) {
        let lab = pool(iptables).guarded("lan").start()?;
        lab.apply()?.success()?;
        for family in ["ipv4", "ipv6"] {
            let record = format!("/var/lib/drawbridge/guarded-{family}");
            lab.dom0_program("host1", "tee", &[&record], b"no bridge has such a name\n")?;
        }
        // XAPI's own locking would keep it off the bridge.
        lab.set_locking_mode("stranger", 0, xenapi::LockingMode::Unlocked)?;
        // The run says that a record is damaged.
        let _ = dom0_boots(&lab, "host1");
        let (stranger, far) = (lab.guest("stranger")?, lab.guest("far")?);
        let (dom0, outside) = (lab.dom0("host1")?, lab.outside());
        let beyond = lab.add_station_on(1, "beyond", 201)?;
        let discover = stranger.frame(outside, "DHCP discover", dhcp::discover(stranger.mac));
        let mut all = vec![stranger.tcp(&dom0, 443, Family::V4).passes(), discover.passes()];
        for family in Family::BOTH {
            all.push(stranger.tcp(outside, 443, family).blocked());
            all.push(outside.tcp(&stranger, 22, family).blocked());
        }
        all.extend([says(&far, &beyond).blocked(), says(&beyond, &far).blocked()]);
        check(all);
        // The driver's next write says anew what is guarded.
        lab.apply()?.success()?;
        check([says(&far, &beyond).passes(), stranger.tcp(outside, 443, Family::V4).blocked()]);
    }
}
