//! `VIF`

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use drawbridge_wire::xmlrpc::Value;

use super::network::Network;
use super::vm::Vm;
use super::{Record, conversions, map, names, record, text, texts};
use crate::fields::{Fields, RecordError};
use crate::reference::{Ref, Uuid};

/// A virtual network interface. In dom0 it is `vif<domid>.<device>` (and `tap<domid>.<device>` while emulated).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vif {
    /// `uuid`
    pub uuid: Uuid<Self>,
    /// `device`: its number within the VM.
    pub device: u32,
    /// `MAC`
    pub mac: Mac,
    /// `network`
    pub network: Ref<Network>,
    /// `VM`
    pub vm: Ref<Vm>,
    /// `currently_attached`
    pub currently_attached: bool,
    /// `locking_mode`
    pub locking_mode: LockingMode,
    /// `ipv4_allowed`, as text: XAPI accepts spellings of an address that others do not.
    pub ipv4_allowed: Vec<String>,
    /// `ipv6_allowed`, as text for the same reason.
    pub ipv6_allowed: Vec<String>,
    /// `other_config`
    pub other_config: BTreeMap<String, String>,
}

/// `VIF.locking_mode`: what XAPI itself lets the guest send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockingMode {
    /// What the network's `default_locking_mode` says.
    NetworkDefault,
    /// Only its own MAC address and the allowed addresses.
    Locked,
    /// Anything.
    Unlocked,
    /// Nothing: the interface is not on the bridge.
    Disabled,
}

names!(LockingMode {
    NetworkDefault = "network_default",
    Locked = "locked",
    Unlocked = "unlocked",
    Disabled = "disabled",
});
conversions!(Vif, "VIF");

impl Record for Vif {
    fn decode(value: &Value) -> Result<Self, RecordError> {
        let fields = Fields::of::<Self>(value)?;
        Ok(Self {
            uuid: fields.parsed("uuid", "a uuid")?,
            device: fields.int("device", "the number of a device")?,
            mac: fields.parsed("MAC", "a MAC address")?,
            network: fields.reference("network")?,
            vm: fields.reference("VM")?,
            currently_attached: fields.bool("currently_attached")?,
            locking_mode: fields.parsed("locking_mode", "network_default, locked, unlocked or disabled")?,
            ipv4_allowed: fields.strings("ipv4_allowed")?,
            ipv6_allowed: fields.strings("ipv6_allowed")?,
            other_config: fields.map("other_config")?,
        })
    }

    fn encode(&self) -> Value {
        record([
            ("uuid", text(&self.uuid)),
            ("device", text(&self.device)),
            ("MAC", text(&self.mac)),
            ("network", text(&self.network)),
            ("VM", text(&self.vm)),
            ("currently_attached", self.currently_attached.into()),
            ("locking_mode", text(&self.locking_mode)),
            ("ipv4_allowed", texts(&self.ipv4_allowed)),
            ("ipv6_allowed", texts(&self.ipv6_allowed)),
            ("other_config", map(&self.other_config)),
        ])
    }
}

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(
    /// In the order in which they are sent.
    pub [u8; 6],
);

/// Lower case with colons, as XAPI writes it.
impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no MAC address: six pairs of hexadecimal digits with colons between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address")]
pub struct InvalidMac;

impl FromStr for Mac {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let mut octets = [0; 6];
        let mut pairs = text.split(':');
        for octet in &mut octets {
            let pair =
                pairs.next().filter(|pair| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()));
            *octet = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or(InvalidMac)?;
        }
        if pairs.next().is_some() { Err(InvalidMac) } else { Ok(Self(octets)) }
    }
}
