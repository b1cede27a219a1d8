//! Room 3. Whether.

mod grant;

pub use grant::{Grant, Granted};
