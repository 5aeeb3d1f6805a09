//! `ausn datasets`

use std::io::IsTerminal;

use clap::Subcommand;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::{Failure, Global};
use crate::data::catalog::{DataFile, FileState, Manifest, catalog, locate, manifest, verify};
use crate::data::download::{Progress, fetch};

/// List, download and check data sets.
#[derive(Subcommand)]
pub(super) enum DatasetsCommand {
    /// List the data sets, and whether they are at hand.
    List,
    /// Download a data set to the cache and check it.
    Fetch {
        /// The data set's name.
        name: String,
    },
    /// Check the files of data sets against their checksums.
    Verify {
        /// The data sets' names [default: all].
        names: Vec<String>,
    },
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    title: &'a str,
    status: &'static str,
    origin: &'a str,
    licence: &'a str,
}

#[derive(Serialize)]
struct Fetched {
    name: String,
    files: Vec<String>,
}

#[derive(Serialize)]
struct Verified {
    dataset: String,
    file: String,
    path: Option<String>,
    ok: bool,
    message: String,
}

pub(super) fn run(command: DatasetsCommand, global: &Global) -> Result<(), Failure> {
    global.locations().check()?;
    match command {
        DatasetsCommand::List => list(global),
        DatasetsCommand::Fetch { name } => {
            let bar = !global.quiet && std::io::stderr().is_terminal();
            let progress = if bar { Progress::Bar } else { Progress::Silent };
            let files = fetch(&name, &global.locations(), progress)?;
            let files = files.iter().map(|path| path.display().to_string()).collect();
            let fetched = Fetched { name, files };
            global.print(&fetched, || match fetched.files.is_empty() {
                true => format!("{} is built in: there is nothing to download", fetched.name),
                false => format!("{} is complete:\n  {}", fetched.name, fetched.files.join("\n  ")),
            })
        }
        DatasetsCommand::Verify { names } => check(&names, global),
    }
}

fn list(global: &Global) -> Result<(), Failure> {
    let locations = global.locations();
    let mut rows = Vec::new();
    for manifest in catalog() {
        let lacks = |file: &&DataFile| locate(manifest, &file.path, &locations).is_err();
        let mut lacking = manifest.files.iter().filter(lacks).peekable();
        let status = match manifest.built_in {
            true => "built in",
            false if lacking.peek().is_none() => "at hand",
            false if lacking.all(|file| file.optional) => "at hand in part",
            false => "not at hand",
        };
        let Manifest { name, title, origin, licence, .. } = manifest;
        rows.push(Listed { name, title, status, origin, licence });
    }
    global.print(&rows, || {
        let mut table = Table::new();
        table
            .load_style(presets::ASCII_BORDERS_ONLY_CONDENSED)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(["name", "status", "licence", "title"]);
        for row in &rows {
            table.add_row([row.name, row.status, row.licence, row.title]);
        }
        table.to_string()
    })
}

fn check(names: &[String], global: &Global) -> Result<(), Failure> {
    let locations = global.locations();
    let chosen: Vec<&Manifest> = match names.is_empty() {
        true => catalog().iter().collect(),
        false => names.iter().map(|name| manifest(name)).collect::<Result<_, _>>()?,
    };
    let mut rows = Vec::new();
    for manifest in chosen {
        for status in verify(manifest, &locations) {
            let message = match &status.state {
                FileState::Ok => "ok".to_string(),
                FileState::Unpacked => "unpacked: a folder has no checksum".to_string(),
                FileState::Missing { looked } => {
                    let looked: Vec<_> = looked.iter().map(|p| p.display().to_string()).collect();
                    let missing = if status.optional { "missing, not needed" } else { "missing" };
                    format!("{missing}; looked in {}", looked.join(", "))
                }
                FileState::Corrupt { expected, found } => {
                    format!("not the published file: expected {expected}, found {found}")
                }
            };
            rows.push(Verified {
                dataset: manifest.name.clone(),
                file: status.file,
                path: status.path.map(|path| path.display().to_string()),
                ok: match status.state {
                    FileState::Ok | FileState::Unpacked => true,
                    FileState::Missing { .. } => status.optional,
                    FileState::Corrupt { .. } => false,
                },
                message,
            });
        }
    }
    global.print(&rows, || match rows.is_empty() {
        true => "nothing to verify: the data are generated".to_string(),
        false => {
            let line = |row: &Verified| format!("{}  {}: {}\n", row.dataset, row.file, row.message);
            rows.iter().map(line).collect()
        }
    })?;
    let bad = rows.iter().filter(|row| !row.ok).count();
    match bad {
        0 => Ok(()),
        _ => Err(Failure::failed(format!("{bad} of {} files are missing or damaged", rows.len()))),
    }
}
