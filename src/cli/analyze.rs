//! `ausn analyze`

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use rayon::prelude::*;
use serde::Serialize;

use super::{Failure, Global, write};
use crate::coding::theory::{Density, RangePoint, Side, Sweep, TheoryError, grids};
use crate::evaluate::{SqnrPanel, sqnr_chart};

/// Compare codings on a density, without data.
#[derive(Args)]
pub(super) struct AnalyzeArgs {
    /// Density of the numbers to code: `normal`, `laplace` or `uniform`; may be repeated [default: all].
    #[arg(long)]
    density: Vec<Density>,
    /// Bits of a code word: 2 to 16, or with `--unsigned` 1 to 15.
    #[arg(long)]
    bits: u32,
    /// No sign bit, for the magnitudes of the numbers (as after a ReLU).
    #[arg(long)]
    unsigned: bool,
    /// Which ranges the ranking goes by.
    #[arg(long, value_enum, default_value_t)]
    scale: Scale,
    /// Standard deviation of the numbers; it decides which power-of-two ranges there are.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    sigma: f64,
    /// Write a chart of SQNR over the range to this SVG file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Scale {
    /// Ranges that are powers of two.
    #[default]
    PowerOfTwo,
    /// Any scale.
    Free,
}

impl Scale {
    fn best(self, sweep: &Sweep) -> &RangePoint {
        match self {
            Scale::PowerOfTwo => &sweep.best_power_of_two.point,
            Scale::Free => &sweep.best_free,
        }
    }
}

/// What a density makes of the codings.
#[derive(Serialize)]
struct Analysis {
    density: Density,
    side: Side,
    bits: u32,
    sigma: f64,
    ranked_by: Scale,
    /// The best first.
    codings: Vec<Sweep>,
}

pub(super) fn run(args: AnalyzeArgs, global: &Global) -> Result<(), Failure> {
    let side = if args.unsigned { Side::Positive } else { Side::Both };
    let grids = grids(args.bits, !args.unsigned);
    if grids.is_empty() {
        return Err(Failure::refused(match args.unsigned {
            true => format!("--bits {} --unsigned: 1 to 15 bits are possible", args.bits),
            false => format!("--bits {}: 2 to 16 bits are possible", args.bits),
        }));
    }
    let densities = if args.density.is_empty() { Density::ALL.to_vec() } else { args.density };
    let analyze = |density| -> Result<Analysis, TheoryError> {
        let sweep = |grid| Sweep::new(grid, density, side, args.sigma);
        let mut codings =
            grids.clone().into_par_iter().map(sweep).collect::<Result<Vec<_>, _>>()?;
        let loss = |sweep: &Sweep| args.scale.best(sweep).error.total();
        codings.sort_by(|a, b| loss(a).total_cmp(&loss(b)));
        let (bits, sigma, ranked_by) = (args.bits, args.sigma, args.scale);
        Ok(Analysis { density, side, bits, sigma, ranked_by, codings })
    };
    let found = densities.into_iter().map(analyze).collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = &args.svg {
        let panel = |found| SqnrPanel { title: title(found), sweeps: &found.codings };
        let panels: Vec<SqnrPanel<'_>> = found.iter().map(panel).collect();
        let svg = sqnr_chart(&panels)
            .map_err(|error| Failure::failed(format!("cannot draw {}: {error}", path.display())))?;
        write(path, svg.as_bytes())?;
    }
    global.print(&found, || found.iter().map(text).collect::<Vec<_>>().join("\n\n"))
}

fn title(found: &Analysis) -> String {
    let numbers = match found.side {
        Side::Both => "numbers",
        Side::Positive => "magnitudes",
    };
    format!("{} bits on {numbers} of a {} density", found.bits, found.density)
}

fn text(found: &Analysis) -> String {
    format!(
        "{}, standard deviation {}; errors per number, in units of E x^2\n\n{}\n\n\
         SQNR in dB over the range exponent r\n\n{}\n\n{}",
        title(found),
        found.sigma,
        ranking(found),
        over_ranges(&found.codings),
        optimum(&found.codings),
    )
}

/// The codings, each at its best range of the kind that they are ranked by.
fn ranking(found: &Analysis) -> Table {
    let (range, other, other_name) = match found.ranked_by {
        Scale::PowerOfTwo => ("r", Scale::Free, "with a free scale"),
        Scale::Free => ("scale", Scale::PowerOfTwo, "with a power of two"),
    };
    let header = [
        "coding",
        "E",
        "S",
        range,
        "M / sigma",
        "clipping",
        "rounding",
        "clipped",
        "SQNR",
        other_name,
        "2^r, mean over sigma",
    ];
    let rows = found.codings.iter().map(|sweep| {
        let best = found.ranked_by.best(sweep);
        let format = sweep.grid.format();
        let bits = |bits: Option<u32>| bits.map_or(String::new(), |bits| bits.to_string());
        vec![
            sweep.grid.name().to_string(),
            bits(format.map(|format| format.exponent_bits())),
            bits(format.map(|format| format.superposition_bits())),
            match found.ranked_by {
                Scale::PowerOfTwo => sweep.best_power_of_two.range_exponent.to_string(),
                Scale::Free => format!("{:.4}", best.scale),
            },
            format!("{:.3}", best.max_in_sigmas),
            format!("{:.3e}", best.error.clipping),
            format!("{:.3e}", best.error.rounding),
            format!("{:.2} %", 100.0 * best.error.clipped),
            decibels(best.sqnr_db),
            decibels(other.best(sweep).sqnr_db),
            decibels(sweep.mean_power_of_two_db),
        ]
    });
    table(header.map(String::from).to_vec(), rows)
}

/// The SQNR of each coding at the range exponents around the best ones.
fn over_ranges(codings: &[Sweep]) -> Table {
    let best = || codings.iter().map(|sweep| sweep.best_power_of_two.range_exponent);
    let (low, high) = (best().min().unwrap_or(0) - 2, best().max().unwrap_or(0) + 2);
    let header = (low..=high).map(|r| r.to_string());
    let rows = codings.iter().map(|sweep| {
        let at = |r| {
            let point = sweep.power_of_two.iter().find(|at| at.range_exponent == r);
            point.map_or(String::new(), |at| format!("{:.2}", at.point.sqnr_db))
        };
        [sweep.grid.name().to_string()].into_iter().chain((low..=high).map(at)).collect()
    });
    table(["coding".to_string()].into_iter().chain(header).collect(), rows)
}

/// The best coding for each kind of range.
fn optimum(codings: &[Sweep]) -> String {
    let best = |sqnr: fn(&Sweep) -> f64| {
        // The first of equals, as in the ranking.
        let best = codings.iter().min_by(|a, b| sqnr(b).total_cmp(&sqnr(a)));
        best.expect("every width has a coding")
    };
    let describe = |sweep: &Sweep, point: &RangePoint| {
        format!(
            "{}, M = {:.3} sigma, {}, {:.0} % of the error is clipping",
            sweep.grid.name(),
            point.max_in_sigmas,
            decibels(point.sqnr_db),
            100.0 * point.error.clipping_share(),
        )
    };
    let here = best(|sweep| sweep.best_power_of_two.point.sqnr_db);
    let mean = best(|sweep| sweep.mean_power_of_two_db);
    let free = best(|sweep| sweep.best_free.sqnr_db);
    format!(
        "best power-of-two range: r = {}, {}\n\
         best power-of-two range in the mean over an octave of sigma: {}, {}\n\
         best free scale: {:.4}, {}",
        here.best_power_of_two.range_exponent,
        describe(here, &here.best_power_of_two.point),
        mean.grid.name(),
        decibels(mean.mean_power_of_two_db),
        free.best_free.scale,
        describe(free, &free.best_free),
    )
}

fn decibels(decibels: f64) -> String {
    format!("{decibels:.2} dB")
}

fn table(header: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_BORDERS_ONLY_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
