//! `exec:NAME`: what a program prints.

use std::time::SystemTime;

use super::kept::{Fault, Given, Parts, Times};
use crate::{
    exec::{self, Handed},
    settings::Program,
};

/// Runs the program.
pub(super) async fn read(program: &Program) -> Result<Given, Fault> {
    let Handed { secret, expires } = exec::run(program).await.map_err(|error| {
        if error.is_transient() {
            Fault::unavailable(error.to_string())
        } else {
            Fault::missing(error.to_string())
        }
    })?;
    let times = match expires {
        None => Times::unsaid(program.cache),
        // It was ahead a moment ago.
        Some(end) => Times::ending(end.duration_since(SystemTime::now()).unwrap_or_default()),
    };
    Ok(Given { parts: Parts::whole(secret), times, lease: None })
}
