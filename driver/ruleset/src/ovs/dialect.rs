//! How a bridge's switch is spoken to: by what its version and its protocols allow.

use std::fmt;
use std::str::FromStr;

use crate::ids::Interface;

/// Major and minor number of Open vSwitch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16, pub u16);

impl Version {
    /// The first with `ct()`, which everything rests on.
    pub const FIRST: Self = Self(2, 5);
    /// The first with bundles in OpenFlow 1.3.
    const BUNDLES_IN_13: Self = Self(2, 6);
    /// The first that speaks OpenFlow 1.4 unasked.
    const OPENFLOW_14: Self = Self(2, 8);
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Text that is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no version of Open vSwitch")]
pub struct InvalidVersion(String);

impl FromStr for Version {
    type Err = InvalidVersion;

    /// `2.17.7`, or a line that ends with it: `ovs-ofctl (Open vSwitch) 2.17.7`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidVersion(text.to_owned());
        let numbers = text.rsplit(' ').next().unwrap_or(text);
        let mut numbers = numbers.split('.').map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok(Self(major, minor)),
            _ => Err(invalid()),
        }
    }
}

/// What a switch does not have and cannot do without.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum Lacks {
    #[error("its Open vSwitch {0} cannot track connections in flows, as 2.5 and later can: upgrade the host")]
    Tracking(Version),
    #[error(
        "its bridge {bridge} speaks {protocols} only and lacks OpenFlow13: \
         ovs-vsctl add bridge {bridge} protocols OpenFlow13"
    )]
    Protocol { bridge: Interface, protocols: String },
}

/// How to speak to a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// For `-O`.
    openflow: &'static str,
    /// Whether all changes of an update can be made at once.
    pub bundle: bool,
}

impl Dialect {
    /// The best that a bridge and its switch's version have in common. `protocols` are those of the bridge's record;
    /// none means the version's own choice.
    ///
    /// # Errors
    /// [`Lacks`]
    pub fn choose(version: Version, bridge: &Interface, protocols: &[String]) -> Result<Self, Lacks> {
        if version < Version::FIRST {
            return Err(Lacks::Tracking(version));
        }
        let speaks = |wanted: &str| match protocols {
            [] => wanted == "OpenFlow13" || version >= Version::OPENFLOW_14,
            listed => listed.iter().any(|protocol| protocol == wanted),
        };
        if speaks("OpenFlow14") {
            return Ok(Self { openflow: "OpenFlow14", bundle: true });
        }
        if speaks("OpenFlow13") {
            return Ok(Self { openflow: "OpenFlow13", bundle: version >= Version::BUNDLES_IN_13 });
        }
        Err(Lacks::Protocol { bridge: bridge.clone(), protocols: protocols.join(", ") })
    }

    /// Arguments of `ovs-ofctl` that read our flows. With statistics: without, it leaves out the line that tells a switch
    /// without flows from no answer.
    #[must_use]
    pub fn dump(self, bridge: &Interface) -> Vec<String> {
        words(["-O", self.openflow, "dump-flows", bridge.as_str()].into_iter())
    }

    /// Arguments of `ovs-ofctl` that change flows as its input says.
    #[must_use]
    pub fn write(self, bridge: &Interface) -> Vec<String> {
        let bundle = self.bundle.then_some("--bundle");
        words(["-O", self.openflow].into_iter().chain(bundle).chain(["add-flows", bridge.as_str(), "-"]))
    }
}

fn words<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    words.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(version: &str, protocols: &[&str]) -> Result<Dialect, Lacks> {
        let protocols: Vec<String> = protocols.iter().map(|&p| p.to_owned()).collect();
        Dialect::choose(version.parse().unwrap(), &"xenbr0".parse().unwrap(), &protocols)
    }

    #[test]
    fn versions() {
        assert_eq!("2.17.7".parse(), Ok(Version(2, 17)));
        assert_eq!("ovs-ofctl (Open vSwitch) 3.1.0".parse(), Ok(Version(3, 1)));
        for no_version in ["", "2", "two.five", "-2.5", "ovs-ofctl (Open vSwitch)"] {
            assert!(no_version.parse::<Version>().is_err(), "{no_version}");
        }
    }

    #[test]
    fn the_best_that_both_have() {
        let bridge = "xenbr0".parse().unwrap();
        let said = |version, protocols: &[&str]| {
            let dialect = choose(version, protocols).unwrap();
            (dialect.dump(&bridge).join(" "), dialect.write(&bridge).join(" "))
        };
        let new = ("-O OpenFlow14 dump-flows xenbr0", "-O OpenFlow14 --bundle add-flows xenbr0 -");
        assert_eq!(said("2.17.7", &[]), (new.0.to_owned(), new.1.to_owned()));
        assert_eq!(said("3.1.0", &["OpenFlow10", "OpenFlow14"]), (new.0.to_owned(), new.1.to_owned()));
        assert_eq!(said("2.17.7", &["OpenFlow13"]).1, "-O OpenFlow13 --bundle add-flows xenbr0 -");
        assert_eq!(said("2.6.0", &[]).1, "-O OpenFlow13 --bundle add-flows xenbr0 -");
        let old = ("-O OpenFlow13 dump-flows xenbr0", "-O OpenFlow13 add-flows xenbr0 -");
        assert_eq!(said("2.5.3", &[]), (old.0.to_owned(), old.1.to_owned()));
        assert_eq!(said("2.5.3", &["OpenFlow14"]).1, "-O OpenFlow14 --bundle add-flows xenbr0 -");
    }

    #[test]
    fn what_is_missing_is_named() {
        let old = choose("2.3.2", &[]).unwrap_err().to_string();
        assert!(old.contains("2.3") && old.contains("track connections"), "{old}");
        let deaf = choose("2.17.7", &["OpenFlow10", "OpenFlow11"]).unwrap_err().to_string();
        assert!(deaf.contains("OpenFlow10, OpenFlow11") && deaf.contains("lacks OpenFlow13"), "{deaf}");
    }
}
