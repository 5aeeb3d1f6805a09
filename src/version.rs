//! Which build of the program this is.

/// The version of the crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The git commit that a release build was made from, with a `+` where its files had been changed
/// since; `None` in other builds and where there was no git.
pub const COMMIT: Option<&str> = option_env!("AUSN_COMMIT");
