//! The plugin in a host's dom0, called through XAPI. It makes no choices: what it sends was decided elsewhere.

mod generation;
mod switch;

pub use generation::generation;
pub(crate) use generation::{doubts, take_turn};

use std::time::{SystemTime, UNIX_EPOCH};

use drawbridge_wire::call::{self, Function};
use drawbridge_wire::contention::is_contention;
use drawbridge_wire::{Code, EncodeError, Invocation, Reply, ReplyError, Signer, signed_calls};
use ruleset::iptables::{Observed, ParseError, parse_save};
use ruleset::model::Family;
use ruleset::ovs::{self, HostError, Lacks};
use xenapi::{CallError, Client, Host, Ref};

/// A host's dom0.
#[derive(Debug)]
pub struct Dom0<'a> {
    /// XAPI.
    pub client: &'a Client,
    /// The key that dom0 knows.
    pub signer: &'a Signer,
    /// XAPI's reference of the host.
    pub host: &'a Ref<Host>,
    /// The host's uuid: signatures are bound to it.
    pub uuid: String,
}

/// How a call of the plugin fails.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum Dom0Error {
    #[error("calling the plugin")]
    Call(#[from] CallError),
    #[error("the call cannot be written")]
    Encode(#[from] EncodeError),
    #[error("the plugin's answer cannot be read")]
    Reply(#[from] ReplyError),
    #[error(
        "the plugin there is version {found}, this driver speaks version {expected}: install the plugin of the same release"
    )]
    Version { found: String, expected: &'static str },
    #[error("{program} ended with {code}: {stderr}")]
    Exit { program: Function, code: i32, stderr: String },
    #[error("what iptables-save said cannot be understood")]
    Parse(#[from] ParseError),
    #[error("what ovs-vsctl said cannot be understood")]
    Switch(#[from] HostError),
    #[error("what ovs-ofctl dump-flows said cannot be understood")]
    Flows(#[from] ovs::ParseError),
    #[error("the host cannot enforce flows")]
    Lacks(#[from] Lacks),
    #[error("the host's switch does not answer; do ovs-vswitchd and ovsdb-server run there? ({stderr})")]
    SwitchDown { stderr: String },
}

impl Dom0Error {
    /// Whether dom0 refused what it was to write: the program, the switch, or the plugin's guard took offence at the rules
    /// themselves.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Exit { program: Function::IptablesRestore | Function::OvsOfctl, .. } => {
                !self.is_contention()
            }
            Self::Call(CallError::Api(error)) => {
                [Code::InputRefused, Code::TooCostly].iter().any(|code| error.code == code.as_str())
            }
            _ => false,
        }
    }

    /// Whether another writer came in between: nothing is wrong, but it has to be done again, from reading on.
    #[must_use]
    pub fn is_overtaken(&self) -> bool {
        if self.is_contention() {
            return true;
        }
        let Self::Call(CallError::Api(error)) = self else { return false };
        // A bridge can go with its last VIF, between two questions; and a port, or a VLAN.
        let codes = [Code::StaleGeneration, Code::Busy, Code::NoSuchBridge, Code::SwitchMismatch];
        codes.iter().any(|code| error.code == code.as_str())
    }

    /// Whether the program never came to look at the rules. The plugin answers that with [`Code::Busy`]; should it come as an
    /// exit code all the same, a search for the rule at fault would close ports that have nothing to do with it.
    fn is_contention(&self) -> bool {
        matches!(self, Self::Exit { program: Function::IptablesRestore, code, stderr } if is_contention(*code, stderr))
    }
}

impl Dom0<'_> {
    /// What stands in the kernel of ours.
    ///
    /// # Errors
    /// [`Dom0Error`]; an answer that cannot be read is never an empty one.
    pub async fn observe(&self, family: Family) -> Result<Observed, Dom0Error> {
        self.save(family, None).await
    }

    /// The same for one who is going to write on the strength of it: from now on dom0 refuses whoever is of an older
    /// generation, so that nothing it does not show can be written before.
    ///
    /// # Errors
    /// [`Dom0Error`]; [`Dom0Error::is_overtaken`] if somebody newer came before.
    pub async fn observe_to_write(&self, family: Family, generation: u64) -> Result<Observed, Dom0Error> {
        self.save(family, Some(generation)).await
    }

    async fn save(&self, family: Family, generation: Option<u64>) -> Result<Observed, Dom0Error> {
        let reply = self
            .run(&Invocation {
                function: Function::IptablesSave,
                args: Vec::new(),
                family: wire_family(family),
                stdin: None,
                generation,
            })
            .await?;
        Ok(parse_save(&ended_well(Function::IptablesSave, reply)?.stdout)?)
    }

    /// Carries out one restore input, and reads back what stands then.
    ///
    /// # Errors
    /// [`Dom0Error`]; iptables-restore takes all of an input's table or nothing.
    pub async fn restore(&self, family: Family, input: &str, generation: u64) -> Result<Observed, Dom0Error> {
        let reply = self
            .run(&Invocation {
                function: Function::IptablesRestore,
                args: Vec::new(),
                family: wire_family(family),
                stdin: Some(input.as_bytes().to_vec()),
                generation: Some(generation),
            })
            .await?;
        // The plugin answers a write with what stands after it.
        Ok(parse_save(&ended_well(Function::IptablesRestore, reply)?.stdout)?)
    }

    /// Whether dom0 would take a restore input. Changes nothing.
    ///
    /// # Errors
    /// [`Dom0Error`] if dom0 could not be asked.
    pub async fn accepts(&self, family: Family, input: &str) -> Result<bool, Dom0Error> {
        let invocation = Invocation {
            function: Function::IptablesRestore,
            args: vec!["--test".to_owned()],
            family: wire_family(family),
            stdin: Some(input.as_bytes().to_vec()),
            generation: None,
        };
        let reply = self.run(&invocation).await;
        match reply.and_then(|reply| ended_well(Function::IptablesRestore, reply)) {
            Ok(_) => Ok(true),
            Err(error) if error.is_refusal() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// One run of a program in dom0.
    ///
    /// # Errors
    /// [`Dom0Error`]; a program that ends with an error is a reply, not an error.
    pub async fn run(&self, invocation: &Invocation) -> Result<Reply, Dom0Error> {
        let name = invocation.function.as_str();
        let mut last = None;
        for arguments in signed_calls(invocation, self.signer, &self.uuid, unix_seconds())? {
            let answer = self.client.call_plugin(self.host, drawbridge_wire::PLUGIN_NAME, name, &arguments);
            let answer = answer.await.inspect_err(note_generation)?;
            let reply = Reply::parse(&answer)?;
            if !compatible(&reply.version) {
                return Err(Dom0Error::Version { found: reply.version, expected: drawbridge_wire::VERSION });
            }
            last = Some(reply);
        }
        // An invocation is never without a call.
        last.ok_or(Dom0Error::Encode(EncodeError::ArgumentsTooLarge))
    }
}

/// A refusal of an older generation names the one that was seen.
fn note_generation(error: &CallError) {
    if let CallError::Api(error) = error
        && error.code == Code::StaleGeneration.as_str()
        && let Some(seen) = error.params.last().and_then(|seen| seen.parse().ok())
    {
        generation::heard_of(seen);
    }
}

fn ended_well(program: Function, reply: Reply) -> Result<Reply, Dom0Error> {
    if reply.exit_code == 0 {
        return Ok(reply);
    }
    Err(Dom0Error::Exit { program, code: reply.exit_code, stderr: reply.stderr.trim_end().to_owned() })
}

fn wire_family(family: Family) -> call::Family {
    match family {
        Family::Ipv4 => call::Family::Ipv4,
        Family::Ipv6 => call::Family::Ipv6,
    }
}

/// Major and minor version are the wire format's.
fn compatible(found: &str) -> bool {
    let head = |version: &str| version.split('.').take(2).map(str::to_owned).collect::<Vec<_>>();
    head(found) == head(drawbridge_wire::VERSION)
}

/// The time that goes into a signature.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It began a search for the rule at fault, which closed innocent ports.
    #[test]
    fn a_lock_that_another_program_holds_is_no_refusal() {
        let ended = |code, stderr: &str| Dom0Error::Exit {
            program: Function::IptablesRestore,
            code,
            stderr: stderr.to_owned(),
        };
        let held = "Another app is currently holding the xtables lock. Stopped waiting after 10s.\n";
        let refused = "iptables-nft-restore v1.8.9 (nf_tables): \nline 3: RULE_APPEND failed (Invalid argument): rule in chain dwb-a\n";
        let error = ended(4, held);
        assert!(!error.is_refusal() && error.is_overtaken());
        for error in [ended(4, refused), ended(1, "iptables-restore: line 3 failed\n"), ended(2, "")] {
            assert!(error.is_refusal() && !error.is_overtaken(), "{error}");
        }
    }
}
