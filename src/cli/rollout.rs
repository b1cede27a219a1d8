//! `egret policy`: what happens to a policy before it is in force.

use clap::Subcommand;

use super::{bundle, learn};
use crate::serve::StartError;

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Draft a policy that grants what the decision log saw
    Learn(learn::LearnArgs),
    /// Make a key pair that signs policies
    Keygen(bundle::KeygenArgs),
    /// Sign a policy: write its manifest and the signature beside its files
    Sign(bundle::SignArgs),
}

pub(super) fn policy(command: &PolicyCommand) -> Result<u8, StartError> {
    match command {
        PolicyCommand::Learn(args) => learn::learn(args),
        PolicyCommand::Keygen(args) => bundle::keygen(args),
        PolicyCommand::Sign(args) => bundle::sign(args),
    }
}
