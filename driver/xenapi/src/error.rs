//! What XAPI, or a plugin through it, answers instead of a value.

use std::fmt;

/// The `ErrorDescription` of an answer with `Status` = `Failure`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// XAPI's or a plugin's error code.
    pub code: String,
    /// Its parameters; what they mean depends on the code.
    pub params: Vec<String>,
}

/// The codes on which somebody decides something (xen-api `ocaml/idl/datamodel_errors.ml`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind<'a> {
    /// `SESSION_INVALID`: expired, evicted, or XAPI was restarted.
    SessionInvalid,
    /// `SESSION_AUTHENTICATION_FAILED`, `SESSION_AUTHORIZATION_FAILED`
    AuthenticationFailed,
    /// `HOST_IS_SLAVE`
    HostIsSlave {
        /// The address of the pool's master.
        master: &'a str,
    },
    /// `HOST_OFFLINE`: the master has not heard from it, or does not know the reference.
    HostOffline,
    /// `CANNOT_CONTACT_HOST`: the connection from the master broke. What was asked may have happened.
    CannotContactHost,
    /// `XENAPI_MISSING_PLUGIN`
    MissingPlugin {
        /// The plugin's name.
        plugin: &'a str,
    },
    /// `XENAPI_PLUGIN_FAILURE`: the plugin was run and did not answer as a plugin does.
    PluginFailure {
        /// `non-zero exit`, `signal: …`, `failed to parse plugin output`, or what a Python plugin raised.
        status: &'a str,
        /// What it wrote to stdout.
        stdout: &'a str,
        /// What it wrote to stderr.
        stderr: &'a str,
    },
    /// `UNKNOWN_XENAPI_PLUGIN_FUNCTION`
    UnknownPluginFunction {
        /// The function asked for.
        function: &'a str,
    },
    /// `HANDLE_INVALID`: the object is gone, or never was.
    HandleInvalid {
        /// The class of the reference.
        class: &'a str,
        /// The reference.
        reference: &'a str,
    },
    /// `UUID_INVALID`: no such object.
    UuidInvalid {
        /// The class asked for.
        class: &'a str,
        /// The uuid.
        uuid: &'a str,
    },
    /// `RBAC_PERMISSION_DENIED`
    PermissionDenied {
        /// The permission that is missing: the method's name.
        permission: &'a str,
    },
    /// `VM_BAD_POWER_STATE`
    BadPowerState {
        /// The state it would have to be in.
        expected: &'a str,
        /// The state it is in.
        actual: &'a str,
    },
    /// `EVENTS_LOST`, `EVENT_FROM_TOKEN_PARSE_FAILURE`: events cannot be read on from where they were.
    EventsLost,
    /// `DRAWBRIDGE_…`: our plugin refused or failed.
    Drawbridge {
        /// The code, with the prefix.
        code: &'a str,
        /// What the plugin says about it.
        detail: &'a [String],
    },
    /// Any other code.
    Other,
}

impl ApiError {
    /// The error as what it means.
    #[must_use]
    pub fn kind(&self) -> Kind<'_> {
        let param = |n: usize| self.params.get(n).map_or("", String::as_str);
        match self.code.as_str() {
            "SESSION_INVALID" => Kind::SessionInvalid,
            "SESSION_AUTHENTICATION_FAILED" | "SESSION_AUTHORIZATION_FAILED" => Kind::AuthenticationFailed,
            "HOST_IS_SLAVE" => Kind::HostIsSlave { master: param(0) },
            "HOST_OFFLINE" => Kind::HostOffline,
            "CANNOT_CONTACT_HOST" => Kind::CannotContactHost,
            "XENAPI_MISSING_PLUGIN" => Kind::MissingPlugin { plugin: param(0) },
            "XENAPI_PLUGIN_FAILURE" => {
                Kind::PluginFailure { status: param(0), stdout: param(1), stderr: param(2) }
            }
            "UNKNOWN_XENAPI_PLUGIN_FUNCTION" => Kind::UnknownPluginFunction { function: param(0) },
            "HANDLE_INVALID" => Kind::HandleInvalid { class: param(0), reference: param(1) },
            "UUID_INVALID" => Kind::UuidInvalid { class: param(0), uuid: param(1) },
            "RBAC_PERMISSION_DENIED" => Kind::PermissionDenied { permission: param(0) },
            "VM_BAD_POWER_STATE" => Kind::BadPowerState { expected: param(1), actual: param(2) },
            "EVENTS_LOST" | "EVENT_FROM_TOKEN_PARSE_FAILURE" => Kind::EventsLost,
            code if code.starts_with("DRAWBRIDGE_") => Kind::Drawbridge { code, detail: &self.params },
            _ => Kind::Other,
        }
    }
}

/// For the person who has to act: what happened, the code to search for, what to do.
impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = &self.code;
        match self.kind() {
            // Its parameter is the session: never shown.
            Kind::SessionInvalid => write!(f, "the session is not valid (any more) ({code})"),
            Kind::AuthenticationFailed => {
                write!(f, "user name or password refused; check the account and its role ({code})")
            }
            Kind::HostIsSlave { master } => {
                write!(f, "this host is not the pool's master, {} is ({code})", Shown(master))
            }
            Kind::HostOffline => {
                write!(f, "the pool's master holds the host for offline or unknown ({code})")
            }
            Kind::CannotContactHost => write!(
                f,
                "the connection from the pool's master to the host broke; what was asked may have happened ({code})"
            ),
            Kind::MissingPlugin { plugin } => write!(
                f,
                "there is no plugin {} on the host; install its package there, also after an upgrade of the host ({code})",
                Shown(plugin)
            ),
            Kind::PluginFailure { status, stdout, stderr } => {
                write!(f, "the plugin did not answer: {}", Shown(status))?;
                for (name, output) in [("stdout", stdout), ("stderr", stderr)] {
                    if !output.is_empty() {
                        write!(f, "; {name}: {}", Shown(output))?;
                    }
                }
                write!(f, " ({code})")
            }
            Kind::UnknownPluginFunction { function } => write!(
                f,
                "the plugin does not know the function {}; the versions of plugin and driver differ ({code})",
                Shown(function)
            ),
            Kind::HandleInvalid { class, reference } => {
                write!(f, "there is no {} {} (any more) ({code})", Shown(class), Shown(reference))
            }
            Kind::UuidInvalid { class, uuid } => {
                write!(f, "there is no {} with uuid {} ({code})", Shown(class), Shown(uuid))
            }
            Kind::PermissionDenied { permission } => write!(
                f,
                "the account may not call {}; calling plugins needs the role pool-admin ({code})",
                Shown(permission)
            ),
            Kind::BadPowerState { expected, actual } => {
                write!(f, "the VM is {}, it would have to be {} ({code})", Shown(actual), Shown(expected))
            }
            Kind::EventsLost => write!(f, "XAPI's events cannot be read on ({code})"),
            Kind::Drawbridge { .. } | Kind::Other => {
                write!(f, "{}", Shown(code))?;
                for (n, param) in self.params.iter().enumerate() {
                    write!(f, "{}{}", if n == 0 { ": " } else { ", " }, Shown(param))?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ApiError {}

/// Text from elsewhere on one line: control characters escaped, bounded.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 300;
        let text = self.0.trim();
        for c in text.chars().take(MOST) {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        if text.chars().nth(MOST).is_some() { f.write_str("…") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
