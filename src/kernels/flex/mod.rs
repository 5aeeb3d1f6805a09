//! The operations on the `flex` backend: all cores, one pass over memory where that is possible.

pub(super) mod adamw;
pub(super) mod batch_norm;
pub(super) mod conv;
pub(super) mod cross_entropy;
pub(super) mod dropout;
mod extension;
pub(super) mod gelu;
pub(super) mod layer_norm;
pub(super) mod linear;
pub(super) mod lstm;
mod math;
mod matrix;
mod parallel;
mod reduce;
pub(super) mod softmax;

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;

pub(crate) use extension::{Pullback, available, differentiable};
pub(super) use extension::{booleans, integers, is_flex, primitive, tensor};
pub(crate) use parallel::{is_unshared, task, values};

/// A tensor of the `flex` backend.
pub(crate) type FlexTensor = FloatTensor<Flex>;
