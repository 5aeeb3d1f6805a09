//! Writing the table of a suite in its forms.

use std::fs;
use std::path::Path;

use super::layout::{Layout, figures};
use super::{Suite, SuiteError, Table, html, markdown};
use crate::files::write_atomically;

impl Table {
    /// The table as Markdown: what `table.md` holds.
    pub fn markdown(&self) -> String {
        markdown::render(&Layout::of(self))
    }
}

/// Writes `table.md`, `table.csv`, `table.json` and `table.html` into the suite's results.
///
/// # Errors
///
/// If the system refuses.
pub fn write_tables(suite: &Suite, table: &Table) -> Result<(), SuiteError> {
    let mut json = serde_json::to_string_pretty(table).expect("a table is plain data");
    json.push('\n');
    for (name, text) in [
        ("table.md", table.markdown()),
        ("table.csv", csv(table)),
        ("table.json", json),
        ("table.html", html::render(&table.suite, &Layout::of(table))),
    ] {
        write_file(&suite.out.join(name), text.as_bytes())?;
    }
    Ok(())
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

/// Writes a file, whole or not at all, with the folder that it lies in.
pub(super) fn write_file(path: &Path, content: &[u8]) -> Result<(), SuiteError> {
    let fail = |error| SuiteError::file("write", path, error);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(fail)?;
    }
    write_atomically(path, |part| fs::write(part, content)).map_err(fail)
}
