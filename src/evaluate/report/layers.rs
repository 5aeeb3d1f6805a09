//! Clipping against rounding error of every quantized tensor.

use std::ops::Range;

use super::axis::Axis;
use super::ink::{Dash, Ink};
use super::plot::{
    AXIS, Anchor, Canvas, Frame, Framed, Plot, Sample, Shape, WIDTH, legend_height, names_width,
};
use super::run::{Run, Tensor};
use crate::evaluate::LayerError;

const CLIPPING: Ink = Ink::Series(1);
const ROUNDING: Ink = Ink::Series(0);

/// The height of a tensor's two bars, with the room between tensors.
const ROW: f64 = 24.0;
const BAR: f64 = 8.0;

/// What the figures right of the bars take.
const FIGURES: f64 = 150.0;

const AXIS_TITLE: &str = "squared error ÷ sum of squares (log scale)";

/// Longer names lose their middle, so that something is left for the bars.
const LONGEST_NAME: usize = 64;

fn short(name: String) -> String {
    let chars: Vec<char> = name.chars().collect();
    if chars.len() <= LONGEST_NAME {
        return name;
    }
    let half = (LONGEST_NAME - 1) / 2;
    let text = |part: &[char]| part.iter().collect::<String>();
    format!("{}…{}", text(&chars[..half]), text(&chars[chars.len() - half..]))
}

/// What a plot is of, with the name of its tensors.
const KINDS: [(&str, bool); 2] = [("weights", true), ("activations", false)];

/// Rows of more height than this are spread over several plots, so that each fits a printed page.
const PAGE: f64 = 1000.0;

/// Parts of a list of rows, about equally long, each with what its plot's name and title end with.
fn parts(count: usize, row: f64) -> impl Iterator<Item = (Range<usize>, String, String)> {
    let parts = count.div_ceil((PAGE / row).max(1.0) as usize);
    (0..parts).map(move |i| {
        let (name, title) = match parts {
            1 => (String::new(), String::new()),
            parts => (format!("-{}", i + 1), format!(" ({} of {parts})", i + 1)),
        };
        (i * count / parts..(i + 1) * count / parts, name, title)
    })
}

/// Plots for the weights, and plots for the activations.
pub(super) fn layers(run: &Run) -> Vec<Plot> {
    KINDS.into_iter().flat_map(|(name, weight)| kind(run, name, weight)).collect()
}

fn kind(run: &Run, kind: &str, weight: bool) -> Vec<Plot> {
    let all: Vec<&Tensor> =
        run.tensors.iter().filter(|tensor| tensor.is_weight() == weight).collect();
    let errors = all.iter().flat_map(|tensor| &tensor.measured).map(LayerError::relative);
    let x = Axis::decades(errors.flat_map(|(clipping, rounding)| [clipping, rounding]));
    let plot = |(rows, name, part): (Range<usize>, String, String)| {
        let name = format!("errors-{kind}{name}");
        let title = format!("Clipping and rounding error of the {kind}{part}");
        bars(&name, title, &all[rows], &x)
    };
    parts(all.len(), ROW).map(plot).collect()
}

fn bars(name: &str, title: String, tensors: &[&Tensor], x: &Axis) -> Plot {
    let names: Vec<String> = tensors.iter().map(|tensor| short(tensor.label())).collect();
    let y = Axis::rows(tensors.len());
    let tuned = tensors.iter().any(|tensor| tensor.before().is_some());
    let mut legend = vec![
        (Sample::Bar(CLIPPING, 1.0), "clipping error".to_string()),
        (Sample::Bar(ROUNDING, 1.0), "rounding error".to_string()),
    ];
    if tuned {
        legend.push((Sample::Tick(Ink::Text), "before fine-tuning".to_string()));
    }
    let left = names_width(&names);
    let top = legend_height(0.0, &legend) + 22.0;
    let height = top + ROW * tensors.len() as f64 + AXIS;
    let description = format!(
        "For each of {} tensors its clipping and its rounding error over its sum of squares, with the part of \
         clipped values and the signal to noise ratio. The same figures are in the table of errors.",
        tensors.len()
    );
    Plot::draw(name, title, description, height, |canvas| {
        let framed = canvas.frame(&Frame {
            x,
            y: &y,
            x_title: AXIS_TITLE,
            y_title: None,
            rows: Some(&names),
            top,
            left,
            right: FIGURES,
        });
        canvas.legend(0.0, &legend);
        let columns = [framed.to.0 + 74.0, WIDTH - 2.0];
        let heading = framed.to.1 - 12.0;
        canvas.text("clipped", (columns[0], heading), Ink::Muted, Anchor::End);
        canvas.text("SQNR", (columns[1], heading), Ink::Muted, Anchor::End);
        for (i, tensor) in tensors.iter().enumerate() {
            let errors = tensor.last();
            let y = framed.y(i as f64 + 0.5);
            let before = tensor.before().map(LayerError::relative);
            let (clipping, rounding) = errors.relative();
            bar(canvas, &framed, (y - BAR, y), CLIPPING, (clipping, before.map(|before| before.0)));
            bar(canvas, &framed, (y, y + BAR), ROUNDING, (rounding, before.map(|before| before.1)));
            let clipped = format!("{:.2} %", 100.0 * errors.clipped_fraction);
            canvas.text(&clipped, (columns[0], y), Ink::Text, Anchor::End);
            canvas.text(&errors.sqnr(), (columns[1], y), Ink::Text, Anchor::End);
        }
    })
}

/// A bar, and a tick where it ended before fine-tuning.
fn bar(
    canvas: &Canvas,
    framed: &Framed,
    (top, bottom): (f64, f64),
    ink: Ink,
    (value, before): (f64, Option<f64>),
) {
    let from = framed.from.0;
    if value > 0.0 {
        // A bar at the very start of the axis would not be seen.
        let to = framed.x(value).max(from + 1.5);
        canvas.bar((from, top), (to, bottom), ink, 1.0);
    }
    if let Some(before) = before.filter(|before| *before > 0.0) {
        let x = framed.x(before);
        canvas.line(&[(x, top), (x, bottom)], Ink::Text, Dash::Solid, 2.0, 1.0);
    }
}

/// The errors of several runs side by side, weights and activations apart.
pub(super) fn compared(runs: &[Run]) -> Vec<Plot> {
    KINDS.into_iter().flat_map(|(name, weight)| compared_kind(runs, name, weight)).collect()
}

fn compared_kind(runs: &[Run], kind: &str, weight: bool) -> Vec<Plot> {
    let mut names: Vec<String> = Vec::new();
    let tensors = |run: &'_ Run| -> Vec<Tensor> {
        run.tensors.iter().filter(|tensor| tensor.is_weight() == weight).cloned().collect()
    };
    let tensors: Vec<Vec<Tensor>> = runs.iter().map(tensors).collect();
    for tensor in tensors.iter().flatten() {
        if !names.contains(&tensor.label()) {
            names.push(tensor.label());
        }
    }
    let errors = tensors.iter().flatten().map(|tensor| tensor.last().relative());
    let x = Axis::decades(errors.flat_map(|(clipping, rounding)| [clipping, rounding]));
    let plot = |(rows, name, part): (Range<usize>, String, String)| {
        let name = format!("errors-{kind}{name}");
        let title = format!("Clipping and rounding error of the {kind}{part}");
        lanes(&name, title, (runs, &tensors), &names[rows], &x)
    };
    parts(names.len(), lanes_height(runs)).map(plot).collect()
}

/// The height of a run's lane in a row.
const LANE: f64 = 11.0;

/// The height of a row with a lane for each run.
fn lanes_height(runs: &[Run]) -> f64 {
    LANE * runs.len() as f64 + 10.0
}

fn lanes(
    name: &str,
    title: String,
    (runs, tensors): (&[Run], &[Vec<Tensor>]),
    names: &[String],
    x: &Axis,
) -> Plot {
    let y = Axis::rows(names.len());
    let mut legend: Vec<_> = runs
        .iter()
        .enumerate()
        .map(|(i, run)| (Sample::Bar(Ink::series(i), 1.0), run.name.clone()))
        .collect();
    legend.push((Sample::Mark(Ink::Muted, Shape::Ring), "clipping error".to_string()));
    legend.push((Sample::Mark(Ink::Muted, Shape::Circle), "rounding error".to_string()));
    let labels: Vec<String> = names.iter().cloned().map(short).collect();
    let left = names_width(&labels);
    let top = legend_height(0.0, &legend) + 6.0;
    let height = top + lanes_height(runs) * names.len() as f64 + AXIS;
    let description = format!(
        "For each of {} tensors the clipping and the rounding error over its sum of squares in each of {} runs.",
        names.len(),
        runs.len()
    );
    Plot::draw(name, title, description, height, |canvas| {
        let framed = canvas.frame(&Frame {
            x,
            y: &y,
            x_title: AXIS_TITLE,
            y_title: None,
            rows: Some(&labels),
            top,
            left,
            right: 16.0,
        });
        canvas.legend(0.0, &legend);
        for (i, name) in names.iter().enumerate() {
            if i > 0 {
                let y = framed.y(i as f64);
                canvas.line(
                    &[(framed.from.0, y), (framed.to.0, y)],
                    Ink::Muted,
                    Dash::Solid,
                    1.0,
                    0.4,
                );
            }
            for (run, tensors) in tensors.iter().enumerate() {
                let tensor = tensors.iter().find(|tensor| tensor.label() == *name);
                let Some(tensor) = tensor else { continue };
                let middle = (runs.len() as f64 - 1.0) / 2.0;
                let y = framed.y(i as f64 + 0.5) + LANE * (run as f64 - middle);
                let ink = Ink::series(run);
                let (clipping, rounding) = tensor.last().relative();
                let found = [(clipping, Shape::Ring), (rounding, Shape::Circle)];
                let found = found.into_iter().filter(|(value, _)| *value > 0.0);
                let points: Vec<_> =
                    found.map(|(value, shape)| ((framed.x(value), y), shape)).collect();
                if let [(a, _), (b, _)] = points[..] {
                    canvas.line(&[a, b], ink, Dash::Solid, 1.2, 0.6);
                }
                points.iter().for_each(|&(point, shape)| canvas.mark(point, ink, shape));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rows_are_spread_evenly_over_several_plots() {
        let found: Vec<_> = parts(84, 24.0).collect();
        let rows: Vec<_> = found.iter().map(|(rows, _, _)| rows.clone()).collect();
        assert_eq!(rows, [0..28, 28..56, 56..84]);
        assert_eq!((found[1].1.as_str(), found[1].2.as_str()), ("-2", " (2 of 3)"));
        assert_eq!(parts(41, 24.0).next(), Some((0..41, String::new(), String::new())));
        assert_eq!(parts(0, 24.0).count(), 0);
        assert_eq!(parts(2, 5000.0).count(), 2);
    }

    #[test]
    fn names_that_are_too_long_lose_their_middle() {
        assert_eq!(short("encoder.layers.0.query".into()), "encoder.layers.0.query");
        let long = format!("start{}end", "x".repeat(80));
        let found = short(long);
        assert_eq!(found.chars().count(), LONGEST_NAME - 1);
        assert!(found.starts_with("startx") && found.ends_with("xend") && found.contains('…'));
    }
}
