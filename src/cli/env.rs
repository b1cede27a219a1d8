//! `egret env`: the variables that send a program through the proxy, and make it trust it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{ListenArgs, Shell, ca, data, exit, token::Who};
use crate::{
    ca::CertificateAuthority,
    identify::Mint,
    serve::{DEVELOPMENT_AUDIENCE, StartError, development_issuer},
};

/// What is never sent through a proxy. Without ports, globs or networks: clients do not agree on those.
const NO_PROXY: &str = "localhost,127.0.0.1,::1";

/// Variables that replace a program's roots: they get the bundle.
const BUNDLE: [&str; 11] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "npm_config_cafile",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HTTPLIB2_CA_CERTS",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
];

/// Variables that add to a program's roots: they get the certificate alone.
const ADDED: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"];

/// Keys without which clients refuse to start, although egret takes away whatever they send.
const PLACEHELD: [&str; 3] = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GH_TOKEN"];
/// What stands where a secret is expected.
pub(super) const PLACEHOLDER: &str = "egret-placeholder";

#[derive(Debug, Args)]
pub(super) struct EnvArgs {
    #[command(flatten)]
    settings: ListenArgs,
    /// How the variables are written
    #[arg(long, value_enum, default_value = "sh")]
    shell: Shell,
    /// Mint a token of the development issuer for this identity and put it into the proxy URL
    #[arg(long = "as", value_name = "TENANT/AGENT", conflicts_with = "token_file")]
    who: Option<Who>,
    /// Put the token in this file into the proxy URL; needs `--agent`
    #[arg(long, value_name = "FILE", requires = "agent")]
    token_file: Option<PathBuf>,
    /// The agent id of the proxy URL
    #[arg(long, requires = "token_file")]
    agent: Option<String>,
}

pub(super) fn env(args: &EnvArgs) -> Result<u8, StartError> {
    let (settings, _) = args.settings.load()?;
    let proxy = settings.proxy.ok_or_else(|| StartError::Configuration("listen.proxy is off".into()))?;
    let authority = CertificateAuthority::open_or_create(&settings.ca_dir)
        .map_err(|e| StartError::Configuration(e.to_string()))?;
    let trust = TrustFiles::write(&settings.ca_dir, &authority)?;
    let login = match (&args.who, &args.token_file, &args.agent) {
        (Some(who), ..) => Some((who.agent.to_string(), minted(who, settings.development.as_deref())?)),
        (None, Some(file), Some(agent)) => {
            let token = fs::read_to_string(file)
                .map_err(|e| StartError::Unavailable(format!("{}: {e}", file.display())))?;
            Some((agent.clone(), token.trim().to_owned()))
        }
        _ => None,
    };
    for (name, value) in variables(proxy, login.as_ref().map(|(a, t)| (a.as_str(), t.as_str())), &trust) {
        data(written(args.shell, &name, &value));
    }
    Ok(exit::OK)
}

fn minted(who: &Who, dir: Option<&Path>) -> Result<String, StartError> {
    let dir = dir.ok_or_else(|| {
        StartError::Configuration(
            "`--as` needs the development issuer: set `identity.development` to a directory".into(),
        )
    })?;
    let mint = Mint {
        tenant: who.tenant.clone(),
        agent: Some(who.agent.clone()),
        user: None,
        audience: DEVELOPMENT_AUDIENCE.into(),
        lifetime: std::time::Duration::from_secs(3600),
        scopes: Vec::new(),
        extra: serde_json::Map::new(),
    };
    development_issuer(dir)?.mint(&mint).map_err(|e| StartError::Configuration(e.to_string()))
}

/// The certificate, and the bundle of the system's roots with it, as files.
#[derive(Debug)]
pub(super) struct TrustFiles {
    certificate: PathBuf,
    bundle: PathBuf,
}

impl TrustFiles {
    /// Writes both into `dir`.
    pub(super) fn write(dir: &Path, authority: &CertificateAuthority) -> Result<Self, StartError> {
        let dir =
            dir.canonicalize().map_err(|e| StartError::Unavailable(format!("{}: {e}", dir.display())))?;
        let this = Self { certificate: dir.join("ca.pem"), bundle: dir.join("bundle.pem") };
        let put = |path: &Path, text: &str| {
            // Renamed into place, so that a program never reads half of it.
            let half = path.with_extension("pem.new");
            fs::write(&half, text)
                .and_then(|()| fs::rename(&half, path))
                .map_err(|e| StartError::Unavailable(format!("{}: {e}", path.display())))
        };
        put(&this.certificate, authority.pem())?;
        put(&this.bundle, &ca::bundle_with(authority.pem()))?;
        Ok(this)
    }
}

/// All variables.
pub(super) fn variables(
    proxy: SocketAddr,
    login: Option<(&str, &str)>,
    trust: &TrustFiles,
) -> Vec<(String, String)> {
    let login = login.map(|(agent, password)| format!("{agent}:{password}@")).unwrap_or_default();
    let url = format!("http://{login}{proxy}");
    let mut all = Vec::new();
    // In both spellings: curl and gRPC read only the lower one, others only the upper one.
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"] {
        all.push((name.to_owned(), url.clone()));
    }
    for name in ["NO_PROXY", "no_proxy"] {
        all.push((name.to_owned(), NO_PROXY.to_owned()));
    }
    all.push(("NODE_USE_ENV_PROXY".to_owned(), "1".to_owned()));
    for name in BUNDLE {
        all.push((name.to_owned(), trust.bundle.display().to_string()));
    }
    for name in ADDED {
        all.push((name.to_owned(), trust.certificate.display().to_string()));
    }
    for name in PLACEHELD {
        all.push((name.to_owned(), PLACEHOLDER.to_owned()));
    }
    all
}

fn written(shell: Shell, name: &str, value: &str) -> String {
    match shell {
        Shell::Sh => format!("export {name}='{}'", value.replace('\'', r"'\''")),
        Shell::Fish => format!("set -gx {name} '{}'", value.replace('\\', r"\\").replace('\'', r"\'")),
        Shell::Powershell => format!("$env:{name} = '{}'", value.replace('\'', "''")),
        Shell::Dotenv => {
            format!("{name}=\"{}\"", value.replace('\\', r"\\").replace('"', "\\\"").replace('$', "\\$"))
        }
        Shell::Docker => format!("{name}={value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_insist_on_a_key_find_one() {
        let trust = TrustFiles { certificate: "ca.pem".into(), bundle: "bundle.pem".into() };
        let all = variables(([127, 0, 0, 1], 8080).into(), Some(("bot", "jwt")), &trust);
        let value = |name: &str| all.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        assert_eq!(value("OPENAI_API_KEY"), Some(PLACEHOLDER));
        assert_eq!(value("https_proxy"), Some("http://bot:jwt@127.0.0.1:8080"));
    }

    #[test]
    fn each_shell_reads_back_what_was_meant() {
        let value = "http://a:b'c$d@127.0.0.1:8080";
        assert_eq!(written(Shell::Sh, "X", value), r"export X='http://a:b'\''c$d@127.0.0.1:8080'");
        assert_eq!(written(Shell::Powershell, "X", value), "$env:X = 'http://a:b''c$d@127.0.0.1:8080'");
        assert_eq!(written(Shell::Docker, "X", value), format!("X={value}"));
    }
}
