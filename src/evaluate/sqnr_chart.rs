//! Signal to quantization noise over the range, as a chart.

use std::error::Error;

use plotters::element::DashedPathElement;
use plotters::prelude::*;

use crate::coding::Underflow;
use crate::coding::theory::Sweep;

/// Of a panel, in pixels.
const WIDTH: u32 = 960;
const HEIGHT: u32 = 480;

/// Colours that readers with any colour vision can tell apart (Okabe and Ito), by exponent bits.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 0, 0),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
];

/// One chart: a title, and the sweeps whose curves it holds.
pub struct SqnrPanel<'a> {
    /// The title.
    pub title: String,
    /// A curve each.
    pub sweeps: &'a [Sweep],
}

/// An SVG of panels below one another. A curve is a coding's SQNR at any scale, its dots are the power-of-two
/// ranges, and codings with zero-code underflow are dashed.
///
/// # Errors
///
/// What the drawing library cannot draw, such as a curve that is not finite.
pub fn sqnr_chart(panels: &[SqnrPanel<'_>]) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let size = (WIDTH, HEIGHT * panels.len() as u32);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        for (panel, area) in panels.iter().zip(root.split_evenly((panels.len(), 1))) {
            draw(panel, &area)?;
        }
        root.present()?;
    }
    Ok(svg)
}

fn draw(
    panel: &SqnrPanel<'_>,
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
) -> Result<(), Box<dyn Error>> {
    let points = || panel.sweeps.iter().flat_map(|sweep| &sweep.free);
    let octaves = points().map(|point| point.max_in_sigmas.log2());
    let (left, right) = octaves
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    let top = panel.sweeps.iter().map(|sweep| sweep.best_free.sqnr_db).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 20))
        .margin(14)
        .x_label_area_size(46)
        .y_label_area_size(54)
        .build_cartesian_2d(left..right, 0.0..top + 1.0)?;
    chart
        .configure_mesh()
        .x_desc("largest level M, in standard deviations")
        .y_desc("SQNR in dB")
        .x_label_formatter(&|octaves| octaves.exp2().to_string())
        .max_light_lines(1)
        .label_style(("sans-serif", 14))
        .draw()?;
    for sweep in panel.sweeps {
        let format = sweep.grid.format();
        let colour = COLOURS[format.map_or(0, |f| f.exponent_bits() as usize) % COLOURS.len()];
        let is_dashed = format.is_some_and(|f| f.underflow() == Underflow::ZeroCode);
        let style = colour.stroke_width(2);
        let curve = sweep.free.iter().map(|point| (point.max_in_sigmas.log2(), point.sqnr_db));
        let legend = move |(x, y): (i32, i32)| PathElement::new([(x, y), (x + 18, y)], style);
        let dashed_legend =
            move |(x, y): (i32, i32)| DashedPathElement::new([(x, y), (x + 18, y)], 4, 3, style);
        match is_dashed {
            true => chart
                .draw_series(DashedLineSeries::new(curve, 6, 4, style))?
                .label(sweep.grid.name())
                .legend(dashed_legend),
            false => chart
                .draw_series(LineSeries::new(curve, style))?
                .label(sweep.grid.name())
                .legend(legend),
        };
        let dots = sweep.power_of_two.iter().map(|at| {
            let place = (at.point.max_in_sigmas.log2(), at.point.sqnr_db);
            Circle::new(place, 3, colour.filled())
        });
        chart.draw_series(dots)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 14))
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding::theory::{Density, Side, ausn_grids};

    #[test]
    fn every_coding_has_a_curve_and_dots() {
        let sweep = |grid| Sweep::new(grid, Density::Laplace, Side::Both, 1.0).unwrap();
        let sweeps: Vec<Sweep> = ausn_grids(4, true).into_iter().map(sweep).collect();
        let panel = |title: &str| SqnrPanel { title: title.into(), sweeps: &sweeps };
        let svg = sqnr_chart(&[panel("first"), panel("second")]).unwrap();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let texts: Vec<&str> = document.descendants().filter_map(|node| node.text()).collect();
        let texts = texts.join("\n");
        for text in ["first", "second", "SQNR in dB", "ausn4 E2S1\n", "ausn4 E1S2 (uniform)"] {
            assert!(texts.contains(text), "{text} is not in {texts}");
        }
        let dots = document.descendants().filter(|node| node.has_tag_name("circle")).count();
        let ranges: usize = sweeps.iter().map(|sweep| sweep.power_of_two.len()).sum();
        assert_eq!(dots, 2 * ranges);
        // A curve through all scales is one long line.
        let lines = document.descendants().filter_map(|node| node.attribute("points"));
        let curves = lines.filter(|points| points.split_whitespace().count() == 145).count();
        assert_eq!(curves, 2 * 3, "three of the five codings are not dashed");
    }
}
