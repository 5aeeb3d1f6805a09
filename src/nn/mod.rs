//! Layers: Burn's own with an activation quantizer at the input, and those that need quantizers inside.
//!
//! Weights need no layer of their own: a plan quantizes the weight of any Burn module by path
//! (an [`Embedding`](burn::nn::Embedding), say, is used as it is).

mod attention;
mod bi_lstm;
mod conv_norm;
mod cross_attention;
mod decoder;
mod fused;
mod gru;
mod lstm;
mod positions;
mod quantized;
#[cfg(test)]
pub(crate) mod testing;
mod transformer;

pub use attention::{KeysValues, SelfAttention, SelfAttentionConfig};
pub use bi_lstm::BiLstm;
pub use conv_norm::{ConvNorm, FoldBatchNorm, FoldError};
pub use cross_attention::CrossAttention;
pub use decoder::{DecoderCache, DecoderLayer};
pub use fused::{LayerNorm, batch_norm, conv2d, dropout, linear};
pub use gru::{Gru, GruConfig};
pub use lstm::{Lstm, LstmConfig, LstmState};
pub use positions::{mean_until, padding_after, reverse_sequences, select_positions};
pub use quantized::{Layer, Quantized};
pub use transformer::{EncoderLayer, EncoderLayerConfig};
