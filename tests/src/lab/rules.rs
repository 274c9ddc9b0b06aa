//! What stands in a dom0, asked by its own programs and not by the plugin: chains, flows, and how often they were
//! written.

use anyhow::{Context, Result, ensure};

use super::{Lab, NetworkBackend};
use crate::station::Family;

/// Our cookies, as `ovs-ofctl` takes and shows them.
const OUR_FLOWS: &str = "cookie=0x4457427200000000/0xffffffff00000000";
const OUR_COOKIE: &str = "cookie=0x44574272";

impl Lab {
    /// What switches packets on this host.
    ///
    /// # Errors
    /// No such host.
    pub fn network_backend(&self, host: &str) -> Result<NetworkBackend> {
        Ok(self.host(host)?.network_backend())
    }

    /// What the host's own `iptables-save` (not the plugin's) says, all tables, without counters.
    ///
    /// # Errors
    /// No such host, or the program failed.
    pub fn iptables_save(&self, host: &str, family: Family) -> Result<String> {
        self.save(host, family, &[])
    }

    /// The same with counters.
    ///
    /// # Errors
    /// As [`Self::iptables_save`].
    pub fn iptables_save_counters(&self, host: &str, family: Family) -> Result<String> {
        self.save(host, family, &["-c"])
    }

    fn save(&self, host: &str, family: Family, args: &[&str]) -> Result<String> {
        let program = match family {
            Family::V4 => "iptables-save",
            Family::V6 => "ip6tables-save",
        };
        self.dom0_program(host, program, args, b"")
    }

    /// Feeds the host's own `iptables-restore --noflush --counters`, as dom0's administrator would.
    ///
    /// # Errors
    /// No such host, or the program refused.
    pub fn iptables_restore(&self, host: &str, family: Family, rules: &str) -> Result<()> {
        let program = match family {
            Family::V4 => "iptables-restore",
            Family::V6 => "ip6tables-restore",
        };
        self.dom0_program(host, program, &["--noflush", "--counters"], rules.as_bytes()).map(drop)
    }

    /// The host's Open vSwitch bridges; not those that are a VLAN of another.
    ///
    /// # Errors
    /// No such host, or its Open vSwitch does not answer.
    pub fn switches(&self, host: &str) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for bridge in self.ovs_vsctl(host, &["list-br"])?.split_whitespace() {
            if self.ovs_vsctl(host, &["br-to-vlan", bridge])?.trim() == "0" {
                all.push(bridge.to_owned());
            }
        }
        Ok(all)
    }

    /// Every flow of the host, each with its bridge before it, ports by name (those that are gone by number), without
    /// counters, in the order of their text.
    ///
    /// # Errors
    /// No such host, or its Open vSwitch does not answer.
    pub fn flows(&self, host: &str) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for bridge in self.switches(host)? {
            let dumped = self.ovs_ofctl(host, &["--names", "--no-stats", "dump-flows", &bridge], b"")?;
            all.extend(dumped.lines().map(|flow| format!("{bridge} {}", flow.trim())));
        }
        all.sort();
        Ok(all)
    }

    /// Those of the [`flows`](Self::flows) that are not ours.
    ///
    /// # Errors
    /// As [`Self::flows`].
    pub fn foreign_flows(&self, host: &str) -> Result<Vec<String>> {
        Ok(self.flows(host)?.into_iter().filter(|flow| !flow.contains(OUR_COOKIE)).collect())
    }

    /// The host's own `ovs-ofctl`.
    ///
    /// # Errors
    /// No such host, or the program refused.
    pub fn ovs_ofctl(&self, host: &str, args: &[&str], stdin: &[u8]) -> Result<String> {
        self.dom0_program(host, "ovs-ofctl", args, stdin)
    }

    /// The host's own `ovs-vsctl`.
    ///
    /// # Errors
    /// No such host, or the program refused.
    pub fn ovs_vsctl(&self, host: &str, args: &[&str]) -> Result<String> {
        self.dom0_program(host, "ovs-vsctl", args, b"")
    }

    /// Has the host's switch decide anew about every packet, by its tables. A defect of 3.1 in user space: a cached flow
    /// now and then outlives the flows it was made of, through every later revalidation, though `ofproto/trace` of its
    /// packet says what the tables say.
    ///
    /// # Errors
    /// No such host, or the program refused.
    pub fn forget_cached_flows(&self, host: &str) -> Result<()> {
        self.dom0_program(host, "ovs-appctl", &["revalidator/purge"], b"")?;
        Ok(())
    }

    /// Every line that is there because of guests: of a Linux bridge host all that iptables has, of an Open vSwitch
    /// host our flows.
    ///
    /// # Errors
    /// No such host, or its programs failed.
    pub fn rules(&self, host: &str) -> Result<Vec<String>> {
        match self.network_backend(host)? {
            NetworkBackend::Bridge => {
                let saved = [self.iptables_save(host, Family::V4)?, self.iptables_save(host, Family::V6)?];
                Ok(saved.iter().flat_map(|text| text.lines()).map(str::to_owned).collect())
            }
            NetworkBackend::OpenVSwitch => {
                Ok(self.flows(host)?.into_iter().filter(|flow| flow.contains(OUR_COOKIE)).collect())
            }
        }
    }

    /// The lines of [`rules`](Self::rules) that speak of an interface that is gone, by the name it had (`vif5.0`); where
    /// flows know ports by number only, of any port that is gone.
    ///
    /// # Errors
    /// As [`Self::rules`]; or the interface is still on its bridge.
    pub fn rules_left_of(&self, host: &str, vif: &str) -> Result<Vec<String>> {
        let mut rules = self.rules(host)?;
        if self.network_backend(host)? == NetworkBackend::OpenVSwitch {
            let ports = self.ovs_vsctl(host, &["--bare", "--columns=name", "list", "Interface"])?;
            ensure!(!ports.lines().any(|port| port == vif), "{vif} is still a port of {host}");
            rules.retain(|flow| names_a_number(flow) || mentions(flow, vif));
        } else {
            rules.retain(|line| mentions(line, vif));
        }
        Ok(rules)
    }

    /// Packets that our rules have counted on this host.
    ///
    /// # Errors
    /// As [`Self::rules`].
    pub fn packets_counted(&self, host: &str) -> Result<u64> {
        let mut total = 0;
        match self.network_backend(host)? {
            NetworkBackend::Bridge => {
                for family in Family::BOTH {
                    let rules = self.iptables_save_counters(host, family)?;
                    let ours = rules.lines().filter(|line| line.contains("dwb-"));
                    let counts = ours
                        .filter_map(|line| line.strip_prefix('[')?.split(':').next()?.parse::<u64>().ok());
                    total += counts.sum::<u64>();
                }
            }
            NetworkBackend::OpenVSwitch => {
                for bridge in self.switches(host)? {
                    let flows = self.ovs_ofctl(host, &["dump-flows", &bridge, OUR_FLOWS], b"")?;
                    let counts = flows.lines().filter_map(|line| {
                        line.split_once("n_packets=")?.1.split(',').next()?.parse::<u64>().ok()
                    });
                    total += counts.sum::<u64>();
                }
            }
        }
        Ok(total)
    }

    /// Somebody takes a part of our rules out by hand: not so much that nothing is left, but that packets notice.
    ///
    /// # Errors
    /// No such host, or its programs failed.
    pub fn damage(&self, host: &str) -> Result<()> {
        match self.network_backend(host)? {
            NetworkBackend::Bridge => {
                self.iptables_restore(host, Family::V4, "*filter\n-F dwb-forward\nCOMMIT\n")
            }
            NetworkBackend::OpenVSwitch => {
                let flows = format!("table=75,{OUR_FLOWS}");
                self.ovs_ofctl(host, &["del-flows", &super::bridge(0), &flows], b"").map(drop)
            }
        }
    }

    /// How often rules were written on this host: audit lines of the programs that write, if they were let.
    ///
    /// # Errors
    /// No such host.
    pub fn writes(&self, host: &str) -> Result<usize> {
        let writes = |line: &&String| {
            line.contains("result=ok")
                && ["iptables-restore", "add-flows", "del-flows"].iter().any(|it| line.contains(it))
        };
        Ok(self.audit(host)?.iter().filter(writes).count())
    }

    /// The OpenFlow number of an interface.
    ///
    /// # Errors
    /// No such host or interface.
    pub fn ofport(&self, host: &str, vif: &str) -> Result<u32> {
        let said = self.ovs_vsctl(host, &["get", "Interface", vif, "ofport"])?;
        said.trim().parse().with_context(|| format!("{vif} of {host}: ofport {said:?}"))
    }
}

/// Whether a flow names a port by number, which `--names` does for those that are gone.
fn names_a_number(flow: &str) -> bool {
    ["in_port=", "output:"].iter().any(|key| {
        flow.match_indices(key)
            .any(|(at, _)| flow[at + key.len()..].starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// Whether `name` stands in `line` as a whole: vif1.0 is not in vif11.0.
#[must_use]
pub fn mentions(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + name.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}
