//! Suites: tasks x codings x seeds, run as a whole, and the tables made of the results.
//!
//! A suite file names tasks (each a configuration: the recipe, one for all codings) and cells (each
//! a coding for weights and activations, the same for every task). For each task and seed there is
//! one float run, and every cell is quantized and fine-tuned from its checkpoint.
//!
//! ```toml
//! name = "quick"
//! seeds = [1, 2, 3]
//! out = "experiments/results/quick"       # tables, and the small files they are made from
//!
//! [[task]]
//! config = "configs/digits_resnet_ausn4.toml"
//! set = { "train.quantized.epochs" = 2 }  # for all its cells
//! seeds = [1]                             # instead of the suite's
//! split = "valid"                         # whose metric is shown; the first one by default
//!
//! [[cell]]
//! name = "AUSN 4/8"
//! weight = { coding = "ausn", bits = 4 }
//! activation = { coding = "ausn", bits = 8 }
//! ```
//!
//! Data flows one way: [`Suite`] (the file, checked) → [`Group`]s of [`Cell`]s (each with its whole
//! configuration) → [`run`] (each cell a process of its own) → [`Record`]s (what is kept of each) →
//! [`Table`] → Markdown, CSV, JSON, HTML. The table is made from the records alone.

mod cell;
mod error;
mod file;
mod html;
mod layout;
mod markdown;
mod process;
mod readme;
mod record;
mod run;
mod selection;
mod shard;
mod statistic;
mod table;
mod write;

pub use cell::{Cell, Group, groups};
pub use error::SuiteError;
pub use file::{Column, Suite, SuiteTask};
pub use process::{Processes, Ran, Runner, Stop};
pub use readme::{marked, replace_marked};
pub use record::{Outcome, Record, RunSummary, TensorErrors};
pub use run::{Event, Tally, run};
pub use selection::Selection;
pub use shard::Shard;
pub use statistic::Statistic;
pub use table::{Failure, Row, RunOfRow, StandardError, Standing, Table, TaskTable};
pub use write::write_tables;
