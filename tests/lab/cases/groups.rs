//! B: groups as remotes. Who is in one may change without whoever names it being touched.

use anyhow::ensure;
use e2e::flow::Flow;
use e2e::lab::{Backend, Builder, Guest, Lab};
use e2e::probe::check;
use e2e::scenario::{POLICY, pool};
use e2e::station::Family;
use ruleset::packet::Transport;

use super::{addresses, applied, egress, group, ingress, port, port_with_pairs, sends, tcp};
use crate::on_each;

/// `db` on `host1`, and guests that may become members: `near` there, `far` on `host2`.
fn members(backend: Backend) -> Builder {
    Lab::builder(backend)
        .guest(Guest::new("db", "host1", 11))
        .guest(Guest::new("near", "host1", 12))
        .guest(Guest::new("far", "host2", 13))
}

on_each! {
    /// A guest of another host joins: it passes, and what stands on the way to whoever admits it is not disturbed.
    fn b01_a_member_is_added_on_another_host(backend) {
        let lab = applied(pool(backend))?;
        let (web1, plain, db) = (lab.guest("web1")?, lab.guest("plain")?, lab.guest("db")?);
        check(tcp(&plain, &db, &[], &[5432]));
        let flows = [
            Flow::start(&web1.tcp(&db, 5432, Family::V4))?,
            Flow::start(&lab.guest("web2")?.tcp(&db, 5432, Family::V6))?,
        ];
        lab.set_policy(&format!("{POLICY}{}", include_str!("../policy/plain-joins-web.toml")))?;
        lab.hook("create", "plain")?.success()?;
        check(tcp(&plain, &db, &[5432], &[22]));
        check(tcp(lab.outside(), &plain, &[80], &[22]));
        for flow in flows {
            let report = flow.stop()?;
            ensure!(report.undisturbed(), "{report:?}");
        }
    }

    /// A member leaves: what it has open is cut, what it begins is refused, and the other members notice nothing.
    fn b02_a_member_is_removed(backend) {
        let policy = |groups: &[&str]| [
            group("web", &[egress("")]),
            group("talkers", &[egress("")]),
            group("db", &[ingress("protocol = 'tcp', ports = 5432, remote_group = 'web'")]),
            port("db", 11, &["db"]),
            port("near", 12, &["web"]),
            port("far", 13, groups),
        ].concat();
        let lab = applied(members(backend).policy(&policy(&["web", "talkers"])))?;
        let [db, near, far] = [lab.guest("db")?, lab.guest("near")?, lab.guest("far")?];
        let mut flows = Vec::new();
        for family in Family::BOTH {
            flows.push((Flow::start(&near.tcp(&db, 5432, family))?, Flow::start(&far.tcp(&db, 5432, family))?));
        }
        lab.set_policy(&policy(&["talkers"]))?;
        lab.apply()?.success()?;
        for (stays, goes) in flows {
            ensure!(goes.is_cut(), "the connection of a guest that is no member any more lives on");
            goes.stop()?;
            ensure!(stays.lives(), "a member's connection was cut");
            let report = stays.stop()?;
            ensure!(report.broken.is_none() && !report.stalled(), "a member noticed: {report:?}");
        }
        check(tcp(&far, &db, &[], &[5432]));
        check(tcp(&near, &db, &[5432], &[]));
    }

    /// One address in two groups is in both, and leaves one without leaving the other; prefixes that overlap likewise.
    fn b03_remote_groups_with_addresses_in_common(backend) {
        let policy = |near: &[&str], outside: &str| [
            group("x", &[egress("")]),
            group("y", &[egress("")]),
            group("db", &[
                ingress("protocol = 'tcp', ports = 1001, remote_group = 'x'"),
                ingress("protocol = 'tcp', ports = 1002, remote_group = 'y'"),
                ingress("protocol = 'tcp', ports = '1000-1001', remote_group = 'y', ethertype = 'ipv6'"),
            ]),
            port("db", 11, &["db"]),
            // What is far's own address is near's pair, and outside's is within both their prefixes.
            port_with_pairs("far", 13, &["x"], &["{ address = '10.20.0.192/26' }", "{ address = 'fd20::c0/122' }"]),
            port_with_pairs("near", 12, &["y"], &[near, &[outside]].concat()),
        ].concat();
        let pairs = ["{ address = '10.20.0.13' }", "{ address = 'fd20::d' }"];
        let prefix = "{ address = '10.20.0.200/29' }, { address = 'fd20::c8/125' }";
        let lab = applied(members(backend).policy(&policy(&pairs, prefix)))?;
        let (db, near, far, outside) = (lab.guest("db")?, lab.guest("near")?, lab.guest("far")?, lab.outside());
        check(tcp(&far, &db, &[1001, 1002], &[1003]));
        check(tcp(outside, &db, &[1001, 1002], &[1003]));
        check([
            near.tcp(&db, 1001, Family::V4).blocked(),
            near.tcp(&db, 1001, Family::V6).passes(),
            near.tcp(&db, 1000, Family::V6).passes(),
            near.tcp(&db, 1002, Family::V4).passes(),
        ]);
        lab.set_policy(&policy(&[], prefix))?;
        lab.apply()?.success()?;
        check(tcp(&far, &db, &[1001], &[1002]));
        check(tcp(outside, &db, &[1001, 1002], &[]));
        lab.set_policy(&policy(&pairs, ""))?;
        lab.apply()?.success()?;
        check(tcp(&far, &db, &[1001, 1002], &[]));
        check(tcp(outside, &db, &[1001], &[1002]));
    }

    /// A member that may speak for everybody does not make everybody a member (neutron bug 1867119).
    fn b04_a_member_with_the_whole_world_as_its_pair(backend) {
        let pairs = ["{ address = '0.0.0.0/0' }", "{ address = '::/0' }"];
        let lab = applied(members(backend).policy(&[
            group("gateways", &[egress("")]),
            group("db", &[
                ingress("protocol = 'tcp', ports = 5432, remote_group = 'gateways'"),
                ingress("protocol = 'udp', ports = 53, remote_group = 'gateways'"),
                egress("protocol = 'tcp', ports = 80, remote_group = 'gateways'"),
            ]),
            port("db", 11, &["db"]),
            port_with_pairs("near", 12, &["gateways"], &pairs),
            port_with_pairs("far", 13, &["gateways"], &pairs),
        ].concat()))?;
        let [db, near, far] = [lab.guest("db")?, lab.guest("near")?, lab.guest("far")?];
        let outside = lab.outside();
        check(tcp(outside, &db, &[], &[5432]));
        check(tcp(&db, outside, &[], &[80]));
        check(tcp(&near, &db, &[5432], &[]));
        check(tcp(&far, &db, &[5432], &[]));
        for gateway in [&near, &far] {
            for (own, other) in addresses(gateway.mac.0[5]).into_iter().zip(addresses(77)) {
                check([
                    sends(gateway, &db, own, Transport::udp(50_000, 53))?.passes(),
                    // It may say so, but it is no member by that address.
                    sends(gateway, outside, other, Transport::udp(50_000, 53))?.passes(),
                    sends(gateway, &db, other, Transport::udp(50_000, 53))?.blocked(),
                ]);
            }
        }
    }

    /// All members live elsewhere (neutron bug 1862703: then nobody passed).
    fn b05_no_member_on_this_host(backend) {
        let lab = applied(members(backend).policy(&[
            group("web", &[egress("")]),
            group("db", &[ingress("protocol = 'tcp', ports = 5432, remote_group = 'web'")]),
            port("db", 11, &["db"]),
            port("far", 13, &["web"]),
        ].concat()))?;
        let [db, near, far] = [lab.guest("db")?, lab.guest("near")?, lab.guest("far")?];
        check(tcp(&far, &db, &[5432], &[22]));
        check(tcp(&near, &db, &[], &[5432]));
        check(tcp(lab.outside(), &db, &[], &[5432]));
    }

    /// A group, or a set, that nobody is in is nobody: not everybody, and no reason to refuse the rest. Its first member
    /// passes, and when that goes it is nobody again.
    fn b06_a_remote_group_without_members(backend) {
        let policy = |near: &[&str]| [
            "\n[[set]]\nid = 'nobody'\naddresses = []\n".to_owned(),
            group("web", &[egress("")]),
            group("talkers", &[egress("")]),
            group("db", &[
                ingress("protocol = 'tcp', ports = 5432, remote_group = 'web'"),
                ingress("protocol = 'tcp', ports = 5433, remote_set = 'nobody'"),
                ingress("protocol = 'tcp', ports = 22"),
                egress("protocol = 'tcp', ports = 80, remote_group = 'web'"),
                egress("protocol = 'tcp', ports = 81, remote_set = 'nobody'"),
            ]),
            port("db", 11, &["db"]),
            port("near", 12, near),
        ].concat();
        let lab = applied(members(backend).policy(&policy(&["talkers"])))?;
        let [db, near, far] = [lab.guest("db")?, lab.guest("near")?, lab.guest("far")?];
        for _ in 0..2 {
            for other in [&near, &far, lab.outside()] {
                check(tcp(other, &db, &[22], &[5432, 5433]));
            }
            check(tcp(&db, &far, &[], &[80, 81]));
            lab.set_policy(&policy(&["web", "talkers"]))?;
            lab.apply()?.success()?;
            check(tcp(&near, &db, &[22, 5432], &[5433]));
            check(tcp(&far, &db, &[22], &[5432, 5433]));
            let flow = Flow::start(&near.tcp(&db, 5432, Family::V4))?;
            lab.set_policy(&policy(&["talkers"]))?;
            lab.apply()?.success()?;
            ensure!(flow.is_cut(), "the last member's connection lives on");
            flow.stop()?;
        }
        check(tcp(&near, &db, &[22], &[5432, 5433]));
    }
}
