//! Layers: Burn's own with an activation quantizer at the input, and those that need quantizers inside.
//!
//! Weights need no layer of their own: a plan quantizes the weight of any Burn module by path
//! (an [`Embedding`](burn::nn::Embedding), say, is used as it is).

mod attention;
mod fused;
mod lstm;
mod quantized;
mod transformer;

pub use attention::{SelfAttention, SelfAttentionConfig};
pub use fused::{LayerNorm, batch_norm, conv2d, dropout, linear};
pub use lstm::{Lstm, LstmConfig, LstmState};
pub use quantized::Quantized;
pub use transformer::{EncoderLayer, EncoderLayerConfig};
