//! `VM.*`: the life of a VM.

use drawbridge_wire::xmlrpc::Value;

use super::{Call, Methods};
use crate::config::Role;
use crate::db::Db;
use crate::domain;
use crate::error::{ApiError, Reply};
use crate::pool::Pool;
use crate::schema::{Class, NULL_REF};

/// What can be done to a VM, as `xapi_vm_lifecycle.ml` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Start,
    StartOn,
    Pause,
    Unpause,
    CleanReboot,
    HardReboot,
    Suspend,
    Resume,
    ResumeOn,
    CleanShutdown,
    HardShutdown,
    PoolMigrate,
    Destroy,
    CallPlugin,
}

impl Operation {
    const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::StartOn => "start_on",
            Self::Pause => "pause",
            Self::Unpause => "unpause",
            Self::CleanReboot => "clean_reboot",
            Self::HardReboot => "hard_reboot",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::ResumeOn => "resume_on",
            Self::CleanShutdown => "clean_shutdown",
            Self::HardShutdown => "hard_shutdown",
            Self::PoolMigrate => "pool_migrate",
            Self::Destroy => "destroy",
            Self::CallPlugin => "call_plugin",
        }
    }

    /// `allowed_power_states`, in its order: the error message lists them so.
    const fn power_states(self) -> &'static [&'static str] {
        match self {
            Self::Start | Self::StartOn => &["Halted"],
            Self::Unpause => &["Paused"],
            Self::Resume | Self::ResumeOn => &["Suspended"],
            Self::Pause
            | Self::CleanReboot
            | Self::Suspend
            | Self::CleanShutdown
            | Self::PoolMigrate
            | Self::CallPlugin => &["Running"],
            Self::HardReboot => &["Paused", "Running"],
            Self::HardShutdown => &["Paused", "Suspended", "Running"],
            Self::Destroy => &["Halted", "Suspended"],
        }
    }
}

/// `check_operation_error`: whether the VM may undergo this now.
pub(crate) fn check(db: &Db, vm: &str, operation: Operation) -> Result<(), ApiError> {
    let record = db.get(Class::Vm, vm)?;
    let state = record.text("power_state");
    if !operation.power_states().contains(&state) {
        let expected = operation.power_states().join(", ").to_lowercase();
        return Err(ApiError::new("VM_BAD_POWER_STATE", [vm, &expected, &state.to_lowercase()]));
    }
    let snapshot = record.flag("is_a_snapshot");
    if record.flag("is_a_template") && !snapshot && operation != Operation::Destroy {
        return Err(ApiError::new("VM_IS_TEMPLATE", [vm, operation.name()]));
    }
    if snapshot && !matches!(operation, Operation::Destroy | Operation::HardShutdown) {
        return Err(ApiError::new("VM_IS_SNAPSHOT", [vm, operation.name()]));
    }
    if record.flag("is_control_domain") && !matches!(operation, Operation::Start | Operation::StartOn) {
        return Err(ApiError::not_allowed("This operation is not allowed on a control domain"));
    }
    Ok(())
}

pub(super) fn register(methods: &mut Methods) {
    use Role::{VmAdmin, VmOperator, VmPowerAdmin};
    methods.add_async("VM.start", 3, VmOperator, |call| {
        call.flag(2)?;
        start(call, Operation::Start, None, call.flag(1)?)
    });
    methods.add_async("VM.start_on", 4, VmPowerAdmin, |call| {
        call.flag(3)?;
        start(call, Operation::StartOn, Some(call.text(1)?), call.flag(2)?)
    });
    methods.add_async("VM.resume", 3, VmOperator, |call| {
        call.flag(2)?;
        start(call, Operation::Resume, None, call.flag(1)?)
    });
    methods.add_async("VM.resume_on", 4, VmPowerAdmin, |call| {
        call.flag(3)?;
        start(call, Operation::ResumeOn, Some(call.text(1)?), call.flag(2)?)
    });
    methods.add_async("VM.unpause", 1, VmOperator, |call| on_resident(call, Operation::Unpause, domain::run));
    methods.add_async("VM.pause", 1, VmOperator, |call| on_resident(call, Operation::Pause, domain::pause));
    methods.add_async("VM.clean_reboot", 1, VmOperator, |call| {
        on_resident(call, Operation::CleanReboot, domain::reboot)
    });
    methods.add_async("VM.hard_reboot", 1, VmOperator, |call| {
        on_resident(call, Operation::HardReboot, domain::reboot)
    });
    methods.add_async("VM.suspend", 1, VmOperator, |call| {
        on_resident(call, Operation::Suspend, domain::suspend)
    });
    methods.add_async("VM.clean_shutdown", 1, VmOperator, |call| {
        on_resident(call, Operation::CleanShutdown, domain::halt)
    });
    methods.add_async("VM.hard_shutdown", 1, VmOperator, |call| {
        on_resident(call, Operation::HardShutdown, domain::halt)
    });
    methods.add_async("VM.pool_migrate", 3, VmPowerAdmin, pool_migrate);
    methods.add_async("VM.destroy", 1, VmAdmin, destroy);
}

/// Start or resume, on the host asked for or the one that suits best.
fn start(call: &Call, operation: Operation, host: Option<&str>, paused: bool) -> Reply {
    let (pool, vm) = (&call.pool, call.text(0)?);
    let _claim = pool.claim(vm);
    let host = {
        let db = pool.db();
        check(&db, vm, operation)?;
        match host {
            Some(host) => {
                assert_can_boot_here(&db, host)?;
                host.to_owned()
            }
            None => domain::choose_host(pool, &db, vm)?,
        }
    };
    let resuming = matches!(operation, Operation::Resume | Operation::ResumeOn);
    domain::schedule(pool, vm, &host);
    domain::start(pool, vm, &host, paused, resuming).inspect_err(|_| domain::schedule(pool, vm, NULL_REF))?;
    Ok(Value::from(""))
}

/// `assert_can_boot_here`, in its order.
fn assert_can_boot_here(db: &Db, host: &str) -> Result<(), ApiError> {
    let enabled = db.get(Class::Host, host)?.flag("enabled");
    if !db.live(host) {
        return Err(ApiError::new::<&str>("HOST_NOT_LIVE", []));
    }
    if enabled { Ok(()) } else { Err(ApiError::new("HOST_DISABLED", [host])) }
}

/// Something the host on which the VM runs has to do.
fn on_resident(call: &Call, operation: Operation, act: fn(&Pool, &str) -> Result<(), ApiError>) -> Reply {
    let (pool, vm) = (&call.pool, call.text(0)?);
    let _claim = pool.claim(vm);
    let host = {
        let db = pool.db();
        check(&db, vm, operation)?;
        db.get(Class::Vm, vm)?.text("resident_on").to_owned()
    };
    // A suspended VM runs nowhere.
    if host != NULL_REF {
        pool.reach(&host)?;
    }
    act(pool, vm)?;
    Ok(Value::from(""))
}

/// `(VM, host, options)`; the options are not looked at: every migration is live.
fn pool_migrate(call: &Call) -> Reply {
    let (pool, vm, host) = (&call.pool, call.text(0)?, call.text(1)?);
    call.map(2)?;
    let _claim = pool.claim(vm);
    {
        let db = pool.db();
        check(&db, vm, Operation::PoolMigrate)?;
        assert_can_boot_here(&db, host)?;
    }
    domain::migrate(pool, vm, host)?;
    Ok(Value::from(""))
}

fn destroy(call: &Call) -> Reply {
    let (pool, vm) = (&call.pool, call.text(0)?);
    let _claim = pool.claim(vm);
    let mut db = pool.db();
    check(&db, vm, Operation::Destroy)?;
    for vif in db.vifs_of(vm) {
        db.delete_vif(&vif);
    }
    let original = db.get(Class::Vm, vm)?.text("snapshot_of").to_owned();
    db.update(Class::Vm, &original, |original| original.remove("snapshots", vm));
    db.delete(Class::Vm, vm);
    Ok(Value::from(""))
}
