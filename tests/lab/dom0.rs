//! dom0's own connections, over the same bridge the guests are on.

use anyhow::ensure;
use e2e::flow::Flow;
use e2e::probe::check;
use e2e::scenario::{POLICY, pool};
use e2e::station::Family;

use crate::on_each;

on_each! {
    /// Administration of dom0 and what dom0 itself asks for work before, during and after.
    fn management_keeps_working(backend) {
        let lab = pool(backend).start()?;
        let (dom0, other, outside) = (lab.dom0("host1")?, lab.dom0("host2")?, lab.outside());
        let ssh = Flow::start(&outside.tcp(&dom0, 22, Family::V4))?;
        let https = Flow::start(&dom0.tcp(&other, 443, Family::V4))?;
        lab.apply()?.success()?;
        lab.set_policy(&POLICY.replace("ports = 80", "ports = 81"))?;
        lab.apply()?.success()?;
        check([
            outside.tcp(&dom0, 22, Family::V4).passes(),
            outside.echo(&dom0, Family::V4).passes(),
            dom0.tcp(outside, 123, Family::V4).passes(),
            dom0.udp(outside, 123, Family::V4).passes(),
            dom0.tcp(&other, 443, Family::V4).passes(),
            // A guest that may reach everybody reaches dom0 as before: what dom0's own firewall admits.
            lab.guest("web1")?.tcp(&dom0, 443, Family::V4).passes(),
        ]);
        for flow in [ssh, https] {
            ensure!(flow.lives(), "a connection of dom0's was cut");
            let report = flow.stop()?;
            ensure!(report.broken.is_none() && !report.stalled(), "a connection of dom0's noticed: {report:?}");
        }
    }

    /// What dom0's firewall refuses it still refuses.
    fn dom0_is_no_more_open_than_before(backend) {
        let lab = pool(backend).start()?;
        lab.apply()?.success()?;
        let (dom0, web) = (lab.dom0("host1")?, lab.guest("web1")?);
        let outcomes = e2e::probe::run(vec![
            lab.outside().tcp(&dom0, 8080, Family::V4).blocked(),
            web.tcp(&dom0, 8080, Family::V4).blocked(),
        ]);
        for outcome in outcomes {
            // It arrives at dom0, and dom0 says no (it rejects, it does not drop).
            let refused = matches!(outcome.seen, e2e::probe::Seen::Refused(_) | e2e::probe::Seen::Arrived);
            ensure!(refused, "{outcome}");
        }
    }
}
