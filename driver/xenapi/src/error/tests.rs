//! Each code as what it means, and in words.

use super::*;

fn error(code: &str, params: &[&str]) -> ApiError {
    ApiError { code: code.to_owned(), params: params.iter().map(|&param| param.to_owned()).collect() }
}

#[test]
fn codes_are_told_apart() {
    let failure = Kind::PluginFailure { status: "non-zero exit", stdout: "out", stderr: "err" };
    for (code, params, kind) in [
        ("SESSION_INVALID", &["OpaqueRef:s"][..], Kind::SessionInvalid),
        ("SESSION_AUTHENTICATION_FAILED", &["root", "no"], Kind::AuthenticationFailed),
        ("SESSION_AUTHORIZATION_FAILED", &["root", "no"], Kind::AuthenticationFailed),
        ("HOST_IS_SLAVE", &["192.0.2.1"], Kind::HostIsSlave { master: "192.0.2.1" }),
        ("HOST_IS_SLAVE", &[], Kind::HostIsSlave { master: "" }),
        ("HOST_OFFLINE", &["OpaqueRef:h"], Kind::HostOffline),
        ("CANNOT_CONTACT_HOST", &["OpaqueRef:h"], Kind::CannotContactHost),
        ("EVENTS_LOST", &[], Kind::EventsLost),
        ("EVENT_FROM_TOKEN_PARSE_FAILURE", &["x"], Kind::EventsLost),
        ("XENAPI_MISSING_PLUGIN", &["drawbridge"], Kind::MissingPlugin { plugin: "drawbridge" }),
        ("XENAPI_PLUGIN_FAILURE", &["non-zero exit", "out", "err"], failure),
        ("UNKNOWN_XENAPI_PLUGIN_FUNCTION", &["f"], Kind::UnknownPluginFunction { function: "f" }),
        (
            "HANDLE_INVALID",
            &["VM", "OpaqueRef:v"],
            Kind::HandleInvalid { class: "VM", reference: "OpaqueRef:v" },
        ),
        ("UUID_INVALID", &["VM", "u"], Kind::UuidInvalid { class: "VM", uuid: "u" }),
        (
            "RBAC_PERMISSION_DENIED",
            &["host.call_plugin", "x"],
            Kind::PermissionDenied { permission: "host.call_plugin" },
        ),
        (
            "VM_BAD_POWER_STATE",
            &["OpaqueRef:v", "running", "halted"],
            Kind::BadPowerState { expected: "running", actual: "halted" },
        ),
        ("INTERNAL_ERROR", &["x"], Kind::Other),
        ("session_invalid", &[], Kind::Other),
    ] {
        assert_eq!(error(code, params).kind(), kind, "{code}");
    }
    let ours = error("DRAWBRIDGE_REPLAYED", &["nonce"]);
    assert_eq!(ours.kind(), Kind::Drawbridge { code: "DRAWBRIDGE_REPLAYED", detail: &ours.params });
}

#[test]
fn words_say_what_to_do_and_keep_the_code() {
    for (code, params, says) in [
        ("XENAPI_MISSING_PLUGIN", &["drawbridge"][..], "install its package there"),
        ("RBAC_PERMISSION_DENIED", &["host.call_plugin", "x"], "may not call host.call_plugin"),
        ("HANDLE_INVALID", &["VM", "OpaqueRef:v"], "no VM OpaqueRef:v (any more)"),
        ("XENAPI_PLUGIN_FAILURE", &["signal: SIGKILL", "", "boom\n"], "signal: SIGKILL; stderr: boom ("),
        ("VM_BAD_POWER_STATE", &["r", "running", "halted"], "the VM is halted, it would have to be running"),
        ("DRAWBRIDGE_REPLAYED", &["a", "b"], "DRAWBRIDGE_REPLAYED: a, b"),
        ("NOT_KNOWN_HERE", &[], "NOT_KNOWN_HERE"),
    ] {
        let text = error(code, params).to_string();
        assert!(text.contains(says) && text.contains(code), "{code}: {text}");
    }
}

#[test]
fn words_never_show_a_session_nor_break_the_line() {
    assert!(!error("SESSION_INVALID", &["OpaqueRef:secret"]).to_string().contains("secret"));
    let text = error("X", &["a\nb\u{1b}[31m", &"y".repeat(5000)]).to_string();
    assert!(text.starts_with("X: a\\nb\\u{1b}[31m, yyy"), "{text}");
    assert!(text.ends_with("y…") && text.len() < 400, "{} bytes", text.len());
}
