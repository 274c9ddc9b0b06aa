//! `VM.pool_migrate`, in xapi's order: the receiving domain stands before the guest leaves the first, and the record says
//! where the VM is only when all is over, its domain a moment after its host (`pool_migrate_complete`).

use drawbridge_wire::xmlrpc::Value;

use super::{halt, move_residence, port, schedule, uuid};
use crate::error::ApiError;
use crate::faults::MigrationFault;
use crate::pool::Pool;
use crate::schema::{Class, NULL_REF};

/// Moves a running VM to another host, or to a new domain on its own.
pub(crate) fn migrate(pool: &Pool, vm: &str, destination: &str) -> Result<(), ApiError> {
    let source = pool.db().get(Class::Vm, vm)?.text("resident_on").to_owned();
    pool.reach(&source)?;
    schedule(pool, vm, destination);
    // Whoever sees what the fault does may be quicker to clear it than this is to wait for that.
    let epoch = pool.faults.epoch();
    let fault = pool.faults.take_migration().map(|fault| (fault, epoch));
    let domid = transfer(pool, vm, destination, fault).inspect_err(|_| schedule(pool, vm, NULL_REF))?;
    move_residence(&mut pool.db(), vm, destination);
    if let Some((MigrationFault::LateDomid, epoch)) = fault {
        pool.faults.hang_since(epoch);
    }
    pool.db().update(Class::Vm, vm, |vm| vm.set("domid", Value::Int(domid.into())));
    Ok(())
}

/// Makes the receiving domain and hands the guest over. The answer is the domain's id.
fn transfer(
    pool: &Pool,
    vm: &str,
    destination: &str,
    fault: Option<(MigrationFault, u64)>,
) -> Result<u32, ApiError> {
    let name = pool.reach(destination)?;
    let domid = pool.next_domid(destination);
    let (uuid, ports) = {
        let db = pool.db();
        let attached = |vif: &String| db.get(Class::Vif, vif).is_ok_and(|vif| vif.flag("currently_attached"));
        let vifs = db.vifs_of(vm).into_iter().filter(attached);
        let ports: Result<Vec<_>, _> =
            vifs.map(|vif| port(&db, &vif, domid, pool.addressing(&vif))).collect();
        (uuid(&db, vm)?, ports?)
    };
    pool.data_plane.receive_domain(&name, &uuid, &ports)?;
    let handed_over = match fault {
        Some((MigrationFault::Fail, _)) => Err(broken_off()),
        Some((MigrationFault::Lose, _)) => {
            halt(pool, vm)?;
            Err(broken_off())
        }
        Some((MigrationFault::Hold, epoch)) => {
            pool.faults.hang_since(epoch);
            pool.reach(destination).map(drop)
        }
        None | Some((MigrationFault::LateDomid, _)) => Ok(()),
    };
    let handed_over = handed_over.and_then(|()| Ok(pool.data_plane.hand_over(&uuid)?));
    handed_over.map(|()| domid).inspect_err(|_| {
        if let Err(error) = pool.data_plane.refuse_domain(&uuid) {
            tracing::error!(?error, "the receiving domain of a migration that failed cannot be removed");
        }
    })
}

/// What becomes of xenopsd's exception when the other side is gone.
fn broken_off() -> ApiError {
    ApiError::internal("xenopsd internal error: End_of_file")
}
