//! What must hold for any bytes at all, one function per place where foreign bytes come in: each panics when its law is
//! broken, and says whether the bytes were taken or refused.
//!
//! The fuzz targets (`tests/fuzz`) call these with bytes of their own making, `tests/fuzz_corpus.rs` with the corpus.
//! The laws are written from what the programs do with the bytes, not from our code: the guard's, for one, reads an
//! accepted input once more with the word splitter of iptables-restore.

mod argv;
mod flows;
mod restore;
mod save;
mod xmlrpc;

pub use argv::argv;
pub use flows::{flow_guard, flow_parser};
pub use restore::restore_guard;
pub use save::{save_filter, save_parser};
pub use xmlrpc::xmlrpc;

/// A law: whether the bytes were taken.
pub type Law = fn(&[u8]) -> bool;

/// Every law under the name of its target, which is also the name of its folder in `tests/fuzz/corpus`.
pub const LAWS: [(&str, Law); 7] = [
    ("xmlrpc", xmlrpc),
    ("argv", argv),
    ("flow_guard", flow_guard),
    ("flow_parser", flow_parser),
    ("restore_guard", restore_guard),
    ("save_filter", save_filter),
    ("save_parser", save_parser),
];

/// What is not UTF-8 is refused before any of these functions sees it.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}
