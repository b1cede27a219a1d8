//! A store that is opened when it is first needed.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::OnceCell;

use super::{Store, StoreError};
use crate::settings::StoreSettings;

/// How long a failure to open is told again without another try: a database that is gone is not asked by every request.
const PAUSE: Duration = Duration::from_secs(1);

/// A store that is opened when it is first needed: whoever needs none, needs no key for it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LazyStore(Arc<Lazy>);

#[derive(Debug)]
struct Lazy {
    settings: StoreSettings,
    opened: OnceCell<Store>,
    failed: Mutex<Option<(Instant, Arc<StoreError>)>>,
}

impl LazyStore {
    /// Opens nothing yet.
    pub fn new(settings: StoreSettings) -> Self {
        Self(Arc::new(Lazy { settings, opened: OnceCell::new(), failed: Mutex::default() }))
    }

    /// The store.
    ///
    /// # Errors
    /// As [`Store::open`]; the same for a second.
    pub async fn get(&self) -> Result<&Store, Arc<StoreError>> {
        self.0.opened.get_or_try_init(|| self.open()).await
    }

    /// The store, made where there is none yet.
    ///
    /// # Errors
    /// As [`Store::open_or_create`].
    pub async fn get_or_create(&self) -> Result<&Store, Arc<StoreError>> {
        let create = || async { Store::open_or_create(&self.0.settings).await.map_err(Arc::new) };
        self.0.opened.get_or_try_init(create).await
    }

    async fn open(&self) -> Result<Store, Arc<StoreError>> {
        // Every critical section is one assignment or one look.
        let failed = || self.0.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, error)) = &*failed()
            && at.elapsed() < PAUSE
        {
            return Err(error.clone());
        }
        let opened = Store::open(&self.0.settings).await.map_err(Arc::new);
        *failed() = opened.as_ref().err().map(|error| (Instant::now(), error.clone()));
        opened
    }
}
