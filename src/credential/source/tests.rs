//! Sources outside of egret: a scripted network, and programs that run.

mod aws_sm;
mod exec;
mod remote;
mod vault;

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use tokio::time::advance;

use super::*;
use crate::{
    credential::tests::provider::{Act, Asked, Provider},
    fetch::Calls,
    settings::{SourceSettings, StoreSettings, StoreUrl},
};

/// A tenant of an egret whose settings describe something.
struct House {
    provider: Arc<Provider>,
    origins: Origins,
    tenant: TenantId,
}

impl House {
    fn new(sources: &SourceSettings) -> Self {
        let provider = Arc::new(Provider::default());
        let calls: Arc<dyn Calls> = provider.clone();
        let store = LazyStore::new(StoreSettings {
            url: StoreUrl::Sqlite("/nonexistent/egret.db".into()),
            key: crate::settings::SecretSource::File("/nonexistent/key".into()),
            old_keys: Vec::new(),
        });
        let origins = Origins { store, outside: Outside::new(sources, &calls) };
        Self { provider, origins, tenant: TenantId::parse("t").unwrap() }
    }

    fn sources(&self) -> Sources<'_> {
        Sources { origins: &self.origins, tenant: &self.tenant }
    }

    /// What a reference leads to, or why not; and whether that may pass.
    async fn read(&self, reference: &SecretRef) -> Result<String, (String, bool)> {
        let read = self.sources().read(reference).await;
        read.map(|read| shown(&read)).map_err(|missing| (missing.to_string(), missing.is_transient()))
    }

    /// Reads, and says why not.
    async fn refused(&self, reference: &SecretRef) -> (String, bool) {
        self.read(reference).await.unwrap_err()
    }

    /// What was asked since the last time: methods are told by paths.
    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.provider.asked.lock().unwrap())
    }

    fn paths(&self) -> Vec<String> {
        let path = |asked: Asked| {
            asked.url.split_once("/v1/").map_or(asked.url.clone(), |(_, path)| path.to_owned())
        };
        self.asked().into_iter().map(path).collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "a test that looks")]
fn shown(read: &Read) -> String {
    String::from_utf8(read.secret.expose().to_vec()).unwrap()
}

fn put(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
    fs::write(dir.join(name), text).unwrap();
    dir.join(name)
}

#[tokio::test]
async fn what_no_settings_describe_is_missing_and_names_the_key() {
    let house = House::new(&SourceSettings::default());
    for (reference, key) in [
        (SecretRef::Exec("helper".into()), "sources.exec.helper"),
        (SecretRef::Vault { path: "kv/a".into(), field: "b".into() }, "sources.vault"),
        (SecretRef::AwsSecretsManager { name: "a".into(), field: None }, "sources.aws_sm"),
        (SecretRef::Remote("api".into()), "sources.remote.api"),
    ] {
        let why = format!("`{reference}` is not described: the settings have no `{key}`");
        assert_eq!(house.refused(&reference).await, (why, false));
    }
}
