//! What XAPI knows, read at one time.

use std::collections::BTreeMap;

use xenapi::{CallError, Client, Host, Network, Pif, Ref, Vif, Vm};

/// The records of a pool.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Hosts.
    pub hosts: BTreeMap<Ref<Host>, Host>,
    /// VMs, templates and snapshots included.
    pub vms: BTreeMap<Ref<Vm>, Vm>,
    /// VIFs of all those.
    pub vifs: BTreeMap<Ref<Vif>, Vif>,
    /// Networks.
    pub networks: BTreeMap<Ref<Network>, Network>,
    /// Physical interfaces: they tell which networks bypass dom0.
    pub pifs: BTreeMap<Ref<Pif>, Pif>,
}

impl Inventory {
    /// Reads all of it.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn read(client: &Client) -> Result<Self, CallError> {
        let (hosts, vms, vifs, networks, pifs) =
            tokio::try_join!(client.hosts(), client.vms(), client.vifs(), client.networks(), client.pifs())?;
        Ok(Self { hosts, vms, vifs, networks, pifs })
    }

    /// The guests that go by this name or uuid; several VMs may have one name.
    pub fn guests<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Ref<Vm>, &'a Vm)> + 'a {
        self.vms
            .iter()
            .filter(move |(_, vm)| vm.is_guest() && (vm.uuid.to_string() == name || vm.name_label == name))
    }

    /// Whether guests on this network bypass dom0 (SR-IOV).
    #[must_use]
    pub fn bypasses_dom0(&self, network: &Network) -> bool {
        network.pifs.iter().filter_map(|pif| self.pifs.get(pif)).any(Pif::is_sriov)
    }
}
