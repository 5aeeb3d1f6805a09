//! Whole commands through the real binary: what they print, what they leave behind, and the exit
//! code (0 done, 1 something failed, 2 something typed was refused, 130 stopped by Ctrl-C).
//!
//! No test needs a network. Those that need a published data set or checkpoint say so and pass.

#[path = "../common/mod.rs"]
mod common;
mod support;

mod analyze;
mod checkpoints;
mod choose_again;
mod coding;
mod config;
mod devices;
mod images;
mod information;
#[cfg(unix)]
mod interruption;
mod pretrained;
mod quantize;
mod report;
mod search;
mod table;
mod tasks;
mod training;
