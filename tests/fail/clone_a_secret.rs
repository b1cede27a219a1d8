// E0599: a secret is held once.
use egret::secret::Secret;

pub fn copy(secret: Secret) -> (Secret, Secret) {
    (secret.clone(), secret)
}
