//! Writing the table of a suite in its forms.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::layout::{Layout, figures};
use super::{Group, Suite, SuiteError, Table, html, markdown};
use crate::files::{lock, write_atomically};

/// The file that a process holds locked while it writes the tables.
const LOCK: &str = "tables.lock";

impl Table {
    /// The table as Markdown: what `table.md` holds.
    pub fn markdown(&self) -> String {
        markdown::render(&Layout::of(self))
    }

    /// All tasks beside each other as Markdown, without the details of each: what goes into another document.
    pub fn overview(&self) -> String {
        markdown::render(&Layout::overview(self))
    }
}

/// Gathers the table of a suite and writes `table.md`, `table.csv`, `table.json` and `table.html` into its results.
///
/// One process at a time: what another one found meanwhile must not be written over with less.
///
/// # Errors
///
/// If a record cannot be read, or the system refuses.
pub fn write_tables(suite: &Suite, groups: &[Group]) -> Result<Table, SuiteError> {
    let path = suite.out.join(LOCK);
    let open_locked = || {
        fs::create_dir_all(&suite.out)?;
        let file = fs::File::create(&path)?;
        // On a file system without locks each table is written whole all the same.
        lock(&file).map(|()| file)
    };
    let _lock = open_locked().map_err(|error| SuiteError::file("lock", &path, error))?;
    let table = Table::gather(suite, groups)?;
    let mut json = serde_json::to_string_pretty(&table).expect("a table is plain data");
    json.push('\n');
    for (name, text) in [
        ("table.md", table.markdown()),
        ("table.csv", csv(&table)),
        ("table.json", json),
        ("table.html", html::render(&table.suite, &Layout::of(&table))),
    ] {
        write_file(&suite.out.join(name), text.as_bytes())?;
    }
    Ok(table)
}

/// One line for each task and cell; values as they were measured, fractions between 0 and 1.
fn csv(table: &Table) -> String {
    let mut csv = csv::Writer::from_writer(Vec::new());
    for task in &table.tasks {
        for row in &task.rows {
            csv.serialize(figures(task, row)).expect("a row is plain data");
        }
    }
    let bytes = csv.into_inner().expect("a vector takes everything");
    String::from_utf8(bytes).expect("everything written was text")
}

/// Writes a folder of files, whole or not at all, in the place of what was there. One that a kill left unfinished
/// beside it is written anew.
pub(super) fn write_folder(folder: &Path, files: &[(&str, Vec<u8>)]) -> Result<(), SuiteError> {
    let mut name = std::ffi::OsString::from(".");
    name.push(folder.file_name().expect("a folder has a name"));
    name.push(".new");
    let new = folder.with_file_name(name);
    let remove = |folder: &Path| match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(SuiteError::file("remove", folder, error))
        }
        _ => Ok(()),
    };
    remove(&new)?;
    for (name, content) in files {
        write_file(&new.join(name), content)?;
    }
    remove(folder)?;
    fs::rename(&new, folder).map_err(|error| SuiteError::file("write", folder, error))
}

/// Writes a file, whole or not at all, with the folder that it lies in.
pub(super) fn write_file(path: &Path, content: &[u8]) -> Result<(), SuiteError> {
    let fail = |error| SuiteError::file("write", path, error);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(fail)?;
    }
    write_atomically(path, |part| fs::write(part, content)).map_err(fail)
}
