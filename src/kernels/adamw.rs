//! AdamW (Loshchilov and Hutter, arXiv 1711.05101) as one operation.

use burn::optim::{AdamWConfig, AdamWState, LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};

#[cfg(feature = "flex")]
use super::flex;
use super::on_flex;

const BETA_1: f32 = 0.9;
const BETA_2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// AdamW with beta_1 = 0.9, beta_2 = 0.999 and epsilon = 1e-8, in one pass over memory where the
/// backend allows; the state is Burn's own, so that checkpoints of either continue in the other.
#[derive(Clone, Debug)]
pub struct AdamW {
    weight_decay: f32,
}

impl AdamW {
    /// An optimizer that decays weights at `weight_decay` times the learning rate.
    pub fn new(weight_decay: f32) -> Self {
        Self { weight_decay }
    }

    fn composed(&self) -> burn::optim::AdamW {
        AdamWConfig::new()
            .with_beta_1(BETA_1)
            .with_beta_2(BETA_2)
            .with_epsilon(EPSILON)
            .with_weight_decay(self.weight_decay)
            .build()
    }

    #[cfg(feature = "flex")]
    fn fused<const D: usize>(
        &self,
        rate: LearningRate,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        use burn::optim::AdaptiveMomentumState;

        let momentum = match state {
            Some(state) => state.momentum,
            None => AdaptiveMomentumState::new(0, gradient.zeros_like(), gradient.zeros_like()),
        };
        let time = momentum.time + 1;
        let step = flex::adamw::Step {
            beta_1: BETA_1,
            beta_2: BETA_2,
            epsilon: EPSILON,
            rate: rate as f32,
            decay: (1.0 - rate * f64::from(self.weight_decay)) as f32,
            corrections: (1.0 - BETA_1.powi(time as i32), 1.0 - BETA_2.powi(time as i32)),
        };
        let tensors = [tensor, momentum.moment_1, momentum.moment_2].map(flex::primitive);
        let [tensor, moment_1, moment_2] =
            flex::adamw::step(tensors, flex::primitive(gradient), step).map(flex::tensor);
        let momentum = AdaptiveMomentumState::new(time, moment_1, moment_2);
        (tensor, Some(AdamWState::new(momentum)))
    }
}

impl Optimizer for AdamW {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        on_flex!(tensor, self.fused(rate, tensor, gradient, state));
        self.composed().step(rate, tensor, gradient, state)
    }

    fn to_device<const D: usize>(state: AdamWState<D>, device: &Device) -> AdamWState<D> {
        <burn::optim::AdamW as Optimizer>::to_device(state, device)
    }
}
