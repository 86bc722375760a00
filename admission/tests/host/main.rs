//! The guard as a whole: a server in this process, asked over TLS as an API server does.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod client;
mod files;
mod guest;
mod limits;
mod load;
mod pki;
mod process;
mod reload;
mod serving;
mod stand;
mod taint;
mod verdicts;
mod volume;
