//! Names and numbers with an invariant, each checked once where it enters.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a text is not one of this module's types.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {kind}: {reason}")]
pub struct InvalidId {
    kind: &'static str,
    text: String,
    reason: &'static str,
}

impl InvalidId {
    pub(crate) fn new(kind: &'static str, text: &str, reason: &'static str) -> Self {
        Self { kind, text: text.chars().take(80).collect(), reason }
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let check: fn(&str) -> Result<(), &'static str> = $check;
                match check(text) {
                    Ok(()) => Ok(Self(text.to_owned())),
                    Err(reason) => Err(InvalidId::new($kind, text, reason)),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn identifier(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > 64 {
        return Err("it has 1 to 64 characters");
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':')) {
        return Err("only letters, digits and - _ . : may stand in it");
    }
    Ok(())
}

/// `IFNAMSIZ` less the NUL (linux/if.h).
const MAX_INTERFACE_NAME: usize = 15;

fn interface(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > MAX_INTERFACE_NAME {
        return Err("it has 1 to 15 characters");
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err("only letters, digits and - _ . may stand in it");
    }
    Ok(())
}

text_id! {
    /// A security group's id.
    GroupId, "group id", identifier
}
text_id! {
    /// An address set's id.
    SetId, "address set id", identifier
}
text_id! {
    /// A rule's id, unique within its group.
    RuleId, "rule id", identifier
}
text_id! {
    /// XAPI's uuid of a VIF: the identity of a port.
    VifUuid, "VIF uuid", identifier
}
text_id! {
    /// A network interface or bridge in dom0, at most 15 bytes.
    Interface, "interface name", interface
}

/// A chain of ours: `dwb-` and 1 to 24 more characters; 28 bytes is iptables' limit. Cheap to clone: every rule that
/// leads somewhere holds one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainName(Arc<str>);

impl ChainName {
    /// What every chain of ours begins with.
    pub const PREFIX: &'static str = "dwb-";

    /// `dwb-` followed by `rest`.
    ///
    /// # Errors
    /// When the whole is longer than 28 bytes or has a character outside `A-Za-z0-9._-`.
    pub fn ours(rest: &str) -> Result<Self, InvalidId> {
        format!("{}{rest}", Self::PREFIX).parse()
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ChainName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let refuse = |reason| Err(InvalidId::new("chain name", text, reason));
        let Some(rest) = text.strip_prefix(Self::PREFIX) else { return refuse("ours begin with dwb-") };
        if rest.is_empty() || text.len() > 28 {
            return refuse("it has 5 to 28 characters");
        }
        if !rest.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            return refuse("only letters, digits and - _ . may stand in it");
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The IPv6 link-local address a host forms from this MAC (RFC 4291 appendix A, modified EUI-64).
    #[must_use]
    pub fn link_local(self) -> std::net::Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        std::net::Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }
}

impl FromStr for Mac {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let refuse = || InvalidId::new("MAC address", text, "six hex pairs with colons are needed");
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(refuse)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
        }
        if parts.next().is_some() {
            return Err(refuse());
        }
        if octets[0] & 1 == 1 {
            return Err(InvalidId::new("MAC address", text, "it is a multicast address"));
        }
        Ok(Self(octets))
    }
}

impl TryFrom<String> for Mac {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_where_they_enter() {
        for good in ["web", "a", "3f2b-x_y.z:1"] {
            assert!(good.parse::<GroupId>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "a\n", "ü", &"x".repeat(65)] {
            assert!(bad.parse::<GroupId>().is_err(), "{bad}");
        }
        assert!("vif12345.6".parse::<Interface>().is_ok());
        for bad in ["", "sixteen-letters-", "vif1+", "a/b", "a b"] {
            assert!(bad.parse::<Interface>().is_err(), "{bad}");
        }
        assert!(ChainName::ours("0123456789abcdefghijklmn").is_ok());
        assert!(ChainName::ours("0123456789abcdefghijklmno").is_err());
        for bad in ["FORWARD", "dwb-", "dwb", "xdwb-a", "dwb-a b"] {
            assert!(bad.parse::<ChainName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mac_gives_its_link_local_address() {
        let mac: Mac = "00:16:3e:aa:bb:cc".parse().unwrap();
        assert_eq!(mac.link_local().to_string(), "fe80::216:3eff:feaa:bbcc");
        assert_eq!(mac.to_string(), "00:16:3e:aa:bb:cc");
        for bad in [
            "",
            "00:16:3e:aa:bb",
            "00:16:3e:aa:bb:cc:dd",
            "0:16:3e:aa:bb:cc",
            "01:00:5e:00:00:01",
            "zz:16:3e:aa:bb:cc",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
