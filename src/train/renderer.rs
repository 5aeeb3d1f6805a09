//! What a run shows while it trains.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use burn::train::Interrupter;
use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::MetricDefinition;
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining, default_renderer,
};

/// Time between two lines inside an epoch.
const INTERVAL: Duration = Duration::from_secs(10);

/// What a run shows while it trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// Nothing.
    Quiet,
    /// Lines on the standard error stream.
    #[default]
    Lines,
    /// burn-train's dashboard.
    Dashboard,
}

impl Progress {
    /// The dashboard on a terminal, lines elsewhere.
    pub fn detect() -> Self {
        let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        match terminal && cfg!(feature = "tui") {
            true => Progress::Dashboard,
            false => Progress::Lines,
        }
    }

    /// Prints a line about the run as a whole.
    pub(super) fn line(self, text: &str) {
        if self != Progress::Quiet {
            // A closed error stream is no reason to stop training.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// Prints a line about a stage while it runs; the dashboard shows such things itself.
    pub(super) fn stage_line(self, text: &str) {
        if self == Progress::Lines {
            self.line(text);
        }
    }

    pub(super) fn renderer(
        self,
        interrupter: Interrupter,
        resumed: Option<usize>,
    ) -> Box<dyn MetricsRenderer> {
        match self {
            Progress::Dashboard => {
                let dashboard = default_renderer(interrupter, resumed);
                deliver_ctrl_c();
                dashboard
            }
            Progress::Lines | Progress::Quiet => Box::new(Lines {
                progress: self,
                label: String::new(),
                epoch: 0,
                epochs: 0,
                split: String::new(),
                items: 0,
                last: Instant::now(),
            }),
        }
    }
}

/// The dashboard puts the terminal into raw mode, in which Ctrl-C is a key like any other; this makes
/// it a signal again.
fn deliver_ctrl_c() {
    #[cfg(unix)]
    {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let terminal = std::io::stdin();
        if let Ok(mut modes) = tcgetattr(&terminal) {
            modes.local_modes |= LocalModes::ISIG;
            if let Err(error) = tcsetattr(&terminal, OptionalActions::Now, &modes) {
                tracing::warn!("Ctrl-C will not stop the run, the dashboard's `q` will: {error}");
            }
        }
    }
}

/// One line every few seconds. The line at the end of each epoch comes from the run's log.
struct Lines {
    progress: Progress,
    label: String,
    epoch: usize,
    epochs: usize,
    split: String,
    items: usize,
    last: Instant,
}

impl TrainingProgressLogger for Lines {
    fn start(&mut self, epochs: usize, first: usize, _items: Option<usize>, label: Option<&str>) {
        self.label = label.unwrap_or("training").to_string();
        (self.epoch, self.epochs) = (first, epochs);
    }

    fn update_epoch(&mut self, epoch: usize) {
        self.epoch = epoch + 1;
    }

    fn start_split(&mut self, split: &str, items: usize) {
        self.split = split.to_string();
        self.items = items;
        self.last = Instant::now();
    }

    fn update_split(&mut self, processed: usize) {
        if self.last.elapsed() >= INTERVAL {
            self.last = Instant::now();
            self.progress.stage_line(&format!(
                "{} epoch {}/{}  {} {processed}/{}",
                self.label, self.epoch, self.epochs, self.split, self.items
            ));
        }
    }

    fn end_split(&mut self) {}

    fn end(&mut self) {}

    fn log_event_training(&mut self, _event: String) {}
}

impl EvaluationProgressLogger for Lines {
    fn start_global_progress(&mut self, _tests: usize) {}

    fn start_test(&mut self, _name: &str, _items: usize) {}

    fn update_test_progress(&mut self, _processed: usize) {}

    fn end_test(&mut self) {}

    fn end_global_progress(&mut self) {}

    fn log_event_evaluation(&mut self, _event: String) {}
}

impl MetricsRendererTraining for Lines {
    fn update_train(&mut self, _state: MetricState) {}

    fn update_valid(&mut self, _state: MetricState) {}
}

impl MetricsRendererEvaluation for Lines {
    fn update_test(&mut self, _name: EvaluationName, _state: MetricState) {}
}

impl MetricsRenderer for Lines {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, _definition: MetricDefinition) {}
}
