//! What the store holds, as a policy.

use store::{PortSpec, PortTarget, Snapshot};

use super::policy_file::{self, Origin, PolicyFile, Target};

impl From<Snapshot> for PolicyFile {
    fn from(snapshot: Snapshot) -> Self {
        let Snapshot { generation: _, adopted: _, policy, ports, guarded_networks } = snapshot;
        Self { policy, ports: ports.into_iter().map(Into::into).collect(), guarded_networks }
    }
}

impl From<PortSpec> for policy_file::PortSpec {
    fn from(port: PortSpec) -> Self {
        let PortSpec { id, target, groups, addresses, pairs, security } = port;
        let target = match target {
            PortTarget::Device { vm, device } => Target::Device { vm, device },
            PortTarget::Vif(uuid) => Target::Vif(uuid),
        };
        Self { target, groups, addresses, pairs, security, origin: Origin::Stored(id.to_string()) }
    }
}
