//! Writing files whole or not at all, also if the machine goes down.

use std::fs;
use std::io;
use std::path::Path;

/// What is wrong with a line of JSON that stands in a file of many: without the place, which is within the line.
pub(crate) fn json_reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split_once(" at line ").map_or(text.as_str(), |(reason, _)| reason).to_string()
}

/// How the names of files end that are being written.
pub(crate) const UNFINISHED: &str = ".part";

/// Lets `write` write to another name in the same folder, then renames. Several processes may write the same file, also
/// those of several machines in a folder that they share.
pub(crate) fn write_atomically(
    path: &Path,
    write: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary =
        path.with_file_name(format!(".{name}.{:016x}{UNFINISHED}", rand::random::<u64>()));
    let sync = || fs::OpenOptions::new().write(true).open(&temporary)?.sync_all();
    write(&temporary).and_then(|()| sync()).and_then(|()| fs::rename(&temporary, path)).inspect_err(
        |_| {
            // The error at hand says more than one of the clean-up would.
            let _ = fs::remove_file(&temporary);
        },
    )
}
