//! What an administrator, or nova, asks of XAPI.

use anyhow::{Context, Result};
use drawbridge_wire::xmlrpc::Value;
use xenapi::{DefaultLockingMode, LockingMode, Network, PowerState, Ref, Vif, Vm};

use super::Lab;

impl Lab {
    /// The record of the VM of this name.
    ///
    /// # Errors
    /// No such VM.
    pub fn vm(&self, name: &str) -> Result<(Ref<Vm>, Vm)> {
        self.runtime
            .block_on(self.client.vms())?
            .into_iter()
            .find(|(_, vm)| vm.name_label == name && !vm.is_a_snapshot && !vm.is_a_template)
            .with_context(|| format!("no VM {name}"))
    }

    /// The names dom0 knows the VM's interfaces by, first device first.
    ///
    /// # Errors
    /// No such VM, or it has no domain.
    pub fn vif_names(&self, name: &str) -> Result<Vec<String>> {
        let mut names = self.domain(name)?.vifs();
        names.sort();
        Ok(names)
    }

    /// `VM.start` on the host it is meant for.
    ///
    /// # Errors
    /// XAPI refused.
    pub fn start(&self, name: &str, paused: bool) -> Result<()> {
        let (vm, _) = self.vm(name)?;
        Ok(self.runtime.block_on(self.client.start(&vm, paused))?)
    }

    /// `VM.unpause`.
    ///
    /// # Errors
    /// XAPI refused.
    pub fn unpause(&self, name: &str) -> Result<()> {
        let (vm, _) = self.vm(name)?;
        Ok(self.runtime.block_on(self.client.unpause(&vm))?)
    }

    /// `VM.clean_reboot`.
    ///
    /// # Errors
    /// XAPI refused.
    pub fn clean_reboot(&self, name: &str) -> Result<()> {
        let (vm, _) = self.vm(name)?;
        Ok(self.runtime.block_on(self.client.clean_reboot(&vm))?)
    }

    /// `VM.hard_reboot`.
    ///
    /// # Errors
    /// XAPI refused.
    pub fn hard_reboot(&self, name: &str) -> Result<()> {
        let (vm, _) = self.vm(name)?;
        Ok(self.runtime.block_on(self.client.hard_reboot(&vm))?)
    }

    /// The guest reboots by itself; XAPI learns of it afterwards.
    ///
    /// # Errors
    /// It does not run.
    pub fn guest_reboots(&self, name: &str) -> Result<()> {
        Ok(self.runtime.block_on(self.mock()?.guest_reboots(name))?)
    }

    /// Whether the guest runs (and is not paused).
    ///
    /// # Errors
    /// XAPI could not be asked.
    pub fn is_running(&self, name: &str) -> Result<bool> {
        let vms = self.runtime.block_on(self.client.vms())?;
        Ok(vms.values().any(|vm| vm.name_label == name && vm.power_state == PowerState::Running))
    }

    /// Whether VIFs of this network pass nothing unless they are told to.
    ///
    /// # Errors
    /// No such network.
    pub fn is_guarded(&self, network: &str) -> Result<bool> {
        Ok(self
            .network(network)?
            .1
            .other_config
            .get("drawbridge:guarded")
            .is_some_and(|value| value == "true"))
    }

    /// `VM.suspend`.
    ///
    /// # Errors
    /// XAPI refused.
    pub fn suspend(&self, name: &str) -> Result<()> {
        let (vm, _) = self.vm(name)?;
        Ok(self.runtime.block_on(self.client.suspend(&vm))?)
    }

    /// `VM.resume`.
    ///
    /// # Errors
    /// XAPI refused.
    pub fn resume(&self, name: &str, paused: bool) -> Result<()> {
        let (vm, _) = self.vm(name)?;
        Ok(self.runtime.block_on(self.client.resume(&vm, paused))?)
    }

    /// `VM.hard_shutdown`.
    ///
    /// # Errors
    /// XAPI refused.
    pub fn hard_shutdown(&self, name: &str) -> Result<()> {
        let (vm, _) = self.vm(name)?;
        Ok(self.runtime.block_on(self.client.hard_shutdown(&vm))?)
    }

    /// `VM.destroy`.
    ///
    /// # Errors
    /// XAPI refused.
    pub fn destroy(&self, name: &str) -> Result<()> {
        let (vm, _) = self.vm(name)?;
        Ok(self.runtime.block_on(self.client.destroy(&vm))?)
    }

    /// `VM.pool_migrate`, live.
    ///
    /// # Errors
    /// No such VM or host, or XAPI refused.
    pub fn migrate(&self, name: &str, host: &str) -> Result<()> {
        let (vm, _) = self.vm(name)?;
        let hosts = self.runtime.block_on(self.client.hosts())?;
        let to = hosts.iter().find(|(_, record)| record.name_label == host);
        let (to, _) = to.with_context(|| format!("no host {host}"))?;
        Ok(self.runtime.block_on(self.client.pool_migrate(&vm, to))?)
    }

    /// The record of a VM's interface.
    ///
    /// # Errors
    /// No such VM or device.
    pub fn vif(&self, name: &str, device: u32) -> Result<(Ref<Vif>, Vif)> {
        let (vm, _) = self.vm(name)?;
        self.runtime
            .block_on(self.client.vifs())?
            .into_iter()
            .find(|(_, vif)| vif.vm == vm && vif.device == device)
            .with_context(|| format!("{name} has no VIF {device}"))
    }

    /// `VIF.plug`.
    ///
    /// # Errors
    /// No such VIF, or XAPI refused.
    pub fn plug(&self, name: &str, device: u32) -> Result<()> {
        self.vif_call("VIF.plug", name, device)
    }

    /// `VIF.unplug`.
    ///
    /// # Errors
    /// No such VIF, or XAPI refused.
    pub fn unplug(&self, name: &str, device: u32) -> Result<()> {
        self.vif_call("VIF.unplug", name, device)
    }

    fn vif_call(&self, method: &str, name: &str, device: u32) -> Result<()> {
        let (vif, _) = self.vif(name, device)?;
        self.xapi(method, vec![Value::from(&vif)]).map(drop)
    }

    /// `VIF.set_locking_mode`.
    ///
    /// # Errors
    /// No such VIF, or XAPI refused.
    pub fn set_locking_mode(&self, name: &str, device: u32, mode: LockingMode) -> Result<()> {
        let (vif, _) = self.vif(name, device)?;
        Ok(self.runtime.block_on(self.client.set_locking_mode(&vif, mode))?)
    }

    /// `network.set_default_locking_mode`.
    ///
    /// # Errors
    /// No such network, or XAPI refused.
    pub fn set_default_locking_mode(&self, network: &str, mode: DefaultLockingMode) -> Result<()> {
        let (network, _) = self.network(network)?;
        Ok(self.runtime.block_on(self.client.set_default_locking_mode(&network, mode))?)
    }

    /// The record of the network of this name.
    ///
    /// # Errors
    /// No such network.
    pub fn network(&self, name: &str) -> Result<(Ref<Network>, Network)> {
        let networks = self.runtime.block_on(self.client.networks())?;
        networks
            .into_iter()
            .find(|(_, network)| network.name_label == name)
            .with_context(|| format!("no network {name}, only {:?}", self.networks))
    }

    /// Any other call of XAPI's.
    ///
    /// # Errors
    /// XAPI refused.
    pub fn xapi(&self, method: &str, params: Vec<Value>) -> Result<Value> {
        self.runtime.block_on(self.client.call(method, params)).with_context(|| method.to_owned())
    }
}
