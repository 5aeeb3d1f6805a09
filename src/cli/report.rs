//! `ausn report`

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{Failure, Global, check_out, write};
use crate::evaluate::report::{self, Plot, Run};

/// Write the report of a run, or compare several runs.
#[derive(Args)]
pub(super) struct ReportArgs {
    /// Folders of runs. Of one run the report is written, of several a comparison.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The file to write [default: report.html in the run's folder; comparison.html for several runs].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write every plot as an SVG file to this folder too.
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
    /// Write every plot as a PNG file to this folder too.
    #[arg(long, value_name = "DIR")]
    png: Option<PathBuf>,
}

/// The files that were written.
#[derive(Serialize)]
struct Written {
    report: PathBuf,
    plots: Vec<PathBuf>,
}

pub(super) fn run(args: ReportArgs, global: &Global) -> Result<(), Failure> {
    let runs = Run::read_all(&args.runs)?;
    if let Some(out) = &args.out {
        check_out(out, "report", report::is_report)?;
    }
    let (page, plots, default) = match &runs[..] {
        [run] => (report::page(run), report::plots(run), args.runs[0].join("report.html")),
        runs => (
            report::comparison(runs),
            report::compared_plots(runs),
            PathBuf::from("comparison.html"),
        ),
    };
    let mut written = Written { report: args.out.unwrap_or(default), plots: Vec::new() };
    write(&written.report, page.as_bytes())?;
    if let Some(folder) = &args.svg {
        export(folder, "svg", &plots, &mut written, |plot| Ok(plot.svg().into_bytes()))?;
    }
    if let Some(folder) = &args.png {
        export(folder, "png", &plots, &mut written, |plot| Ok(plot.png()?))?;
    }
    global.print(&written, || text(&written))
}

fn export(
    folder: &Path,
    extension: &str,
    plots: &[Plot],
    written: &mut Written,
    content: impl Fn(&Plot) -> Result<Vec<u8>, Failure>,
) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|error| {
        Failure::failed(format!("cannot create the folder {}: {error}", folder.display()))
    })?;
    for plot in plots {
        let path = folder.join(format!("{}.{extension}", plot.name));
        write(&path, &content(plot)?)?;
        written.plots.push(path);
    }
    Ok(())
}

fn text(written: &Written) -> String {
    let mut text = format!("report: {}\n", written.report.display());
    for plot in &written.plots {
        text.push_str(&format!("plot: {}\n", plot.display()));
    }
    text
}
