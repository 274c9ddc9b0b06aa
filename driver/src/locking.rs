//! XAPI's own VIF locking: what iptables cannot see on a bridge, that is ARP and MAC addresses, XAPI filters with
//! ebtables when a VIF is `locked` (xenopsd `setup-vif-rules`).

use std::net::IpAddr;

use ruleset::model::{Port, PortSecurity};
use xenapi::{CallError, Client, Kind, LockingMode, PowerState, Ref, Vif};

/// A VIF with the locking it has and the locking it should have.
#[derive(Clone, Debug)]
pub struct VifLocking {
    /// XAPI's reference.
    pub reference: Ref<Vif>,
    /// For people.
    pub name: String,
    /// What should be.
    pub wanted: Locking,
    /// The record as read.
    pub found: Vif,
    /// Whether `network_default` means `disabled` on its network.
    pub default_is_disabled: bool,
}

/// How a VIF is locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locking {
    /// XAPI lets anything through; what the guest may say is for our rules alone.
    Open,
    /// Only the VIF's MAC and these addresses.
    Locked {
        /// `ipv4_allowed`
        ipv4: Vec<String>,
        /// `ipv6_allowed`
        ipv6: Vec<String>,
    },
    /// On the bridge, in whatever mode: the switch's flows check all that XAPI's locking would. A VIF that is off the bridge
    /// comes back `locked`, so that until its flows know its new port XAPI's own let next to nothing out.
    OnSwitch,
    /// What the network says: where that is `disabled`, the VIF is off the bridge.
    NetworkDefault,
}

/// The locking that fits a port.
///
/// XAPI can express single addresses behind the VIF's own MAC and nothing else, so a port with another MAC or a prefix among its
/// pairs stays open there: its IP packets are still checked by our rules, its ARP is not.
#[must_use]
pub fn wanted(port: &Port) -> Locking {
    let single = |p: &ruleset::model::AddressPair| {
        p.mac.is_none_or(|mac| mac == port.mac) && p.net.prefix_len() == p.net.max_prefix_len()
    };
    if port.security == PortSecurity::Off || !port.pairs.iter().all(single) {
        return Locking::Open;
    }
    let own = port.addresses.iter().copied().chain(port.pairs.iter().map(|p| p.net.addr()));
    let (mut ipv4, mut ipv6) = (Vec::new(), vec![port.mac.link_local().to_string()]);
    for address in own {
        match address {
            IpAddr::V4(a) => ipv4.push(a.to_string()),
            IpAddr::V6(a) => ipv6.push(a.to_string()),
        }
    }
    Locking::Locked { ipv4: canonical(&ipv4), ipv6: canonical(&ipv6) }
}

/// The locking that fits a port on an Open vSwitch host. Setting a mode takes the port off the switch and puts it back under
/// another number, so it is left alone wherever it does no harm.
#[must_use]
pub fn wanted_on_switch(port: &Port) -> Locking {
    match port.security {
        PortSecurity::On => Locking::OnSwitch,
        PortSecurity::Off => Locking::Open,
    }
}

/// Addresses in one spelling, sorted; what is no address stays as it is and so differs from any that is.
fn canonical(addresses: &[String]) -> Vec<String> {
    let spell = |text: &String| text.parse::<IpAddr>().map_or_else(|_| text.clone(), |a| a.to_string());
    let mut all: Vec<String> = addresses.iter().map(spell).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// One call to XAPI.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// `VIF.set_ipv4_allowed`
    Ipv4(Vec<String>),
    /// `VIF.set_ipv6_allowed`
    Ipv6(Vec<String>),
    /// `VIF.set_locking_mode`
    Mode(LockingMode),
}

impl VifLocking {
    /// What has to be called, in order: the addresses before the mode that makes them count.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        let mode = match self.found.locking_mode {
            LockingMode::NetworkDefault if self.default_is_disabled => LockingMode::Disabled,
            LockingMode::NetworkDefault => LockingMode::Unlocked,
            other => other,
        };
        let mut steps = Vec::new();
        match &self.wanted {
            // Who was disabled by hand stays so.
            Locking::NetworkDefault => match self.found.locking_mode {
                LockingMode::Locked | LockingMode::Unlocked => {
                    steps.push(Step::Mode(LockingMode::NetworkDefault));
                }
                LockingMode::NetworkDefault | LockingMode::Disabled => {}
            },
            Locking::OnSwitch if mode == LockingMode::Disabled => {
                steps.push(Step::Mode(LockingMode::Locked));
            }
            Locking::OnSwitch => {}
            Locking::Open if mode == LockingMode::Unlocked => {}
            Locking::Open => steps.push(Step::Mode(LockingMode::Unlocked)),
            Locking::Locked { ipv4, ipv6 } => {
                if canonical(&self.found.ipv4_allowed) != *ipv4 {
                    steps.push(Step::Ipv4(ipv4.clone()));
                }
                if canonical(&self.found.ipv6_allowed) != *ipv6 {
                    steps.push(Step::Ipv6(ipv6.clone()));
                }
                if mode != LockingMode::Locked {
                    steps.push(Step::Mode(LockingMode::Locked));
                }
            }
        }
        steps
    }

    /// The steps in words, for a plan.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let steps = self.steps().into_iter();
        let words = steps.map(|step| match step {
            Step::Ipv4(addresses) => format!("{}: ipv4_allowed {}", self.name, addresses.join(" ")),
            Step::Ipv6(addresses) => format!("{}: ipv6_allowed {}", self.name, addresses.join(" ")),
            Step::Mode(mode) => format!("{}: locking_mode {}", self.name, mode.as_str()),
        });
        words.collect()
    }

    /// Carries the steps out.
    ///
    /// # Errors
    /// [`CallError`]; the addresses are set before the mode, so that what was done leaves the VIF no more open.
    pub async fn carry_out(&self, client: &Client) -> Result<(), CallError> {
        for step in self.steps() {
            match step {
                Step::Ipv4(addresses) => client.set_ipv4_allowed(&self.reference, &addresses).await?,
                Step::Ipv6(addresses) => client.set_ipv6_allowed(&self.reference, &addresses).await?,
                Step::Mode(mode) => client.set_locking_mode(&self.reference, mode).await?,
            }
        }
        Ok(())
    }

    /// The same for a VIF without an interface, so that its next start finds it closed. It is read anew before: since it was found
    /// its VM may have been started, or be gone, and then there is nothing to do.
    ///
    /// # Errors
    /// [`CallError`]; then it may still be open.
    pub async fn close_idle(&self, client: &Client) -> Result<(), CallError> {
        match self.close_if_idle(client).await {
            Err(CallError::Api(error)) if matches!(error.kind(), Kind::HandleInvalid { .. }) => Ok(()),
            done => done,
        }
    }

    async fn close_if_idle(&self, client: &Client) -> Result<(), CallError> {
        let found = client.record(&self.reference).await?;
        let vm = client.record(&found.vm).await?;
        let is_up = matches!(vm.power_state, PowerState::Running | PowerState::Paused);
        match is_up && found.currently_attached {
            true => Ok(()),
            false => Self { found, ..self.clone() }.carry_out(client).await,
        }
    }
}

#[cfg(test)]
mod tests;
