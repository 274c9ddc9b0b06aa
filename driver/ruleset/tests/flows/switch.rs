//! A switch as a model: text in, text out, and the ports of one host.

use std::collections::BTreeMap;

use ruleset::ids::{Interface, Mac};
use ruleset::ovs::{Network, Observed, OfPort, OvsHost, PortKind, SwitchPort, parse_dump_flows};
use ruleset::resolve::HostPolicy;

use crate::generate::Random;

/// The real bridge; `xapi1` is its fake bridge with this tag.
pub(crate) const PARENT: &str = "xenbr0";
pub(crate) const TAG: u16 = 5;

/// MACs that are no port's of the policy.
pub(crate) const DOM0: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
pub(crate) const OTHERS: [(&str, Option<u16>, Mac); 4] = [
    ("vif99.0", Some(TAG), Mac([2, 0, 0, 0, 9, 1])),
    ("vif2000.0", Some(TAG), Mac([2, 0, 0, 0, 9, 2])),
    ("tap100.5", None, Mac([2, 0, 0, 0, 9, 3])),
    ("vif1.7", None, Mac([2, 0, 0, 0, 9, 4])),
];

/// Flows as `add-flows` leaves them: text by table, priority and match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model(BTreeMap<String, String>);

impl Model {
    /// Carries out one line.
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(flow) = line.strip_prefix("add ") {
            let (key, actions) = flow.split_once(",actions=").unwrap();
            let (cookie, key) = key.split_once(',').unwrap();
            self.0.insert(key.to_owned(), format!(" {cookie}, duration=1.5s, {key} actions={actions}"));
        } else {
            let flow = line.strip_prefix("delete_strict ").unwrap();
            let (_, key) = flow.split_once(',').unwrap();
            assert!(self.0.remove(key).is_some(), "{line}: no such flow");
        }
    }

    pub(crate) fn apply(&mut self, text: &str) {
        text.lines().for_each(|line| self.line(line));
    }

    pub(crate) fn dump(&self) -> String {
        let mut text = "OFPST_FLOW reply (OF1.4) (xid=0x2):\n".to_owned();
        for line in self.0.values() {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    pub(crate) fn observed(&self) -> Observed {
        parse_dump_flows(&self.dump()).unwrap()
    }
}

pub(crate) fn parent() -> Interface {
    PARENT.parse().unwrap()
}

pub(crate) fn tag_of(network: &str) -> Option<u16> {
    (network != PARENT).then_some(TAG)
}

/// A wire, dom0's interfaces, guests that are no ports of ours, and the policy's VIFs, some with a tap.
pub(crate) fn switch(r: &mut Random, host: &HostPolicy) -> OvsHost {
    let mut ports = Vec::new();
    let mut next = 1;
    let mut add = |name: &str, ofport: Option<OfPort>, tag, kind| {
        let ofport = ofport.unwrap_or(OfPort::Number(next));
        next += 1;
        ports.push(SwitchPort { name: name.to_owned(), ofport, tag, kind });
    };
    add("eth0", None, None, PortKind::Wire { bonded: false });
    add(PARENT, Some(OfPort::Local), None, PortKind::Internal { mac: Some(DOM0[0]) });
    add("xapi1", None, Some(TAG), PortKind::Internal { mac: Some(DOM0[1]) });
    for (name, tag, mac) in OTHERS {
        // One may be the driver's own VM.
        let network = if tag.is_some() { "xapi1" } else { PARENT };
        let own = host.lifelines_on(network).next().filter(|_| r.percent(60)).map(|line| line.mac);
        let mac = own.unwrap_or(mac);
        add(name, None, tag, PortKind::Guest { vif: None, mac: Some(mac), locked: false });
    }
    for attachment in &host.attachments {
        let [vif, tap] = attachment.interfaces();
        let tag = tag_of(attachment.bridge.as_str());
        let mac = Some(attachment.port.mac);
        let known = r.percent(80).then(|| attachment.port.vif.clone());
        add(&vif, None, tag, PortKind::Guest { vif: known.clone(), mac, locked: false });
        if r.percent(40) {
            add(&tap, None, tag, PortKind::Guest { vif: known, mac, locked: false });
        }
    }
    // Some that are about to arrive are plugged already.
    for (n, expected) in host.expected.iter().enumerate() {
        if r.percent(70) {
            let (tag, mac) = (tag_of(expected.bridge.as_str()), Some(expected.port.mac));
            let vif = Some(expected.port.vif.clone());
            add(&format!("vif{}.0", 30_000 + n), None, tag, PortKind::Guest { vif, mac, locked: false });
        }
    }
    let network = |tag| Network { parent: parent(), tag };
    OvsHost {
        networks: [(parent(), network(None)), ("xapi1".parse().unwrap(), network(Some(TAG)))].into(),
        ports: [(parent(), ports)].into(),
    }
}
