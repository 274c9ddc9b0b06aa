//! The calls in use, typed.

use std::collections::BTreeMap;

use drawbridge_wire::xmlrpc::Value;

use super::{AnswerError, CallError, Client};
use crate::record::{Record, decode_records};
use crate::reference::{Class, Ref, Uuid};
use crate::{DefaultLockingMode, Host, LockingMode, Network, Pif, Pool, Vif, Vm};

/// Reading.
impl Client {
    /// All objects of a class: `<class>.get_all_records`.
    ///
    /// # Errors
    /// [`CallError`]; one record that cannot be understood is an error for all of them.
    pub async fn records<R: Record>(&self) -> Result<BTreeMap<Ref<R>, R>, CallError> {
        let method = method::<R>("get_all_records");
        let answer = self.call(&method, Vec::new()).await?;
        decode_records(&answer).map_err(|error| CallError::record(&method, error))
    }

    /// One object: `<class>.get_record`.
    ///
    /// # Errors
    /// [`CallError`]; `HANDLE_INVALID` if it is gone.
    pub async fn record<R: Record>(&self, object: &Ref<R>) -> Result<R, CallError> {
        let method = method::<R>("get_record");
        let answer = self.call(&method, vec![object.into()]).await?;
        R::decode(&answer).map_err(|error| CallError::record(&method, error.at(object.as_str())))
    }

    /// The object with a uuid: `<class>.get_by_uuid`.
    ///
    /// # Errors
    /// [`CallError`]; `UUID_INVALID` if there is none.
    pub async fn by_uuid<R: Record>(&self, uuid: Uuid<R>) -> Result<Ref<R>, CallError> {
        let method = method::<R>("get_by_uuid");
        let answer = self.call(&method, vec![uuid.to_string().into()]).await?;
        string(&method, answer).map(Ref::new)
    }

    /// All VMs, templates, snapshots and control domains.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn vms(&self) -> Result<BTreeMap<Ref<Vm>, Vm>, CallError> {
        self.records().await
    }

    /// All VIFs, those of templates and snapshots too.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn vifs(&self) -> Result<BTreeMap<Ref<Vif>, Vif>, CallError> {
        self.records().await
    }

    /// All networks.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn networks(&self) -> Result<BTreeMap<Ref<Network>, Network>, CallError> {
        self.records().await
    }

    /// All hosts.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn hosts(&self) -> Result<BTreeMap<Ref<Host>, Host>, CallError> {
        self.records().await
    }

    /// The pool, as a map of one.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn pools(&self) -> Result<BTreeMap<Ref<Pool>, Pool>, CallError> {
        self.records().await
    }

    /// All physical interfaces.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn pifs(&self) -> Result<BTreeMap<Ref<Pif>, Pif>, CallError> {
        self.records().await
    }
}

/// Plugins, VIFs and networks.
impl Client {
    /// Runs `function` of `plugin` in the dom0 of `host` and returns what it answers.
    ///
    /// # Errors
    /// [`CallError`]; a plugin can raise any code.
    pub async fn call_plugin(
        &self,
        host: &Ref<Host>,
        plugin: &str,
        function: &str,
        args: &BTreeMap<String, String>,
    ) -> Result<String, CallError> {
        const METHOD: &str = "host.call_plugin";
        let args = args.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
        let params = vec![host.into(), plugin.into(), function.into(), Value::Struct(args)];
        string(METHOD, self.call(METHOD, params).await?)
    }

    /// `VIF.set_locking_mode`. On a running VM this takes the interface off the bridge for a moment.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn set_locking_mode(&self, vif: &Ref<Vif>, mode: LockingMode) -> Result<(), CallError> {
        self.command("VIF.set_locking_mode", vec![vif.into(), mode.as_str().into()]).await
    }

    /// `VIF.set_ipv4_allowed`: the addresses a locked VIF may use.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn set_ipv4_allowed(&self, vif: &Ref<Vif>, addresses: &[String]) -> Result<(), CallError> {
        self.command("VIF.set_ipv4_allowed", vec![vif.into(), texts(addresses)]).await
    }

    /// `VIF.set_ipv6_allowed`: the addresses a locked VIF may use.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn set_ipv6_allowed(&self, vif: &Ref<Vif>, addresses: &[String]) -> Result<(), CallError> {
        self.command("VIF.set_ipv6_allowed", vec![vif.into(), texts(addresses)]).await
    }

    /// `network.set_default_locking_mode`. XAPI refuses while a VIF on it that follows the default is attached.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn set_default_locking_mode(
        &self,
        network: &Ref<Network>,
        mode: DefaultLockingMode,
    ) -> Result<(), CallError> {
        self.command("network.set_default_locking_mode", vec![network.into(), mode.as_str().into()]).await
    }

    /// Sets one key of `pool.other_config`, whatever it was (`pool.remove_from_other_config`, then
    /// `pool.add_to_other_config`: XAPI refuses to add a key that is there).
    ///
    /// # Errors
    /// [`CallError`]; between the two calls the key is not there.
    pub async fn set_pool_other_config(
        &self,
        pool: &Ref<Pool>,
        key: &str,
        value: &str,
    ) -> Result<(), CallError> {
        self.command("pool.remove_from_other_config", vec![pool.into(), key.into()]).await?;
        self.command("pool.add_to_other_config", vec![pool.into(), key.into(), value.into()]).await
    }
}

/// The life of a VM. These return when XAPI is done, which can take minutes:
/// see [`Client::with_call_timeout`].
impl Client {
    /// `VM.start`, on a host of XAPI's choice; `paused`: the domain and its VIFs are made, but do not run.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn start(&self, vm: &Ref<Vm>, paused: bool) -> Result<(), CallError> {
        self.command("VM.start", vec![vm.into(), paused.into(), false.into()]).await
    }

    /// `VM.start_on`: as [`Client::start`], on `host`.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn start_on(&self, vm: &Ref<Vm>, host: &Ref<Host>, paused: bool) -> Result<(), CallError> {
        self.command("VM.start_on", vec![vm.into(), host.into(), paused.into(), false.into()]).await
    }

    /// `VM.unpause`
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn unpause(&self, vm: &Ref<Vm>) -> Result<(), CallError> {
        self.command("VM.unpause", vec![vm.into()]).await
    }

    /// `VM.clean_reboot`
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn clean_reboot(&self, vm: &Ref<Vm>) -> Result<(), CallError> {
        self.command("VM.clean_reboot", vec![vm.into()]).await
    }

    /// `VM.hard_reboot`
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn hard_reboot(&self, vm: &Ref<Vm>) -> Result<(), CallError> {
        self.command("VM.hard_reboot", vec![vm.into()]).await
    }

    /// `VM.suspend`
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn suspend(&self, vm: &Ref<Vm>) -> Result<(), CallError> {
        self.command("VM.suspend", vec![vm.into()]).await
    }

    /// `VM.resume`; `paused` as for [`Client::start`].
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn resume(&self, vm: &Ref<Vm>, paused: bool) -> Result<(), CallError> {
        self.command("VM.resume", vec![vm.into(), paused.into(), false.into()]).await
    }

    /// `VM.pool_migrate`: moves a running VM to another host of the pool, live.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn pool_migrate(&self, vm: &Ref<Vm>, host: &Ref<Host>) -> Result<(), CallError> {
        let options = vec![("live".to_owned(), "true".into())];
        self.command("VM.pool_migrate", vec![vm.into(), host.into(), Value::Struct(options)]).await
    }

    /// `VM.hard_shutdown`
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn hard_shutdown(&self, vm: &Ref<Vm>) -> Result<(), CallError> {
        self.command("VM.hard_shutdown", vec![vm.into()]).await
    }

    /// `VM.destroy`: removes the VM, which must not run, with its VIFs.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn destroy(&self, vm: &Ref<Vm>) -> Result<(), CallError> {
        self.command("VM.destroy", vec![vm.into()]).await
    }
}

impl Client {
    /// A call that answers nothing: XAPI writes that as an empty string.
    async fn command(&self, method: &str, params: Vec<Value>) -> Result<(), CallError> {
        match self.call(method, params).await? {
            Value::String(answer) if answer.is_empty() => Ok(()),
            Value::Nil => Ok(()),
            other => Err(CallError::decode(method, AnswerError::unexpected("nothing", &other))),
        }
    }
}

fn method<C: Class>(name: &str) -> String {
    format!("{}.{name}", C::NAME)
}

fn string(method: &str, answer: Value) -> Result<String, CallError> {
    match answer {
        Value::String(text) => Ok(text),
        other => Err(CallError::decode(method, AnswerError::unexpected("a string", &other))),
    }
}

fn texts(items: &[String]) -> Value {
    items.iter().map(String::as_str).collect()
}

impl<C> From<&Ref<C>> for Value {
    fn from(reference: &Ref<C>) -> Self {
        Self::String(reference.as_str().to_owned())
    }
}
