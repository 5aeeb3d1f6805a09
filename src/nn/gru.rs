//! Gated recurrent unit with quantized operands.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};

use super::Quantized;
use crate::kernels;

/// Configuration of [`Gru`].
#[derive(Clone, Debug)]
pub struct GruConfig {
    /// Size of the input at each step.
    pub d_input: usize,
    /// Size of the hidden state.
    pub d_hidden: usize,
    /// Dropout probability of the input at each step.
    pub dropout: f64,
}

/// A gated recurrent unit (Cho et al. 2014, arXiv 1406.1078) whose reset gate acts on the recurrent
/// product, as in cuDNN and PyTorch:
///
/// ```text
/// r = sigmoid(W_r x + U_r h)    z = sigmoid(W_z x + U_z h)    each with two biases
/// n = tanh(W_n x + b_n + r * (U_n h + c_n))
/// h' = (1 - z) * n + z * h
/// ```
///
/// One product serves the inputs of all time steps, one more each step's recurrence; weights are
/// materialized, and so quantized, once a forward pass. The gates stand side by side in the
/// weights: reset, update, new.
#[derive(Module, Debug)]
pub struct Gru {
    /// From the inputs to the gates: `[d_input, 3 * d_hidden]`.
    pub input: Quantized<Linear>,
    /// From the hidden state to the gates: `[d_hidden, 3 * d_hidden]`.
    pub recurrent: Quantized<Linear>,
}

impl GruConfig {
    /// Makes the layer.
    pub fn init(&self, device: &Device) -> Gru {
        let linear =
            |from| Quantized::new(LinearConfig::new(from, 3 * self.d_hidden).init(device), device);
        Gru {
            input: linear(self.d_input).with_dropout(self.dropout),
            recurrent: linear(self.d_hidden),
        }
    }
}

impl Gru {
    /// Runs the layer over a sequence, from a zero state.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, length, d_input]`
    /// - output: the hidden state at every step, `[batch, length, d_hidden]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, length, _] = x.dims();
        let weight = self.recurrent.layer.weight.val();
        let bias = self.recurrent.layer.bias.as_ref().map(|bias| bias.val());
        let [size, _] = weight.dims();
        let split = |gates: Tensor<2>| {
            let [reset_and_update, new] = [(0, 2 * size), (2 * size, size)]
                .map(|(start, width)| gates.clone().narrow(1, start, width));
            (reset_and_update, new)
        };
        let gates = self.input.forward(x);
        let mut hidden = Tensor::<2>::zeros([batch, size], &gates.device());
        let mut states = Vec::with_capacity(length);
        for step in steps(gates) {
            let operand = self.recurrent.input.forward(hidden.clone());
            let recurrent = kernels::linear(operand, weight.clone(), bias.clone());
            let ((from_input, new), (from_state, new_from_state)) = (split(step), split(recurrent));
            let gates = sigmoid(from_input + from_state);
            let (reset, update) = (gates.clone().narrow(1, 0, size), gates.narrow(1, size, size));
            let new = (new + reset * new_from_state).tanh();
            hidden = new.clone() + update * (hidden - new);
            states.push(hidden.clone());
        }
        Tensor::stack(states, 1)
    }
}

/// The steps of sequences, first to last: `[batch, width]` each.
///
/// The gradient of a part is as large as the whole that it was cut from, so sequences are halved
/// again and again: as much work as the logarithm of their length says, rather than the length.
fn steps(x: Tensor<3>) -> Vec<Tensor<2>> {
    let [_, length, _] = x.dims();
    match length {
        0 => Vec::new(),
        1 => vec![x.squeeze_dim(1)],
        _ => {
            let half = length / 2;
            let mut all = steps(x.clone().narrow(1, 0, half));
            all.extend(steps(x.narrow(1, half, length - half)));
            all
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{agree, device, quantizes, random};

    /// The formulas of the documentation, step by step, each gate with products of its own.
    fn textbook(gru: &Gru, x: Tensor<3>) -> Tensor<3> {
        let [batch, length, _] = x.dims();
        let [size, _] = gru.recurrent.layer.weight.dims();
        let product = |layer: &Linear, x: Tensor<2>, gate: usize| {
            let bias = layer.bias.clone().expect("a bias").val();
            x.matmul(layer.weight.val().narrow(1, gate * size, size))
                + bias.narrow(0, gate * size, size).unsqueeze()
        };
        let mut hidden = Tensor::<2>::zeros([batch, size], &x.device());
        let mut states = Vec::new();
        for t in 0..length {
            let x = x.clone().narrow(1, t, 1).squeeze_dim::<2>(1);
            let w = |gate| product(&gru.input.layer, x.clone(), gate);
            let u = |gate| product(&gru.recurrent.layer, hidden.clone(), gate);
            let (reset, update) = (sigmoid(w(0) + u(0)), sigmoid(w(1) + u(1)));
            let new = (w(2) + reset * u(2)).tanh();
            hidden = (update.ones_like() - update.clone()) * new + update * hidden;
            states.push(hidden.clone());
        }
        Tensor::stack(states, 1)
    }

    #[test]
    fn values_and_gradients_are_those_of_the_formulas() {
        let device = device();
        for length in [1, 2, 7] {
            let gru = GruConfig { d_input: 4, d_hidden: 5, dropout: 0.0 }.init(&device);
            agree(&gru, &random([3, length, 4], &device), Gru::forward, textbook);
        }
    }

    #[test]
    fn every_operand_quantizes() {
        let device = device();
        let gru = GruConfig { d_input: 6, d_hidden: 8, dropout: 0.0 }.init(&device);
        quantizes(&gru, [2, 2], &random([4, 9, 6], &device), Gru::forward);
    }
}
