//! A host's Open vSwitch: `ovs-vsctl` and `ovs-ofctl`.

use drawbridge_wire::Invocation;
use drawbridge_wire::call::{Family, Function};
use ruleset::ids::Interface;
use ruleset::ovs::{Dialect, Observed, Switch, Version, parse_dump_flows};

use super::{Dom0, Dom0Error, ended_well};

impl Dom0<'_> {
    /// Bridges and ports at one moment, and the switch's version.
    ///
    /// # Errors
    /// [`Dom0Error`]
    pub async fn switch(&self) -> Result<(Switch, Version), Dom0Error> {
        let said = self.ovs(Function::OvsVsctl, Switch::arguments(), None, None).await?;
        let switch = Switch::parse(&said)?;
        let version = match switch.version {
            Some(version) => version,
            // Nobody wrote it into the database, which a start script should.
            None => {
                let said = self.ovs(Function::OvsOfctl, vec!["--version".to_owned()], None, None).await?;
                let first = said.lines().next().unwrap_or_default();
                first.parse().map_err(ruleset::ovs::HostError::from)?
            }
        };
        Ok((switch, version))
    }

    /// Our flows of a bridge. With a generation: for one who is going to write on the strength of it, see
    /// [`Dom0::observe_to_write`].
    ///
    /// # Errors
    /// [`Dom0Error`]; an answer that cannot be read is never an empty one.
    pub async fn flows(
        &self,
        bridge: &Interface,
        dialect: Dialect,
        generation: Option<u64>,
    ) -> Result<Observed, Dom0Error> {
        let said = self.ovs(Function::OvsOfctl, dialect.dump(bridge), None, generation).await?;
        Ok(parse_dump_flows(&said)?)
    }

    /// Changes flows of a bridge, and reads back what stands then.
    ///
    /// # Errors
    /// [`Dom0Error`]; of a bundle the switch takes all or nothing.
    pub async fn write_flows(
        &self,
        bridge: &Interface,
        dialect: Dialect,
        input: &str,
        generation: u64,
    ) -> Result<Observed, Dom0Error> {
        let said = self.ovs(Function::OvsOfctl, dialect.write(bridge), Some(input), Some(generation)).await?;
        // The plugin answers a write with what stands after it.
        Ok(parse_dump_flows(&said)?)
    }

    async fn ovs(
        &self,
        function: Function,
        args: Vec<String>,
        stdin: Option<&str>,
        generation: Option<u64>,
    ) -> Result<String, Dom0Error> {
        let stdin = stdin.map(|text| text.as_bytes().to_vec());
        let invocation = Invocation { function, args, family: Family::default(), stdin, generation };
        let reply = self.run(&invocation).await?;
        match ended_well(function, reply) {
            Ok(reply) => Ok(reply.stdout),
            Err(Dom0Error::Exit { stderr, .. }) if is_down(&stderr) => Err(Dom0Error::SwitchDown { stderr }),
            Err(error) => Err(error),
        }
    }
}

/// Whether the program found nobody to talk to.
fn is_down(stderr: &str) -> bool {
    [
        // ovs-vswitchd ended well, died, or hangs up.
        "is not a bridge or a socket",
        "failed to open socket",
        "failed to connect to socket",
        // ovsdb-server.
        "database connection failed",
    ]
    .iter()
    .any(|sign| stderr.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_that_is_down_is_told_from_one_that_refuses() {
        for down in [
            "ovs-ofctl: xenbr0 is not a bridge or a socket",
            "ovs-ofctl: /var/run/openvswitch/xenbr0.mgmt: failed to open socket (Connection refused)",
            "ovs-ofctl: xenbr0: failed to connect to socket (Broken pipe)",
            "ovs-vsctl: unix:/var/run/openvswitch/db.sock: database connection failed (No such file or directory)",
        ] {
            assert!(is_down(down), "{down}");
        }
        for refused in [
            "ovs-ofctl: -:7: unknown keyword sctp",
            "Error OFPBAC_BAD_OUT_GROUP for: OFPT_FLOW_MOD (OF1.3) (xid=0x6): ADD table:60 actions=group:7",
        ] {
            assert!(!is_down(refused), "{refused}");
        }
    }
}
