//! A XAPI pool to test against: XML-RPC over HTTP and HTTPS, records, lifecycle, plugins, and a real data plane.
#![forbid(unsafe_code)]

pub mod dataplane;
