//! `/etc/xapi.d/plugins/drawbridge`: see the library.

fn main() -> std::process::ExitCode {
    dom0_plugin::run()
}
