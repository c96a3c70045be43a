//! What several integration tests share.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary compiles this module for itself and uses a part of it"
)]

pub mod oracle;
pub mod sim_fs;
