//! `egret ca`.

use std::{fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Subcommand;

use super::{SettingsArgs, data, exit, message};
use crate::{ca::CertificateAuthority, serve::StartError};

#[derive(Debug, Subcommand)]
pub(super) enum CaCommand {
    /// Make the authority; `serve` does it by itself on its first start
    Init(SettingsArgs),
    /// Print where the certificate is, its fingerprint and its end
    Show(SettingsArgs),
    /// Print the certificate, or a bundle of the system's roots with it
    Export {
        #[command(flatten)]
        settings: SettingsArgs,
        /// With the system's roots, for variables that replace them (`SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE`, …)
        #[arg(long)]
        bundle: bool,
        /// Write to this file instead of standard output
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

pub(super) fn ca(command: &CaCommand) -> Result<u8, StartError> {
    let wrong = |e: crate::ca::CaError| StartError::Configuration(e.to_string());
    match command {
        CaCommand::Init(args) => {
            let dir = args.load()?.0.ca_dir;
            let authority = CertificateAuthority::create(&dir).map_err(wrong)?;
            message(format_args!(
                "made a certificate authority in {}; its key never leaves this machine",
                dir.display()
            ));
            data(format_args!("{}", dir.join("ca.pem").display()));
            message(format_args!("sha256 {}", authority.fingerprint()));
        }
        CaCommand::Show(args) => {
            let dir = args.load()?.0.ca_dir;
            let authority = CertificateAuthority::open(&dir).map_err(wrong)?;
            data(format_args!("certificate  {}", dir.join("ca.pem").display()));
            data(format_args!("sha256       {}", authority.fingerprint()));
            data(format_args!("ends         {}", authority.not_after().date()));
        }
        CaCommand::Export { settings, bundle, output } => {
            let authority = CertificateAuthority::open(&settings.load()?.0.ca_dir).map_err(wrong)?;
            let text = if *bundle { bundle_with(authority.pem()) } else { authority.pem().to_owned() };
            match output {
                Some(path) => fs::write(path, text)
                    .map_err(|e| StartError::Unavailable(format!("{}: {e}", path.display())))?,
                None => data(text.trim_end()),
            }
        }
    }
    Ok(exit::OK)
}

/// The system's roots and this certificate, in PEM.
pub(super) fn bundle_with(pem: &str) -> String {
    let mut text = String::new();
    for root in rustls_native_certs::load_native_certs().certs {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = STANDARD.encode(&root);
        for line in encoded.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text.push_str(pem);
    text
}
