//! `PIF`

use drawbridge_wire::xmlrpc::Value;

use super::host::Host;
use super::network::Network;
use super::{Record, conversions, record, text, texts};
use crate::fields::{Fields, RecordError};
use crate::reference::{Bond, NetworkSriov, Ref, Uuid};

/// A physical network interface of a host, or a VLAN or bond made of such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pif {
    /// `uuid`
    pub uuid: Uuid<Self>,
    /// `device`: its name in dom0 without the VLAN.
    pub device: String,
    /// `network`
    pub network: Ref<Network>,
    /// `host`
    pub host: Ref<Host>,
    /// `VLAN`: the tag. XAPI writes -1 if there is none.
    pub vlan: Option<u16>,
    /// `management`: whether the host is managed through it.
    pub management: bool,
    /// `bond_slave_of`: null if it is part of no bond.
    pub bond_slave_of: Ref<Bond>,
    /// `sriov_logical_PIF_of`; versions before 7.5 do not have it.
    pub sriov_logical_pif_of: Vec<Ref<NetworkSriov>>,
}

conversions!(Pif, "PIF");

impl Pif {
    /// Whether guests on its network bypass dom0, so that nothing there can filter them.
    #[must_use]
    pub const fn is_sriov(&self) -> bool {
        !self.sriov_logical_pif_of.is_empty()
    }
}

impl Record for Pif {
    fn decode(value: &Value) -> Result<Self, RecordError> {
        let fields = Fields::of::<Self>(value)?;
        Ok(Self {
            uuid: fields.parsed("uuid", "a uuid")?,
            device: fields.string("device")?,
            network: fields.reference("network")?,
            host: fields.reference("host")?,
            vlan: fields.int::<Vlan>("VLAN", "a VLAN tag or -1")?.0,
            management: fields.bool("management")?,
            bond_slave_of: fields.reference("bond_slave_of")?,
            sriov_logical_pif_of: fields.references_or_none("sriov_logical_PIF_of")?,
        })
    }

    fn encode(&self) -> Value {
        record([
            ("uuid", text(&self.uuid)),
            ("device", text(&self.device)),
            ("network", text(&self.network)),
            ("host", text(&self.host)),
            ("VLAN", self.vlan.map_or_else(|| text(&-1), |number| text(&number))),
            ("management", self.management.into()),
            ("bond_slave_of", text(&self.bond_slave_of)),
            ("sriov_logical_PIF_of", texts(&self.sriov_logical_pif_of)),
        ])
    }
}

/// `PIF.VLAN` with XAPI's -1 told apart.
struct Vlan(Option<u16>);

impl TryFrom<i64> for Vlan {
    type Error = std::num::TryFromIntError;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        if number == -1 { Ok(Self(None)) } else { u16::try_from(number).map(|tag| Self(Some(tag))) }
    }
}
