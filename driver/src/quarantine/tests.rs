use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use ruleset::ids::GroupId;
use ruleset::model::{Port, PortSecurity};
use ruleset::resolve::Attachment;

use super::*;

/// A dom0 that refuses these groups.
struct Refuses {
    groups: Vec<GroupId>,
    asked: AtomicUsize,
}

impl Trial for Refuses {
    type Error = Infallible;

    async fn accepts(&self, policy: HostPolicy) -> Result<bool, Infallible> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut used = policy.attachments.iter().flat_map(|a| &a.port.groups);
        Ok(!used.any(|group| self.groups.contains(group)))
    }
}

/// 100 ports, each in a group of its own.
fn policy() -> HostPolicy {
    let attachment = |n: u32| Attachment {
        port: Port {
            vif: format!("v{n}").parse().unwrap(),
            mac: "00:16:3e:00:00:01".parse().unwrap(),
            addresses: Vec::new(),
            pairs: Vec::new(),
            groups: vec![format!("g{n}").parse().unwrap()],
            security: PortSecurity::On,
        },
        domid: n,
        device: 0,
        bridge: "xenbr0".parse().unwrap(),
    };
    HostPolicy { attachments: (0..100).map(attachment).collect(), ..HostPolicy::default() }
}

async fn refused(groups: &[&str]) -> (Vec<String>, usize) {
    let groups = groups.iter().map(|name| name.parse().unwrap()).collect();
    let dom0 = Refuses { groups, asked: AtomicUsize::default() };
    let Ok(found) = refused_ports(&policy(), &dom0).await;
    let names = found.into_iter().flatten().map(|vif| vif.to_string()).collect();
    (names, dom0.asked.into_inner())
}

#[tokio::test]
async fn the_refused_are_found_among_many_with_few_questions() {
    let (names, asked) = refused(&["g17"]).await;
    assert_eq!(names, ["v17"]);
    assert!(asked <= 2 + 2 * 7 + 1, "{asked}");
    let (names, _) = refused(&["g3", "g99", "g4"]).await;
    assert_eq!(names, ["v3", "v4", "v99"]);
    assert_eq!(refused(&[]).await.0, [""; 0]);
}

/// What is refused even with every port closed is none of theirs.
#[tokio::test]
async fn what_no_port_is_to_blame_for_closes_none() {
    struct Nothing;
    impl Trial for Nothing {
        type Error = Infallible;

        async fn accepts(&self, _: HostPolicy) -> Result<bool, Infallible> {
            Ok(false)
        }
    }
    assert_eq!(refused_ports(&policy(), &Nothing).await, Ok(None));
}
