//! Where facts come in: the policy file, and XAPI's records.

pub mod inventory;
pub mod own;
pub mod policy_file;
