//! Long short-term memory with quantized operands.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};

use super::Quantized;

/// Configuration of [`Lstm`].
#[derive(Clone, Debug)]
pub struct LstmConfig {
    /// Size of the input at each step.
    pub d_input: usize,
    /// Size of the hidden state and of the cell.
    pub d_hidden: usize,
}

/// A long short-term memory layer (Hochreiter and Schmidhuber 1997).
///
/// One product serves the inputs of all time steps, one more each step's recurrence; weights are
/// materialized, and so quantized, once a forward pass. The four gates stand side by side in the
/// weights: input, forget, cell, output.
#[derive(Module, Debug)]
pub struct Lstm {
    /// From the inputs to the four gates: `[d_input, 4 * d_hidden]`.
    pub input: Quantized<Linear>,
    /// From the hidden state to the four gates, without bias: `[d_hidden, 4 * d_hidden]`.
    pub recurrent: Quantized<Linear>,
}

impl LstmConfig {
    /// Makes the layer.
    pub fn init(&self, device: &Device) -> Lstm {
        let gates = 4 * self.d_hidden;
        Lstm {
            input: Quantized::new(LinearConfig::new(self.d_input, gates).init(device), device),
            recurrent: Quantized::new(
                LinearConfig::new(self.d_hidden, gates).with_bias(false).init(device),
                device,
            ),
        }
    }
}

impl Lstm {
    /// Runs the layer over a sequence, from a zero state.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, length, d_input]`
    /// - output: the hidden state at every step, `[batch, length, d_hidden]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, length, _] = x.dims();
        let device = x.device();
        let weight = self.recurrent.layer.weight.val();
        let [d_hidden, _] = weight.dims();
        let gates = self.input.forward(x);

        let mut hidden = Tensor::<2>::zeros([batch, d_hidden], &device);
        let mut cell = hidden.clone();
        let mut states = Vec::with_capacity(length);
        for step in gates.split(1, 1) {
            let recurrent = self.recurrent.input.forward(hidden).matmul(weight.clone());
            let gates = step.squeeze_dim::<2>(1) + recurrent;
            let [input, forget, candidate, output] = four(gates.chunk(4, 1));
            cell = sigmoid(forget) * cell + sigmoid(input) * candidate.tanh();
            hidden = sigmoid(output) * cell.clone().tanh();
            states.push(hidden.clone());
        }
        Tensor::stack(states, 1)
    }
}

fn four(gates: Vec<Tensor<2>>) -> [Tensor<2>; 4] {
    gates.try_into().expect("a product over 4 * d_hidden columns splits into four gates")
}
