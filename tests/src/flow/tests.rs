use std::time::Duration;

use super::Flow;
use crate::station::Family;
use crate::testing::{filter_input, pair};

#[test]
fn an_undisturbed_flow_loses_nothing() {
    let (a, b) = pair();
    for family in Family::BOTH {
        for probe in [a.tcp(&b, 80, family), a.udp(&b, 53, family)] {
            let flow = Flow::start(&probe).unwrap();
            assert!(flow.lives(), "{probe}");
            std::thread::sleep(Duration::from_millis(50));
            let report = flow.stop().unwrap();
            assert!(report.answered > 5 && report.undisturbed(), "{probe}: {report:?}");
        }
    }
}

#[test]
fn a_cut_flow_is_noticed() {
    let (a, b) = pair();
    let flows =
        [a.tcp(&b, 80, Family::V4), a.udp(&b, 53, Family::V4)].map(|probe| Flow::start(&probe).unwrap());
    filter_input(&b, "-A INPUT -j DROP");
    for flow in flows {
        assert!(!flow.alive(Duration::from_millis(200)));
        std::thread::sleep(Duration::from_millis(300));
        let report = flow.stop().unwrap();
        assert!(report.longest_gap >= Duration::from_millis(150) && !report.undisturbed(), "{report:?}");
    }
}
