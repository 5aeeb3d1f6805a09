//! `ausn table`

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;
use serde::Serialize;

use super::{Failure, Global, device, tell, write};
use crate::suite::{
    Cell, Event, Group, Outcome, Processes, Record, Selection, Shard, Stop, Suite, SuiteError,
    Tally, groups, replace_marked, run as run_cells, write_tables,
};

/// Run a suite of tasks, codings and seeds, and write its tables.
///
/// What has a result is not run again, and what was killed goes on from its last epoch. A cell that
/// fails does not stop the others; it stands in the table as failed, and is tried again next time.
#[derive(Args)]
pub(super) struct TableArgs {
    /// The suite, a TOML file.
    suite: PathBuf,
    /// Folder of the runs: each suite has a folder of its own in it.
    #[arg(long, value_name = "DIR", default_value = "runs")]
    runs: PathBuf,
    /// Folder of the results [default: the suite's `out`].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Cells that run at once, each a process; they share the processor's cores.
    #[arg(long, value_name = "K", default_value = "1", value_parser = at_least_one, allow_negative_numbers = true)]
    jobs: usize,
    /// Run this task of the suite alone, by its name or its folder's; may be given several times.
    #[arg(long, value_name = "NAME")]
    task: Vec<String>,
    /// Run this cell alone, and the float runs that it starts from; `float` for those alone. May be
    /// given several times.
    #[arg(long, value_name = "NAME")]
    cell: Vec<String>,
    /// Run this seed alone; may be given several times.
    #[arg(long, value_name = "N")]
    seed: Vec<u64>,
    /// Run the i-th of n parts, such as 2/8. A float run and its cells stay in one part.
    #[arg(long, value_name = "I/N")]
    shard: Option<String>,
    /// Check the configurations of all cells and list them; run nothing.
    #[arg(long, conflicts_with_all = ["tables_only", "readme"])]
    dry_run: bool,
    /// Write the tables from the results that are there; run nothing.
    #[arg(long, conflicts_with_all = ["task", "cell", "seed", "shard", "jobs", "device"])]
    tables_only: bool,
    /// Write its overview into this file too, all tasks beside each other, between `<!-- table:NAME -->` and `<!-- /table -->`.
    #[arg(long, value_name = "FILE")]
    readme: Option<PathBuf>,
    /// Remove the checkpoints of each run that has ended; they are most of its size.
    #[arg(long)]
    drop_checkpoints: bool,
    /// Device of all runs, such as `cuda:1`; `ausn devices` lists those of this machine.
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
}

/// A cell in the list of a dry run.
#[derive(Serialize)]
struct Listed {
    task: String,
    cell: String,
    seed: u64,
    state: &'static str,
    run: PathBuf,
}

pub(super) fn run(args: TableArgs, global: &Global) -> Result<(), Failure> {
    if let Some(name) = &args.device {
        device::named("--device", name)?;
    }
    let shard: Shard = match &args.shard {
        Some(text) => text.parse().map_err(|e| Failure::refused(format!("--shard {e}")))?,
        None => Shard::default(),
    };
    let mut suite = Suite::load(&args.suite)?;
    suite.out = args.out.clone().unwrap_or(suite.out);
    let all = groups(&suite, &args.runs)?;
    let selection =
        Selection { tasks: args.task.clone(), cells: args.cell.clone(), seeds: args.seed.clone() };
    let part = shard.of(selection.of(all.clone())?);
    if args.dry_run {
        return list(&part, global);
    }
    // What a suite of hours ends with must not fail for a name that is wrong.
    if let Some(readme) = &args.readme {
        document(readme, &suite.name, "")?;
    }
    if args.tables_only && args.out.is_some() && !suite.out.is_dir() {
        return Err(Failure::refused(format!("there are no results in {}", suite.out.display())));
    }
    // Nor for results that cannot be read or written: the tables of what is there already try both.
    let mut table = write_tables(&suite, &all)?;
    let mut tally = Tally::default();
    if !args.tables_only {
        tally = run_all(&args, &part, global)?;
        table = write_tables(&suite, &all)?;
    }
    let text = table.markdown();
    let updated = args
        .readme
        .as_ref()
        .map_or(Ok(()), |readme| update(readme, &suite.name, &table.overview()));
    global.print(&table, || format!("{text}\ntables: {}/table.*", suite.out.display()))?;
    updated?;
    verdict(tally)
}

/// Exit code 0 only where nothing is left to do.
fn verdict(tally: Tally) -> Result<(), Failure> {
    let Tally { done, found, failed, stopped, elsewhere } = tally;
    if stopped > 0 {
        return Err(Failure::interrupted(format!(
            "stopped with {stopped} cells left; the same command goes on"
        )));
    }
    let all = done + found + failed + elsewhere;
    if failed > 0 {
        return Err(Failure::failed(format!(
            "{failed} of {all} cells failed; the table says why. The same command tries them again"
        )));
    }
    if elsewhere > 0 {
        return Err(Failure::failed(format!(
            "{elsewhere} of {all} cells are being run by another process, or start from a float run \
             that is; give each process its own --shard"
        )));
    }
    Ok(())
}

fn run_all(args: &TableArgs, groups: &[Group], global: &Global) -> Result<Tally, Failure> {
    let stop = Stop::default();
    stop_with_ctrl_c(&stop);
    let program = std::env::current_exe()
        .map_err(|error| Failure::failed(format!("cannot find this program: {error}")))?;
    let mut arguments = Vec::new();
    for (option, value) in [
        ("--device", args.device.clone()),
        ("--data-dir", global.data_dir.as_ref().map(|dir| dir.display().to_string())),
    ] {
        arguments.extend(value.into_iter().flat_map(|value| [option.to_string(), value]));
    }
    let processes =
        Processes { program, arguments, threads: threads(args.jobs), stop: stop.clone() };
    let total: usize = groups.iter().map(|group| group.all().count()).sum();
    let ended = AtomicUsize::new(0);
    let watch = |cell: &Cell, event: Event| {
        let count = match event {
            Event::Started => ended.load(Ordering::SeqCst),
            _ => ended.fetch_add(1, Ordering::SeqCst) + 1,
        };
        if args.drop_checkpoints && matches!(event, Event::Done { .. } | Event::Found) {
            drop_checkpoints(&cell.run);
        }
        if let (false, Some(line)) = (global.quiet, line(&event)) {
            tell(format_args!("[{count}/{total}] {cell}: {line}"));
        }
    };
    Ok(run_cells(groups, &processes, args.jobs, &stop, &watch)?)
}

/// The threads that each of several processes may use; `None` for one process, and where the user
/// has set it.
fn threads(jobs: usize) -> Option<usize> {
    let set = std::env::var_os("RAYON_NUM_THREADS").is_some();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (jobs > 1 && !set).then(|| (cores / jobs).max(1))
}

/// What is said of an event; of cells that were done before, their number in the count is enough.
fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::Started => "started".into(),
        Event::Found => return None,
        Event::Failed { reason } => format!("failed: {reason}"),
        Event::Stopped => "stopped".into(),
        Event::Elsewhere => "is being run by another process".into(),
        Event::Done { record, seconds } => match &record.outcome {
            Outcome::Done { summary } => {
                let splits = &summary.splits;
                let last = [&splits.quantized, &splits.calibrated, &splits.float];
                let last = last.into_iter().find_map(|scores| scores.first());
                let value = last.map_or(f64::NAN, |score| score.value);
                format!("{} {value:.4}, {seconds:.0} s", summary.metric.name)
            }
            Outcome::Failed { reason } => format!("failed: {reason}"),
        },
    })
}

fn drop_checkpoints(run: &Path) {
    let folder = run.join("checkpoints");
    if let Err(error) = std::fs::remove_dir_all(&folder)
        && folder.exists()
    {
        tracing::warn!("cannot remove {}: {error}", folder.display());
    }
}

fn stop_with_ctrl_c(stop: &Stop) {
    let stop = stop.clone();
    let handler = move || match stop.request() {
        true => std::process::exit(130),
        false => tell("\nstopping; press Ctrl-C again to stop at once"),
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        tracing::warn!("Ctrl-C will stop at once: {error}");
    }
}

/// The text of a document with a table between the markers of a suite.
fn document(path: &Path, name: &str, table: &str) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::refused(format!("--readme: cannot read {}: {error}", path.display()))
    })?;
    Ok(replace_marked(&text, path, name, table)?)
}

fn update(readme: &Path, name: &str, table: &str) -> Result<(), Failure> {
    let new = document(readme, name, table)?;
    write(readme, new.as_bytes())
}

fn list(groups: &[Group], global: &Global) -> Result<(), Failure> {
    let listed = groups.iter().flat_map(Group::all).map(|cell| {
        let state = match Record::load(cell)? {
            Some(record) if record.is_done() => "done",
            Some(_) => "failed",
            None => "to do",
        };
        Ok(Listed {
            task: cell.task.clone(),
            cell: cell.name().to_string(),
            seed: cell.seed,
            state,
            run: cell.run.clone(),
        })
    });
    let cells = listed.collect::<Result<Vec<Listed>, SuiteError>>()?;
    global.print(&cells, || {
        let mut table = comfy_table::Table::new();
        table
            .load_style(comfy_table::presets::ASCII_BORDERS_ONLY_CONDENSED)
            .set_content_arrangement(comfy_table::ContentArrangement::Disabled)
            .set_header(["task", "cell", "seed", "state", "run"]);
        for cell in &cells {
            table.add_row([
                cell.task.clone(),
                cell.cell.clone(),
                cell.seed.to_string(),
                cell.state.to_string(),
                cell.run.display().to_string(),
            ]);
        }
        let done = cells.iter().filter(|cell| cell.state == "done").count();
        format!(
            "{table}\n{} cells, {done} of them done; all configurations are valid (what does not fit \
             a task's model, data or splits shows once they run)",
            cells.len()
        )
    })
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("must be a number, at least 1".into()),
        Ok(jobs) => Ok(jobs),
    }
}
