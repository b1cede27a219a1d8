// E0308: a credential cannot be attached to a request that still carries the client's own.
use egret::{approve::Approved, credential::Credentials};

pub async fn attach(credentials: &Credentials, approved: Approved) {
    let _ = credentials.attach(approved).await;
}
