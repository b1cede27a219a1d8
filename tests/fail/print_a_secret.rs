// E0277: a secret has no text.
use egret::secret::Secret;

pub fn print(secret: &Secret) -> String {
    format!("{secret}")
}
