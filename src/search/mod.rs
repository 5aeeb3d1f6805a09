//! Adaptive superposition under a budget: one coding for each layer, so that the whole loses least.
//!
//! | piece | what it does |
//! |---|---|
//! | [`Candidate`] | what one coding costs a layer, and what it loses there |
//! | [`choose`] | one candidate for each layer: least summed error within a budget, exact |
//! | [`CostModel`] | what a coding costs a layer: bits, bytes, or multiply-accumulates by a cost table |
//! | [`Objective`] | what a coding loses there: in the weight, its distribution, the layer's output, or the task's loss |
//! | [`activations`](fn@activations) | E and S of activations, at the bits that the plan gives them, outside of the budget |
//! | [`measure_loss`], [`Found::refine`] | for [`Objective::Loss`]: the loss with one weight coded at a time, and better choices beside the others |
//! | [`layers`](fn@layers), [`search`](fn@search) | the same for the weights of a model and its plan: candidates, and the choice |
//!
//! The choice is exact where error and cost are sums over layers, as squared errors and all three cost models are.
//! An objective that is no such sum has to be brought into this form, layer by layer with the others held fixed. So is
//! the loss, whose errors do not just add up: [`Found::refine`] is the heuristic that looks at them together.
//!
//! ```
//! use ausn::search::{Candidate, CostModel, LayerSize, choose};
//!
//! // Two layers, each in 3 or 5 bits; the errors are those of the coded weights.
//! let sizes = [
//!     LayerSize { weights: 1000, ..LayerSize::default() },
//!     LayerSize { weights: 500, ..LayerSize::default() },
//! ];
//! let errors = [[(3, 0.20), (5, 0.02)], [(3, 0.50), (5, 0.03)]];
//!
//! let model = CostModel::AverageBits;
//! let mut layers = Vec::new();
//! for (size, errors) in sizes.iter().zip(errors) {
//!     let mut candidates = Vec::new();
//!     for (bits, error) in errors {
//!         candidates.push(Candidate { cost: model.cost(size, bits, 8)?, error });
//!     }
//!     layers.push(candidates);
//! }
//!
//! let choice = choose(&layers, model.budget(4.0, &sizes))?;
//! assert_eq!(choice.candidates, [0, 1], "the small layer gains more for a bit");
//! assert!(choice.is_optimal());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod activations;
mod cost;
mod input;
mod knapsack;
mod layers;
mod objective;
mod settings;

pub use activations::{Activation, activations};
pub use cost::{CostError, CostModel, CostTable, LayerSize};
pub use knapsack::{Candidate, Choice, KnapsackError, choose};
pub use layers::{
    Evidence, Found, Layer, LayerCandidate, MeasuredLoss, SearchError, check, layers, measure_loss,
    search,
};
pub use objective::Objective;
pub use settings::SearchConfig;
