//! egret: the egress proxy that keeps the secret.

#![forbid(unsafe_code)]

// The floor: words and tools. No room may be imported here.
pub mod context;
pub mod target;
pub mod secret;
pub mod form;
pub mod json;
pub mod message;
pub mod refusal;
pub mod standing;
pub mod audit;
pub mod metrics;
pub mod tls;
pub mod connect;
pub mod mcp;
pub mod graphql;
pub mod plan;
pub mod scrub;
pub mod fetch;
pub mod sigv4;
pub mod settings;
pub mod exec;
pub mod store;
pub mod ca;

// The rooms, in the order a request meets them.
pub mod listen;
pub mod identify;
pub mod decide;
pub mod limit;
pub mod approve;
pub mod strip;
pub mod credential;
pub mod record;
pub mod forward;

// The program: all rooms together, and the doors to it.
pub mod proxy;
pub mod admin;
pub mod serve;
pub mod telemetry;
pub mod cli;
