#![warn(missing_docs)]
//! Quantization-aware training on Burn with AUSN: low-bit codes that are a power of two plus a few
//! gated lower powers of two, adapted layer by layer (arXiv 2007.03903).

pub mod coding;
pub mod config;
pub mod data;
pub mod deploy;
pub mod evaluate;
pub mod models;
pub mod nn;
pub mod quant;
pub mod tasks;
pub mod train;
