//! `egret policy keygen` and `egret policy sign`.

use std::{io::IsTerminal as _, path::PathBuf, time::Duration};

use clap::Args;

use super::{data, exit, message};
use crate::{
    decide::{self, SignError},
    serve::StartError,
    settings::parse_span,
};

#[derive(Debug, Args)]
pub(super) struct KeygenArgs {
    /// Where the private key goes (mode 0600); the public one goes beside it, with `.pub`
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  egret policy keygen --out policy.key
  egret policy sign policies --key policy.key --revision 1 --expires 7d")]
pub(super) struct SignArgs {
    /// The policy's directory
    dir: PathBuf,
    /// The private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Rises with every bundle; egret refuses one that is older than another it has seen
    #[arg(long, value_name = "N")]
    revision: u64,
    /// How long the bundle may be loaded; for ever when not given
    #[arg(long, value_name = "TIME", value_parser = life)]
    expires: Option<Duration>,
}

/// How long a bundle may live.
fn life(text: &str) -> Result<Duration, String> {
    match parse_span(text)? {
        span if span.is_zero() => Err("a bundle lives for a second at least".into()),
        span => Ok(span),
    }
}

pub(super) fn keygen(args: &KeygenArgs) -> Result<u8, StartError> {
    let public = decide::new_key(&args.out).map_err(|error| failed(&error))?;
    message(format_args!("wrote {} and {}", args.out.display(), decide::public_path(&args.out).display()));
    data(public.trim_end());
    Ok(exit::OK)
}

pub(super) fn sign(args: &SignArgs) -> Result<u8, StartError> {
    match decide::sign(&args.dir, &args.key, args.revision, args.expires) {
        Ok(files) => {
            message(format_args!(
                "signed {files} {} as revision {}: {} and {} in {}",
                if files == 1 { "file" } else { "files" },
                args.revision,
                decide::MANIFEST,
                decide::SIGNATURE,
                args.dir.display()
            ));
            Ok(exit::OK)
        }
        Err(SignError::Policy(problems)) => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            message(problems.render(colour).trim_end());
            Ok(exit::FINDINGS)
        }
        Err(error) => Err(failed(&error)),
    }
}

fn failed(error: &SignError) -> StartError {
    match error {
        SignError::File { error: cause, .. } if cause.kind() == std::io::ErrorKind::PermissionDenied => {
            StartError::NotPermitted(error.to_string())
        }
        _ => StartError::Configuration(error.to_string()),
    }
}
