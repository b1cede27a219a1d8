//! Reading a request's body whole, where its signature covers it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use tokio::{sync::Semaphore, time::timeout};

use crate::{message::RequestBody, refusal::Reason};

/// The largest body, in bytes, where the service does not say.
const LARGEST: u64 = 16 << 20;
/// Bodies that are held at the same time, in KiB. Others wait.
const ROOM: usize = 256 << 10;
/// How long a client may take to send one.
const PATIENCE: Duration = Duration::from_secs(60);

/// The room in memory for bodies that are read whole.
#[derive(Clone)]
pub(super) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM)))
    }
}

/// Reads a body, which is then sent as it was read.
pub(super) async fn read(body: &mut RequestBody, limit: Option<u64>, room: &Room) -> Result<Bytes, Reason> {
    let limit = limit.unwrap_or(LARGEST).min(LARGEST);
    let too_large = || Reason::BodyTooLarge { limit };
    let hint = http_body::Body::size_hint(body);
    if hint.lower() > limit {
        return Err(too_large());
    }
    // What it says it takes; all that is allowed where it does not say.
    let takes = hint.upper().unwrap_or(limit).min(limit);
    let kib = u32::try_from(takes.div_ceil(1024)).unwrap_or(u32::MAX).max(1);
    let permit = room.0.clone().acquire_many_owned(kib).await;
    let permit = permit.map_err(|_| Reason::InternalError { error: "BUG: the room is closed".to_owned() })?;
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let streaming = std::mem::replace(body, RequestBody::nothing());
    let malformed = |what| Reason::RequestMalformed { what, token: "malformed-body", status: 400 };
    let read = timeout(PATIENCE, Limited::new(streaming, most).collect()).await;
    let read = read.map_err(|_| malformed("the request body did not come in time"))?;
    let whole = match read {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => return Err(too_large()),
        Err(_) => return Err(malformed("the request body broke off or is malformed")),
    };
    *body = RequestBody::Whole(Full::new(whole.clone()), vec![permit]);
    Ok(whole)
}
