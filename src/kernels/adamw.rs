//! AdamW (Loshchilov and Hutter, arXiv 1711.05101) as one operation.

use burn::optim::{AdamWConfig, AdamWState, AdaptiveMomentumState, LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};

#[cfg(feature = "flex")]
use super::flex;
use super::on_flex;

/// Burn's AdamW, in one pass over memory where the backend allows; the state is Burn's own, so
/// that checkpoints of either continue in the other.
#[derive(Clone)]
pub struct AdamW {
    beta_1: f32,
    beta_2: f32,
    epsilon: f32,
    weight_decay: f32,
    composed: burn::optim::AdamW,
}

impl AdamW {
    /// An optimizer with beta_1 = 0.9, beta_2 = 0.999 and epsilon = 1e-8.
    pub fn new(weight_decay: f32) -> Self {
        let (beta_1, beta_2, epsilon) = (0.9, 0.999, 1e-8);
        let composed = AdamWConfig::new()
            .with_beta_1(beta_1)
            .with_beta_2(beta_2)
            .with_epsilon(epsilon)
            .with_weight_decay(weight_decay)
            .build();
        Self { beta_1, beta_2, epsilon, weight_decay, composed }
    }

    #[cfg(feature = "flex")]
    fn fused<const D: usize>(
        &self,
        rate: LearningRate,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        let momentum = match state {
            Some(state) => state.momentum,
            None => AdaptiveMomentumState::new(0, gradient.zeros_like(), gradient.zeros_like()),
        };
        let time = momentum.time + 1;
        let step = flex::adamw::Step {
            beta_1: self.beta_1,
            beta_2: self.beta_2,
            epsilon: self.epsilon,
            rate: rate as f32,
            decay: (1.0 - rate * f64::from(self.weight_decay)) as f32,
            corrections: (1.0 - self.beta_1.powi(time as i32), 1.0 - self.beta_2.powi(time as i32)),
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
        self.composed.step(rate, tensor, gradient, state)
    }

    fn to_device<const D: usize>(state: AdamWState<D>, device: &Device) -> AdamWState<D> {
        <burn::optim::AdamW as Optimizer>::to_device(state, device)
    }
}
