//! Training curves.

use super::axis::Axis;
use super::ink::{Dash, Ink};
use super::plot::{Anchor, Canvas, Frame, Framed, NUMBERS, Plot, Sample, Shape, legend_height};
use super::run::{Run, StageLog};

const HEIGHT: f64 = 340.0;

/// More points than this of single steps cannot be told apart.
const STEPS: usize = 500;

/// More epochs than this leave no room for marks.
const MARKED: usize = 60;

/// The plots of a run's stages: loss, and the metric on the validation data.
pub(super) fn curves(run: &Run) -> Vec<Plot> {
    [loss(run), metric(run)].into_iter().flatten().collect()
}

/// The two stages with the place of each one's first epoch.
fn stages(run: &Run) -> [(&'static str, Ink, Shape, &StageLog, f64); 2] {
    let (float, quantized) = (&run.log.float, &run.log.quantized);
    [
        ("float", Ink::Series(0), Shape::Circle, float, 0.0),
        ("quantized", Ink::Series(1), Shape::Square, quantized, float.epochs()),
    ]
}

fn shifted(points: &[(f64, f64)], by: f64) -> Vec<(f64, f64)> {
    points.iter().map(|(epoch, value)| (epoch + by, *value)).collect()
}

fn values<'a>(curves: impl IntoIterator<Item = &'a Vec<(f64, f64)>>) -> Vec<f64> {
    curves.into_iter().flatten().map(|(_, value)| *value).collect()
}

fn loss(run: &Run) -> Option<Plot> {
    let thinned = stages(run).map(|(_, _, _, log, _)| thin(&log.steps));
    let curves = stages(run)
        .into_iter()
        .zip(&thinned)
        .flat_map(|((_, _, _, log, _), (steps, _))| [&log.train_loss, &log.valid_loss, steps]);
    let values = values(curves);
    if values.is_empty() {
        return None;
    }
    let y = Axis::fitting(&values, 1.3, 6);
    let x = epochs(run);
    let mut legend = vec![
        (Sample::Line(Ink::Text, Dash::Solid), "training".to_string()),
        (Sample::Line(Ink::Text, Dash::Dashed), "validation".to_string()),
    ];
    if let Some(many) = thinned.iter().filter(|(steps, _)| !steps.is_empty()).map(|t| t.1).max() {
        let steps = match many {
            1 => "single training steps".to_string(),
            many => format!("means of up to {many} training steps"),
        };
        legend.push((Sample::Faint(Ink::Text), steps));
    }
    let scale = if y.is_log() { "loss (log scale)" } else { "loss" };
    let description = format!(
        "Loss on the training and the validation data after every epoch: {}.",
        told(run, |log| &log.valid_loss, "validation loss")
    );
    Some(Plot::draw("loss", "Loss", description, HEIGHT, |canvas| {
        let framed = frame(canvas, run, (&x, &y), scale, &legend);
        for ((_, ink, _, log, start), (steps, _)) in stages(run).into_iter().zip(&thinned) {
            let draw = |points: &[(f64, f64)], dash, width, opacity| {
                let points = framed.points(&shifted(points, start));
                canvas.line(&points, ink, dash, width, opacity);
                // A single point is no line.
                if let [point] = points[..] {
                    let solid = dash == Dash::Solid;
                    canvas.mark(point, ink, if solid { Shape::Circle } else { Shape::Ring });
                }
            };
            if !steps.is_empty() {
                draw(steps, Dash::Solid, 1.0, 0.4);
            }
            draw(&log.train_loss, Dash::Solid, 2.2, 1.0);
            draw(&log.valid_loss, Dash::Dashed, 2.2, 1.0);
        }
    }))
}

fn metric(run: &Run) -> Option<Plot> {
    let curves = stages(run).map(|(_, _, _, log, _)| &log.metric);
    let mut values = values(curves);
    if values.is_empty() {
        return None;
    }
    let calibrated = run.summary.as_ref().and_then(|summary| summary.splits.calibrated.first());
    let calibrated = calibrated.map(|score| score.value);
    values.extend(calibrated);
    let y = Axis::fitting(&values, 1.5, 6);
    let x = epochs(run);
    let mut legend = Vec::new();
    for (name, ink, shape, log, _) in stages(run) {
        if !log.metric.is_empty() {
            legend.push((Sample::Marked(ink, Dash::Solid, shape), name.to_string()));
        }
    }
    if let Some(value) = calibrated {
        let text = format!("straight after calibration: {value:.4}");
        legend.push((Sample::Line(Ink::Series(2), Dash::Dotted), text));
    }
    let metric = run.metric();
    let scale = if y.is_log() { format!("{metric} (log scale)") } else { metric.to_string() };
    let description = format!(
        "The {metric} on the validation data after every epoch: {}.",
        told(run, |log| &log.metric, metric)
    );
    let title = format!("Validation {metric}");
    Some(Plot::draw("metric", title, description, HEIGHT, |canvas| {
        let framed = frame(canvas, run, (&x, &y), &scale, &legend);
        if let Some(value) = calibrated {
            let y = framed.y(value);
            let line = [(framed.from.0, y), (framed.to.0, y)];
            canvas.line(&line, Ink::Series(2), Dash::Dotted, 1.8, 1.0);
        }
        for (_, ink, shape, log, start) in stages(run) {
            curve(canvas, &framed, &shifted(&log.metric, start), (ink, Dash::Solid, shape));
        }
    }))
}

fn curve(
    canvas: &Canvas,
    framed: &Framed,
    values: &[(f64, f64)],
    (ink, dash, shape): (Ink, Dash, Shape),
) {
    let points = framed.points(values);
    canvas.line(&points, ink, dash, 2.2, 1.0);
    if points.len() <= MARKED {
        points.iter().for_each(|&point| canvas.mark(point, ink, shape));
    }
}

/// The epochs of both stages, one after the other.
fn epochs(run: &Run) -> Axis {
    Axis::counted(run.log.float.epochs() + run.log.quantized.epochs(), 12)
}

fn frame<'a>(
    canvas: &Canvas,
    run: &Run,
    (x, y): (&'a Axis, &'a Axis),
    y_title: &'a str,
    legend: &[(Sample, String)],
) -> Framed<'a> {
    // Below the legend a line for the names of the stages.
    let top = legend_height(NUMBERS, legend) + 16.0;
    let framed = canvas.frame(&Frame {
        x,
        y,
        x_title: "epoch",
        y_title: Some(y_title),
        rows: None,
        top,
        left: NUMBERS,
        right: 16.0,
    });
    canvas.legend(NUMBERS, legend);
    let [float, quantized] = stages(run).map(|(_, _, _, log, _)| log.epochs());
    let (left, right, y) = (framed.from.0, framed.to.0, framed.to.1 - 10.0);
    match (float > 0.0, quantized > 0.0) {
        (true, true) => {
            let x = framed.x(float);
            let line = [(x, y - 6.0), (x, framed.from.1)];
            canvas.line(&line, Ink::Muted, Dash::Solid, 1.0, 0.8);
            canvas.text("float stage", (left, y), Ink::Text, Anchor::Start);
            // A short last stage has no room for its name.
            let (x, anchor) = match right - x > 110.0 {
                true => (x + 8.0, Anchor::Start),
                false => (x - 8.0, Anchor::End),
            };
            canvas.text("quantized stage", (x, y), Ink::Text, anchor);
        }
        (true, false) => canvas.text("float stage", (left, y), Ink::Text, Anchor::Start),
        _ => canvas.text("quantized stage", (left, y), Ink::Text, Anchor::Start),
    }
    framed
}

/// The last value of each stage, in words.
fn told<'a>(
    run: &'a Run,
    curve: impl Fn(&'a StageLog) -> &'a Vec<(f64, f64)>,
    what: &str,
) -> String {
    let last = |(name, _, _, log, _): (_, _, _, &'a StageLog, _)| {
        let (epoch, value) = curve(log).last()?;
        Some(format!("{what} {value:.4} after epoch {epoch} of the {name} stage"))
    };
    let told: Vec<String> = stages(run).into_iter().filter_map(last).collect();
    match told.is_empty() {
        true => "no epoch is finished".into(),
        false => told.join(", "),
    }
}

/// Means over neighbouring steps, so that few enough are left, and how many each is of.
fn thin(steps: &[(f64, f64)]) -> (Vec<(f64, f64)>, usize) {
    let many = steps.len().div_ceil(STEPS).max(1);
    let mean = |part: &[(f64, f64)]| {
        let sum = part.iter().map(|(_, loss)| loss).sum::<f64>();
        (part[part.len() - 1].0, sum / part.len() as f64)
    };
    (steps.chunks(many).map(mean).collect(), many)
}

/// The curves of several runs: the metric on the validation data in each stage, runs with another metric apart.
pub(super) fn compared(runs: &[Run]) -> Vec<Plot> {
    let mut metrics: Vec<&str> = Vec::new();
    for run in runs {
        if !metrics.contains(&run.metric()) {
            metrics.push(run.metric());
        }
    }
    let stages = [("float", 0), ("quantized", 1)];
    let plots = metrics.iter().enumerate().flat_map(|(i, metric)| {
        stages.into_iter().filter_map(move |(stage, index)| {
            let name = match i {
                0 => format!("metric-{stage}"),
                i => format!("metric-{}-{stage}", i + 1),
            };
            compared_stage(&name, runs, metric, (stage, index))
        })
    });
    plots.collect()
}

fn compared_stage(
    name: &str,
    runs: &[Run],
    metric: &str,
    (stage, index): (&str, usize),
) -> Option<Plot> {
    let log = |run: &'_ Run| match (run.metric() == metric, index) {
        (false, _) => Vec::new(),
        (true, 0) => run.log.float.metric.clone(),
        (true, _) => run.log.quantized.metric.clone(),
    };
    let curves: Vec<Vec<(f64, f64)>> = runs.iter().map(log).collect();
    let values = values(&curves);
    if values.is_empty() {
        return None;
    }
    let last = curves.iter().flatten().fold(0f64, |last, (epoch, _)| last.max(*epoch));
    let (x, y) = (Axis::counted(last, 12), Axis::fitting(&values, 1.5, 6));
    let style = |i: usize| (Ink::series(i), Dash::of_series(i), Shape::of_series(i));
    let mut legend = Vec::new();
    for (i, run) in runs.iter().enumerate().filter(|(i, _)| !curves[*i].is_empty()) {
        let (ink, dash, shape) = style(i);
        legend.push((Sample::Marked(ink, dash, shape), run.name.clone()));
    }
    let ends = runs.iter().zip(&curves).filter_map(|(run, curve)| {
        let (epoch, value) = curve.last()?;
        Some(format!("{} {value:.4} after epoch {epoch}", run.name))
    });
    let ends: Vec<String> = ends.collect();
    let description = format!(
        "The {metric} of each run on its validation data, {stage} stage: {}.",
        ends.join(", ")
    );
    let scale = if y.is_log() { format!("{metric} (log scale)") } else { metric.to_string() };
    let title = format!("Validation {metric}, {stage} stage");
    let top = legend_height(NUMBERS, &legend) + 6.0;
    Some(Plot::draw(name, title, description, HEIGHT, |canvas| {
        let framed = canvas.frame(&Frame {
            x: &x,
            y: &y,
            x_title: "epoch",
            y_title: Some(&scale),
            rows: None,
            top,
            left: NUMBERS,
            right: 16.0,
        });
        canvas.legend(NUMBERS, &legend);
        for (i, values) in curves.iter().enumerate().filter(|(_, values)| !values.is_empty()) {
            curve(canvas, &framed, values, style(i));
        }
    }))
}
