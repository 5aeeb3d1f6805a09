//! Gives release builds the name of the commit that they are made from: `AUSN_COMMIT`.
//!
//! Results are produced with release builds. Others stay without, so that a commit does not make
//! everything be compiled anew.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    for path in ["src", "Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={path}");
    }
    // A crate below another repository, as in a registry's cache, is not of that repository.
    if !Path::new(".git").exists() {
        return;
    }
    // It grows with every commit and every change of branch.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    let Some(commit) = git(&["rev-parse", "--short=9", "HEAD"]) else { return };
    let changes =
        git(&["status", "--porcelain", "--untracked-files=no", "--", "src", "Cargo.lock"]);
    let mark = if changes.is_none_or(|changes| changes.is_empty()) { "" } else { "+" };
    println!("cargo:rustc-env=AUSN_COMMIT={commit}{mark}");
}

/// What git says; `None` where it is not there or refuses.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_string())
}
