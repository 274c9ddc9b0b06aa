//! dom0-plugin
