//! Long short-term memory with quantized operands.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};

use super::Quantized;
use crate::kernels;

/// Configuration of [`Lstm`].
#[derive(Clone, Debug)]
pub struct LstmConfig {
    /// Size of the input at each step.
    pub d_input: usize,
    /// Size of the hidden state and of the cell.
    pub d_hidden: usize,
    /// Dropout probability of the input at each step.
    pub dropout: f64,
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
            input: Quantized::new(LinearConfig::new(self.d_input, gates).init(device), device)
                .with_dropout(self.dropout),
            recurrent: Quantized::new(
                LinearConfig::new(self.d_hidden, gates).with_bias(false).init(device),
                device,
            ),
        }
    }
}

/// What an [`Lstm`] carries from one step to the next: numbers, through which no gradient passes.
#[derive(Clone, Debug)]
pub struct LstmState {
    /// The hidden state, `[batch, d_hidden]`.
    pub hidden: Tensor<2>,
    /// The cell, `[batch, d_hidden]`.
    pub cell: Tensor<2>,
}

impl Lstm {
    /// Runs the layer over a sequence, from a zero state.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, length, d_input]`
    /// - output: the hidden state at every step, `[batch, length, d_hidden]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.run(x, None).0
    }

    /// Runs the layer over the next part of a longer sequence, from the state that the part before
    /// left, or from zero where there is none. Gradients stop at the border between the parts
    /// (truncated back-propagation through time).
    ///
    /// # Shapes
    ///
    /// - x: `[batch, length, d_input]`
    /// - output: the hidden state at every step, `[batch, length, d_hidden]`, and the state after the last
    ///
    /// # Panics
    ///
    /// If the state is that of another number of sequences.
    pub fn forward_from(&self, x: Tensor<3>, state: Option<LstmState>) -> (Tensor<3>, LstmState) {
        if let Some(LstmState { hidden, cell }) = &state {
            let expected = [x.dims()[0], self.recurrent.layer.weight.dims()[0]];
            assert_eq!([hidden.dims(), cell.dims()], [expected; 2], "a state for every sequence");
        }
        let (states, cell) = self.run(x, state);
        let [_, length, _] = states.dims();
        let hidden = states.clone().inner().narrow(1, length - 1, 1).squeeze_dim(1);
        (states, LstmState { hidden, cell: cell.inner() })
    }

    fn run(&self, x: Tensor<3>, state: Option<LstmState>) -> (Tensor<3>, Tensor<2>) {
        let weight = self.recurrent.layer.weight.val();
        let gates = self.input.forward(x);
        // What is measured or observed of the hidden states is seen step by step.
        if gates.is_autodiff() {
            let quantizer = || self.recurrent.input.hidden_quantizer();
            let start = state.as_ref().map(|state| [&state.hidden, &state.cell]);
            if let Some(result) = kernels::lstm(&gates, &weight, start, quantizer) {
                return result;
            }
        }
        self.step_by_step(gates, weight, state)
    }

    fn step_by_step(
        &self,
        gates: Tensor<3>,
        weight: Tensor<2>,
        state: Option<LstmState>,
    ) -> (Tensor<3>, Tensor<2>) {
        let [batch, length, _] = gates.dims();
        let [d_hidden, _] = weight.dims();
        let zero = || Tensor::<2>::zeros([batch, d_hidden], &gates.device());
        let (mut hidden, mut cell) = match state {
            Some(LstmState { hidden, cell }) => (hidden.inner(), cell.inner()),
            None => (zero(), zero()),
        };
        let mut states = Vec::with_capacity(length);
        for step in gates.split(1, 1) {
            let recurrent = kernels::matmul(self.recurrent.input.forward(hidden), weight.clone());
            let gates = step.squeeze_dim::<2>(1) + recurrent;
            let [input, forget, candidate, output] = four(gates.chunk(4, 1));
            cell = sigmoid(forget) * cell + sigmoid(input) * candidate.tanh();
            hidden = sigmoid(output) * cell.clone().tanh();
            states.push(hidden.clone());
        }
        (Tensor::stack(states, 1), cell)
    }
}

fn four(gates: Vec<Tensor<2>>) -> [Tensor<2>; 4] {
    gates.try_into().expect("a product over 4 * d_hidden columns splits into four gates")
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::quant::{
        ActivationQuantizer, CalibrationError, FakeQuantizer, LearnedRange, Plan, QuantSpec,
        ScaleKind, attach, calibrate, sites,
    };
    use burn::tensor::{Distribution, Tolerance};

    /// Values, and the gradients of gates and recurrent weight, of the one operation and of the
    /// steps agree, from a zero state and from another.
    fn agree(lstm: &Lstm, device: &Device) {
        agree_from(lstm, None, device);
        let random = || Tensor::random([3, 6], Distribution::Normal(0.0, 1.0), &Device::flex());
        agree_from(lstm, Some(LstmState { hidden: random(), cell: random() }), device);
    }

    fn agree_from(lstm: &Lstm, state: Option<LstmState>, device: &Device) {
        let random = Tensor::<3>::random([3, 5, 4], Distribution::Normal(0.0, 1.0), device);
        let gates = lstm.input.forward(random).detach() * 3.0;
        let run = |one_operation: bool| {
            let gates = gates.clone().require_grad();
            let weight = lstm.recurrent.layer.weight.val();
            let (states, cell) = match one_operation {
                true => {
                    let quantizer = || lstm.recurrent.input.hidden_quantizer();
                    let start = state.as_ref().map(|state| [&state.hidden, &state.cell]);
                    kernels::lstm(&gates, &weight, start, quantizer).expect("flex has it")
                }
                false => lstm.step_by_step(gates.clone(), weight, state.clone()),
            };
            let weights = Tensor::<1, burn::tensor::Int>::arange(0..3 * 5 * 6, device).float();
            let loss = (states.clone() * (weights * 0.7).sin().reshape([3, 5, 6])).sum();
            let gradients = loss.backward();
            let stored = lstm.recurrent.layer.weight.base();
            [
                states.into_data(),
                cell.into_data(),
                gates.grad(&gradients).expect("a gradient").into_data(),
                stored.grad(&gradients).expect("a gradient").into_data(),
            ]
        };
        for (found, expected) in run(true).iter().zip(&run(false)) {
            found.assert_approx_eq::<f32>(expected, Tolerance::rel_abs(1e-4, 1e-5));
        }
    }

    #[test]
    fn one_operation_equals_the_steps_in_float_and_quantized() {
        let device = Device::flex();
        device.seed(3);
        let lstm = LstmConfig { d_input: 4, d_hidden: 6, dropout: 0.0 }.init(&device);
        agree(&lstm.clone().train(), &device.clone().autodiff());

        let plan =
            Plan::resolve(&sites(&lstm), Some(QuantSpec::ausn(4)), Some(QuantSpec::ausn(4)), &[]);
        let plan = calibrate(&lstm, &plan.expect("no patterns"), |lstm| {
            let x = Tensor::<3>::random([3, 5, 4], Distribution::Normal(0.0, 1.0), &device);
            lstm.forward(x);
            Ok::<(), CalibrationError>(())
        });
        let quantized = attach(lstm, &plan.expect("finite values")).expect("a float model");
        agree(&quantized.model.train(), &device.autodiff());
    }

    #[test]
    fn a_hidden_range_that_trains_gets_a_gradient() {
        let device = Device::flex();
        device.seed(5);
        let lstm = LstmConfig { d_input: 4, d_hidden: 6, dropout: 0.0 }.init(&device);
        let learned = Some(LearnedRange::Tqt { scale: ScaleKind::PowerOfTwo });
        let activation = QuantSpec { learned, ..QuantSpec::ausn(4) };
        let plan = Plan::resolve(&sites(&lstm), None, Some(activation), &[]).unwrap();
        let x = Tensor::<3>::random([3, 5, 4], Distribution::Normal(0.0, 1.0), &device);
        let plan = calibrate(&lstm, &plan, |lstm| {
            lstm.forward(x.clone());
            Ok::<(), CalibrationError>(())
        });
        let quantized = attach(lstm, &plan.unwrap()).unwrap().model.train();
        let gradients = quantized.forward(x.autodiff()).sum().backward();
        let (ActivationQuantizer::Signed(slot) | ActivationQuantizer::NonNegative(slot)) =
            &quantized.recurrent.input;
        let quantizer = slot.reparameterization::<FakeQuantizer>().expect("it is attached");
        let gradient = quantizer.scale.val().grad(&gradients).expect("its range trains");
        assert!(gradient.into_scalar::<f32>().abs() > 1e-6);
    }

    #[test]
    fn parts_of_a_sequence_equal_the_whole() {
        let inner = Device::flex();
        inner.seed(4);
        let lstm = LstmConfig { d_input: 4, d_hidden: 6, dropout: 0.0 }.init(&inner);
        let x = Tensor::<3>::random([3, 7, 4], Distribution::Normal(0.0, 1.0), &inner);
        for (lstm, x) in [(lstm.clone(), x.clone()), (lstm.train(), x.autodiff())] {
            let whole = lstm.forward(x.clone()).into_data();
            let mut state = None;
            let mut parts = Vec::new();
            for part in [x.clone().narrow(1, 0, 3), x.clone().narrow(1, 3, 1), x.narrow(1, 4, 3)] {
                let (states, after) = lstm.forward_from(part, state);
                assert_eq!((after.hidden.dims(), after.cell.dims()), ([3, 6], [3, 6]));
                assert!(!after.hidden.is_autodiff() && !after.cell.is_autodiff());
                state = Some(after);
                parts.push(states);
            }
            let tolerance = Tolerance::rel_abs(1e-5, 1e-6);
            Tensor::cat(parts, 1).into_data().assert_approx_eq::<f32>(&whole, tolerance);
        }
    }
}
