//! A process that ends in the middle of a renewal.

use super::super::renewal::Point;

/// Ends the process at the point that `EGRET_TEST_END_AT` names.
pub(in crate::credential) fn at(point: Point) {
    if std::env::var("EGRET_TEST_END_AT").is_ok_and(|name| name == format!("{point:?}")) {
        let own = std::process::id().to_string();
        let _ = std::process::Command::new("kill").args(["-KILL", &own]).status();
        std::thread::park();
    }
}
