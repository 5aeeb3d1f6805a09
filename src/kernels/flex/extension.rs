//! How an operation written by hand becomes a differentiable operation of Burn.

use std::fmt;
use std::sync::Arc;

use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, Backend, BackendTensor, Dispatch, DispatchAutodiffContext, DispatchDevice,
    DispatchTensor, DispatchTensorKind, Flex, backend_extension,
};
use burn::tensor::{Bool, DType, Device, Int, Tensor};

use super::FlexTensor;

/// Whether a tensor is one of 32-bit floats on the `flex` backend.
pub fn available<const D: usize>(x: &Tensor<D>) -> bool {
    is_flex(&x.device().inner()) && x.dtype() == DType::F32
}

/// Whether a device without autodiff is that of the `flex` backend.
pub fn is_flex(device: &Device) -> bool {
    matches!(device.as_dispatch(), DispatchDevice::Flex(_))
}

/// The primitive of a tensor outside of autodiff.
pub fn primitive<const D: usize>(x: Tensor<D>) -> FlexTensor {
    match x.into_dispatch().kind {
        DispatchTensorKind::Flex(BackendTensor::Float(tensor)) => tensor,
        kind => panic!("a float tensor of the flex backend, not {kind:?}"),
    }
}

/// The values of a tensor of booleans.
pub fn booleans<const D: usize>(x: Tensor<D, Bool>) -> Vec<bool> {
    x.into_data().iter::<bool>().collect()
}

/// The values of a tensor of integers.
pub fn integers<const D: usize>(x: Tensor<D, Int>) -> Vec<i64> {
    x.into_data().iter::<i64>().collect()
}

/// The tensor of a primitive, outside of autodiff.
pub fn tensor<const D: usize>(x: FlexTensor) -> Tensor<D> {
    Tensor::from_dispatch(DispatchTensor {
        kind: DispatchTensorKind::Flex(BackendTensor::Float(x)),
        autodiff: DispatchAutodiffContext::Disabled,
    })
}

/// From the gradient of an operation's result to the gradients of its inputs, in their order.
///
/// The second argument says which of them are wanted; the others may be `None`.
pub type Pullback = Box<dyn Fn(FlexTensor, &[bool]) -> Vec<Option<FlexTensor>> + Send + Sync>;

/// Runs `forward` on one to three inputs, all contiguous, and records its pullback where a gradient
/// is wanted; `forward` is told whether that is so.
pub fn differentiable<const D: usize>(
    inputs: Vec<DispatchTensor>,
    forward: impl Fn(Vec<FlexTensor>, bool) -> (FlexTensor, Pullback) + Send + Sync + 'static,
) -> Tensor<D> {
    let forward = Forward(Arc::new(forward));
    let mut rest = inputs.into_iter();
    let output = match (rest.next(), rest.next(), rest.next(), rest.next()) {
        (Some(x), None, None, None) => Dispatch::differentiable_1(x, forward),
        (Some(x), Some(y), None, None) => Dispatch::differentiable_2(x, y, forward),
        (Some(x), Some(y), Some(z), None) => Dispatch::differentiable_3(x, y, z, forward),
        _ => unimplemented!("a differentiable operation of no or more than three inputs"),
    };
    Tensor::from_dispatch(output)
}

type Function = dyn Fn(Vec<FlexTensor>, bool) -> (FlexTensor, Pullback) + Send + Sync;

#[derive(Clone)]
struct Forward(Arc<Function>);

impl Forward {
    fn run(&self, inputs: Vec<FlexTensor>, tracked: bool) -> (FlexTensor, Pullback) {
        // Each handle is given up at once: an input that nobody else holds may become the result.
        (self.0)(inputs.into_iter().map(|x| x.to_contiguous()).collect(), tracked)
    }
}

/// One method for each number of inputs, since the dispatch is generated from their signatures.
#[backend_extension(Flex, Autodiff)]
trait Differentiable: Backend {
    fn differentiable_1(x: FloatTensor<Self>, forward: Forward) -> FloatTensor<Self>;

    fn differentiable_2(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        forward: Forward,
    ) -> FloatTensor<Self>;

    fn differentiable_3(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        z: FloatTensor<Self>,
        forward: Forward,
    ) -> FloatTensor<Self>;
}

impl Differentiable for Flex {
    fn differentiable_1(x: FlexTensor, forward: Forward) -> FlexTensor {
        forward.run(vec![x], false).0
    }

    fn differentiable_2(x: FlexTensor, y: FlexTensor, forward: Forward) -> FlexTensor {
        forward.run(vec![x, y], false).0
    }

    fn differentiable_3(
        x: FlexTensor,
        y: FlexTensor,
        z: FlexTensor,
        forward: Forward,
    ) -> FlexTensor {
        forward.run(vec![x, y, z], false).0
    }
}

impl<B, C> Differentiable for Autodiff<B, C>
where
    B: Backend<FloatTensorPrimitive = FlexTensor>,
    C: CheckpointStrategy,
{
    fn differentiable_1(x: FloatTensor<Self>, forward: Forward) -> FloatTensor<Self> {
        record::<B, C, 1>([x], forward)
    }

    fn differentiable_2(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        forward: Forward,
    ) -> FloatTensor<Self> {
        record::<B, C, 2>([x, y], forward)
    }

    fn differentiable_3(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        z: FloatTensor<Self>,
        forward: Forward,
    ) -> FloatTensor<Self> {
        record::<B, C, 3>([x, y, z], forward)
    }
}

fn record<B, C, const N: usize>(
    inputs: [FloatTensor<Autodiff<B, C>>; N],
    forward: Forward,
) -> FloatTensor<Autodiff<B, C>>
where
    B: Backend<FloatTensorPrimitive = FlexTensor>,
    C: CheckpointStrategy,
{
    let guards = inputs.each_ref().map(|input| input.node());
    let primitives = inputs.into_iter().map(|input| input.into_primitive()).collect();
    match Handwritten::<N>.prepare::<C>(guards).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let (output, pullback) = forward.run(primitives, true);
            prep.finish(State(Arc::new(pullback)), output)
        }
        OpsKind::UnTracked(prep) => prep.finish(forward.run(primitives, false).0),
    }
}

#[derive(Debug)]
struct Handwritten<const N: usize>;

#[derive(Clone)]
struct State(Arc<Pullback>);

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pullback")
    }
}

impl<B, const N: usize> Backward<B, N> for Handwritten<N>
where
    B: Backend<FloatTensorPrimitive = FlexTensor>,
{
    type State = State;

    fn backward(self, ops: Ops<State, N>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let gradients = (ops.state.0)(gradient, &wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(parent) = parent {
                let gradient = gradient.expect("a gradient for each input that wants one");
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}
