//! Scopegate: a reverse-proxy API gateway that answers *who is calling* and *what may it do here* before it forwards.

pub mod admin;
pub mod admit;
pub mod authenticate;
pub mod authorize;
pub mod cli;
pub mod config;
pub mod decide;
pub mod forward;
pub mod observe;
pub mod pipeline;
pub mod reject;
pub mod reload;
pub mod respond;
pub mod route;
pub mod server;
pub mod snapshot;
pub mod state;
pub mod types;
