//! The task's metric at each stage.

use super::axis::Axis;
use super::ink::{Dash, Ink};
use super::plot::{AXIS, Frame, Plot, Sample, Shape, legend_height, names_width};
use super::run::Run;

const ROW: f64 = 34.0;

/// The task's metric on every split, float, calibrated and quantized.
pub(super) fn scores(run: &Run) -> Option<Plot> {
    run.summary.as_ref()?;
    let metric = run.metric();
    let rows: Vec<_> = run.metrics().into_iter().filter(|row| row.metric == metric).collect();
    let splits: Vec<String> = rows.iter().map(|row| row.split.clone()).collect();
    let stages = [
        ("float", Ink::Series(0), Shape::Circle),
        ("calibrated", Ink::Series(2), Shape::Triangle),
        ("quantized", Ink::Series(1), Shape::Square),
    ];
    let measured = |stage: usize| rows.iter().any(|row| row.values[stage].is_some());
    let legend: Vec<_> = (0..stages.len())
        .filter(|&stage| measured(stage))
        .map(|stage| (Sample::Mark(stages[stage].1, stages[stage].2), stages[stage].0.to_string()))
        .collect();
    let x = Axis::around(rows.iter().flat_map(|row| row.values).flatten(), 8);
    let y = Axis::rows(rows.len());
    let left = names_width(&splits);
    let top = legend_height(left, &legend) + 4.0;
    let told: Vec<String> = rows
        .iter()
        .map(|row| {
            let value = |stage: usize| {
                row.values[stage].map(|value| format!("{} {value:.4}", stages[stage].0))
            };
            let values: Vec<String> = (0..stages.len()).filter_map(value).collect();
            format!("{}: {}", row.split, values.join(", "))
        })
        .collect();
    let description = format!("The {metric} on every split. {}.", told.join("; "));
    let height = top + ROW * rows.len() as f64 + AXIS;
    let title = format!("{metric} by split");
    Some(Plot::draw("scores", title, description, height, |canvas| {
        let framed = canvas.frame(&Frame {
            x: &x,
            y: &y,
            x_title: metric,
            y_title: None,
            rows: Some(&splits),
            top,
            left,
            right: 16.0,
        });
        canvas.legend(left, &legend);
        for (i, row) in rows.iter().enumerate() {
            let y = framed.y(i as f64 + 0.5);
            let found: Vec<f64> =
                row.values.into_iter().flatten().map(|value| framed.x(value)).collect();
            let ends = found.iter().fold((f64::MAX, f64::MIN), |(a, b), x| (a.min(*x), b.max(*x)));
            canvas.line(&[(ends.0, y), (ends.1, y)], Ink::Muted, Dash::Solid, 1.0, 0.8);
            for (stage, value) in row.values.iter().enumerate() {
                if let Some(value) = value {
                    canvas.mark((framed.x(*value), y), stages[stage].1, stages[stage].2);
                }
            }
        }
    }))
}
