//! `/etc/xapi.d/plugins/drawbridge`: see the library.

fn main() {
    dom0_plugin::run();
}
