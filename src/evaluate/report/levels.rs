//! The histogram of a tensor, with the levels of its coding over it.

use super::axis::Axis;
use super::ink::{Dash, Ink};
use super::plot::{Frame, NUMBERS, Plot, Sample, legend_height};
use super::run::{Run, label};
use crate::evaluate::TensorHistogram;

const HEIGHT: f64 = 320.0;

/// More levels than this would hide the histogram; they stand below it.
const FULL_LINES: usize = 40;

const VALUES: Ink = Ink::Series(0);
const LEVELS: Ink = Ink::Series(1);

/// A plot for each tensor whose values were seen.
pub(super) fn histograms(run: &Run) -> Vec<(String, Plot)> {
    let plots = run.histograms.iter().enumerate();
    plots.filter_map(|(i, histogram)| histogram_plot(i, histogram)).collect()
}

/// What a tensor is called in a list of weights and activations.
fn choice(histogram: &TensorHistogram) -> String {
    let TensorHistogram { layer, tensor, weight, .. } = histogram;
    let kind = if *weight { "weight" } else { "activation" };
    format!("{} ({kind})", label(layer, tensor, *weight))
}

fn histogram_plot(index: usize, histogram: &TensorHistogram) -> Option<(String, Plot)> {
    let counts = &histogram.counts;
    let seen = counts.iter().sum::<u64>() + histogram.outside.iter().sum::<u64>();
    if seen == 0 || counts.is_empty() {
        return None;
    }
    // With one scale the axis can show values; with many, values in units of their scale.
    let [smallest, largest] = histogram.scales;
    let (unit, x_title) = match smallest == largest {
        true => (f64::from(smallest), "value".to_string()),
        false => (1.0, format!("value ÷ its scale (scales from {smallest} to {largest})")),
    };
    let place = |x: f32| f64::from(x) * unit;
    let [low, high] = histogram.extent.map(place);
    let [first, last] = histogram.range.map(place);
    let x = Axis::linear(low, high, 8);
    let shares: Vec<f64> = counts.iter().map(|&count| count as f64 / seen as f64).collect();
    // A little room below the smallest part, so that it is seen.
    let y = Axis::decades(shares.iter().flat_map(|share| [0.8 * share, *share]));
    let outside = histogram.outside.iter().sum::<u64>() as f64 / seen as f64;
    let mut legend = vec![
        (Sample::Bar(VALUES, 0.75), format!("float values ({seen})")),
        (
            Sample::Line(LEVELS, Dash::Solid),
            format!("levels of {} ({})", histogram.coding, histogram.level_count),
        ),
        (Sample::Bar(Ink::Muted, 0.18), "beyond the levels".to_string()),
    ];
    if outside > 0.0 {
        legend[2].1 = format!("beyond the levels ({:.2} % lie outside the plot)", 100.0 * outside);
    }
    let top = legend_height(NUMBERS, &legend) + 6.0;
    let title = choice(histogram);
    let description = format!(
        "Histogram of {seen} values of {title}, with the {} levels of {}, from {first} to {last}.",
        histogram.level_count, histogram.coding
    );
    let plot =
        Plot::draw(&format!("histogram-{}", index + 1), &title, description, HEIGHT, |canvas| {
            let framed = canvas.frame(&Frame {
                x: &x,
                y: &y,
                x_title: &x_title,
                y_title: Some("part of the values (log scale)"),
                rows: None,
                top,
                left: NUMBERS,
                right: 16.0,
            });
            canvas.legend(NUMBERS, &legend);
            let (bottom, top) = (framed.from.1, framed.to.1);
            for (from, to) in [(low, first), (last, high)] {
                canvas.bar((framed.x(from), top), (framed.x(to), bottom), Ink::Muted, 0.18);
            }
            let edge = |bin: usize| framed.x(low + (high - low) * bin as f64 / counts.len() as f64);
            let mut outline = vec![(edge(0), bottom)];
            for (bin, &share) in shares.iter().enumerate() {
                let height = if share > 0.0 { framed.y(share) } else { bottom };
                outline.extend([(edge(bin), height), (edge(bin + 1), height)]);
            }
            outline.push((edge(counts.len()), bottom));
            outline.dedup();
            canvas.area(&outline, VALUES, 0.75);
            let levels: Vec<f64> =
                histogram.levels.iter().map(|&level| framed.x(place(level))).collect();
            if levels.len() <= FULL_LINES {
                for &x in &levels {
                    canvas.line(&[(x, top), (x, bottom)], LEVELS, Dash::Solid, 1.8, 1.0);
                }
            } else {
                // One line, up and down at every level: hundreds of plots of hundreds of lines make large files.
                let strip = 12.0;
                canvas.bar(
                    (framed.x(first), bottom - strip),
                    (framed.x(last), bottom),
                    Ink::Paper,
                    1.0,
                );
                let tooth = |&x: &f64| [(x, bottom), (x, bottom - strip), (x, bottom)];
                let comb: Vec<_> = levels.iter().flat_map(tooth).collect();
                canvas.line(&comb, LEVELS, Dash::Solid, 1.0, 1.0);
            }
        });
    Some((title, plot))
}
