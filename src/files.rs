//! Writing files whole or not at all, also if the machine goes down; and locks on them.

use std::fs;
use std::io;
use std::path::Path;

/// What is wrong with a line of JSON that stands in a file of many: without the place, which is within the line.
pub(crate) fn json_reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split_once(" at line ").map_or(text.as_str(), |(reason, _)| reason).to_string()
}

/// Locks a file until it is closed; false where another process has it. Not every file system has locks: on one without,
/// the file counts as locked.
pub(crate) fn try_lock(file: &fs::File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(fs::TryLockError::WouldBlock) => Ok(false),
        Err(fs::TryLockError::Error(error)) => without_locks(Err(error)).map(|()| true),
    }
}

/// The same, once no other process has it.
pub(crate) fn lock(file: &fs::File) -> io::Result<()> {
    without_locks(file.lock())
}

fn without_locks(locked: io::Result<()>) -> io::Result<()> {
    locked.or_else(|error| match error.kind() {
        io::ErrorKind::Unsupported => Ok(()),
        _ => Err(error),
    })
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
