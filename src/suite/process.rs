//! Running a cell as a process of its own: `ausn train`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Cell;
use super::run::has_model;
use super::write::write_file;
use crate::evaluate::Summary;
use crate::files::try_lock;
use crate::train::is_running;

/// What runs a cell in its folder, or what is left of it.
pub trait Runner: Sync {
    /// Runs it, and returns when it has ended.
    fn run(&self, cell: &Cell) -> Ran;
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ran {
    /// It has a summary.
    Done,
    /// It has none.
    Failed(String),
    /// The user stopped it; it goes on next time.
    Stopped,
    /// Another process is running it.
    Elsewhere,
}

/// A request to stop.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks for it. Returns whether it had been asked for before.
    pub fn request(&self) -> bool {
        self.0.swap(true, Ordering::SeqCst)
    }

    /// Whether it was asked for.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Runs each cell with `ausn train`, so that what ends one does not end the others.
///
/// A child ends with this process, however that ends: it stops when its standard input does.
#[derive(Clone, Debug)]
pub struct Processes {
    /// The program.
    pub program: PathBuf,
    /// Arguments for every run, such as the device.
    pub arguments: Vec<String>,
    /// Threads of each, where they are to be limited.
    pub threads: Option<usize>,
    /// Ends all of them.
    pub stop: Stop,
}

const POLL: Duration = Duration::from_millis(20);
const ERRORS: &str = "stderr.log";

impl Runner for Processes {
    fn run(&self, cell: &Cell) -> Ran {
        self.try_run(cell).unwrap_or_else(|error| Ran::Failed(error.to_string()))
    }
}

impl Processes {
    fn try_run(&self, cell: &Cell) -> io::Result<Ran> {
        fs::create_dir_all(&cell.run).map_err(|error| about(&cell.run, error))?;
        let lock = cell.run.join(".lock");
        let lock_file = File::create(&lock).map_err(|error| about(&lock, error))?;
        let is_own = try_lock(&lock_file).map_err(|error| about(&lock, error))?;
        // Nor may an `ausn train --resume` have it.
        if !is_own || is_running(&cell.run) {
            return Ok(Ran::Elsewhere);
        }
        let done = match cell.column {
            None => has_model(&cell.run),
            Some(_) => cell.run.join(Summary::FILE).is_file(),
        };
        if done {
            return Ok(Ran::Done);
        }
        // The same but for the path of the float checkpoint, if the runs were moved.
        write_file(&cell.run.join("config.toml"), cell.config.text.as_bytes())
            .map_err(io::Error::other)?;
        let errors = cell.run.join(ERRORS);
        let mut child = self.start(&cell.run, &errors)?;
        let status = self.wait(&mut child)?;
        Ok(match status.success() {
            true => Ran::Done,
            false if self.stop.requested() => Ran::Stopped,
            false => Ran::Failed(reason(&fs::read_to_string(&errors).unwrap_or_default(), status)),
        })
    }

    fn start(&self, run: &Path, errors: &Path) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command
            .args(["train", "--quiet", "--stop-with-stdin", "--resume"])
            .arg(run)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(errors).map_err(|error| about(errors, error))?);
        if let Some(threads) = self.threads {
            command.env("RAYON_NUM_THREADS", threads.to_string());
        }
        command.spawn().map_err(|error| about(&self.program, error))
    }

    fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let mut input = child.stdin.take();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if self.stop.requested() {
                drop(input.take());
            }
            std::thread::sleep(POLL);
        }
    }
}

fn about(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Why a run failed, in a line: what it said last, or what ended it.
fn reason(stderr: &str, status: ExitStatus) -> String {
    const LONGEST: usize = 400;
    // What a library says may hold the word, too, but not at the start of a line.
    let message = match stderr.rfind("\nerror: ") {
        Some(start) => &stderr[start + "\nerror: ".len()..],
        None => stderr.strip_prefix("error: ").unwrap_or(stderr),
    };
    let lines = message.lines().map(str::trim);
    let said: Vec<&str> =
        lines.filter(|line| !line.is_empty() && !line.starts_with("resume with: ")).collect();
    let mut said = said.join(" ");
    if let Some((end, _)) = said.char_indices().nth(LONGEST) {
        said.truncate(end);
        said.push_str(" ...");
    }
    match (status.code(), said.is_empty()) {
        (Some(code), true) => format!("ended with exit code {code} and no message"),
        (Some(_), false) => said,
        (None, true) => format!("was killed ({status}); memory may have run out"),
        (None, false) => format!("was killed ({status}); memory may have run out; it said: {said}"),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn the_reason_is_what_was_said_last() {
        let failed = ExitStatus::from_raw(1 << 8);
        let killed = ExitStatus::from_raw(9);
        for (stderr, status, expected) in [
            ("error: a\n  b\nresume with: ausn train --resume x\n", failed, "a b"),
            ("warning\nerror: first\nerror: last\n", failed, "last"),
            ("error: cannot read x: I/O error: no", failed, "cannot read x: I/O error: no"),
            ("thread 'main' panicked at src\nno\n", failed, "thread 'main' panicked at src no"),
            ("", failed, "ended with exit code 1 and no message"),
            ("", killed, "was killed (signal: 9 (SIGKILL)); memory may have run out"),
        ] {
            assert_eq!(reason(stderr, status), expected);
        }
        assert_eq!(reason(&"ä".repeat(1000), failed).chars().count(), 404);
    }
}
