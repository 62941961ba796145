//! Scopegate: a reverse-proxy API gateway that answers *who is calling* and *what may it do here* before it forwards.

pub mod admit;
pub mod authenticate;
pub mod authorize;
pub mod cli;
pub mod config;
pub mod decide;
pub mod reject;
pub mod reload;
pub mod route;
pub mod snapshot;
pub mod state;
pub mod types;
