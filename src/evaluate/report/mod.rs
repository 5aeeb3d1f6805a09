//! Reports: what a run left in its folder, as one HTML file, and several runs beside each other.
//!
//! | file | what it does |
//! |---|---|
//! | `run` | reads the folder |
//! | `curves`, `scores`, `layers`, `levels` | the plots |
//! | `plot`, `axis`, `ink` | what plots are drawn with: SVG by plotters, in colours that follow the page's theme |
//! | `page` | the HTML around them |
//! | `png` | plots as pixels |
//!
//! A page refers to nothing outside of itself, so that it can be sent, kept and read without a network.

mod axis;
mod curves;
mod error;
mod ink;
mod layers;
mod levels;
mod page;
mod plot;
mod png;
mod run;
mod scores;
#[cfg(test)]
mod tests;

pub use error::ReportError;
pub use page::{comparison, is_report, page};
pub use plot::Plot;
pub use run::Run;

/// Every plot of a run's report.
pub fn plots(run: &Run) -> Vec<Plot> {
    let histograms = levels::histograms(run).into_iter().map(|(_, plot)| plot);
    let plots =
        scores::scores(run).into_iter().chain(curves::curves(run)).chain(layers::layers(run));
    plots.chain(histograms).collect()
}

/// Every plot of a comparison.
pub fn compared_plots(runs: &[Run]) -> Vec<Plot> {
    curves::compared(runs).into_iter().chain(layers::compared(runs)).collect()
}
