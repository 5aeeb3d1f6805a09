//! Fake quantization on the GPU backends (CubeCL): one kernel that reads and writes each element
//! once, with a hand-written gradient that keeps one bit of each element.

use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{
    Autodiff, Backend, Dispatch, DispatchDevice, TensorMetadata, backend_extension,
};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{self, calculate_cube_count_elemwise, ir::ElemType, prelude::*};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::{Estimator, FakeQuantize, ScaleGradient};
use crate::coding::{Quantizer, Rounder};
use crate::quant::{Folded, Granularity};

/// Elements that a word of a mask tells of, and that one unit of a kernel handles.
const WORD: usize = 32;

/// The widest vector that a unit reads and writes at once.
const VECTOR: usize = 4;

/// Whether a tensor is one of floats of at most 32 bits on a GPU backend.
pub(super) fn available<const D: usize>(x: &Tensor<D>) -> bool {
    matches!(x.device().inner().as_dispatch(), DispatchDevice::Cube(_))
        && matches!(x.dtype(), DType::F32 | DType::F16 | DType::BF16)
}

/// The rounding of the operation, where the kernels have it and its scales do not train.
pub(super) fn superposed(operation: FakeQuantize) -> Option<Quantizer> {
    match (operation.format.rounder(0), operation.scale_gradient) {
        (Rounder::Superposed(quantizer), ScaleGradient::None) => Some(quantizer),
        _ => None,
    }
}

/// [`fake_quantize`](super::fake_quantize) on a GPU backend, for an operation that is [`superposed`].
pub(super) fn fake_quantize_cube<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    operation: FakeQuantize,
) -> Tensor<D> {
    let scale = scale.detach().into_dispatch();
    Tensor::from_dispatch(Dispatch::straight_through(x.into_dispatch(), scale, operation))
}

/// The operation, with the gradient of its estimator under autodiff.
#[backend_extension(Cube, Autodiff, Fusion)]
trait StraightThrough: Backend {
    #[fusion(dtype = x, shape = x)]
    fn straight_through(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        operation: FakeQuantize,
    ) -> FloatTensor<Self>;
}

/// What the operation's gradient is made of.
#[backend_extension(Cube, Fusion)]
trait Masked: Backend {
    /// The operation, and one bit for each element: whether it is inside the representable range.
    #[fusion(meta = |x, _scale, _operation| (x.clone(), mask_spec(x)))]
    fn quantize_and_mask(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        operation: FakeQuantize,
    ) -> (FloatTensor<Self>, IntTensor<Self>);

    /// The gradient where the bit of an element is set, 0 elsewhere.
    #[fusion(dtype = grad, shape = grad)]
    fn apply_mask(grad: FloatTensor<Self>, mask: IntTensor<Self>) -> FloatTensor<Self>;
}

fn mask_spec(x: &TensorSpec) -> TensorSpec {
    TensorSpec::new(Shape::from([words(x.shape.num_elements())]), DType::U32)
}

fn words(elements: usize) -> usize {
    elements.div_ceil(WORD)
}

impl StraightThrough for CubeBackend {
    fn straight_through(x: CubeTensor, scale: CubeTensor, operation: FakeQuantize) -> CubeTensor {
        launch_quantize(x, scale, operation, None)
    }
}

impl Masked for CubeBackend {
    fn quantize_and_mask(
        x: CubeTensor,
        scale: CubeTensor,
        operation: FakeQuantize,
    ) -> (CubeTensor, CubeTensor) {
        let mask = empty_like(&x, Shape::from([words(x.shape().num_elements())]), DType::U32);
        (launch_quantize(x, scale, operation, Some(mask.clone())), mask)
    }

    fn apply_mask(grad: CubeTensor, mask: CubeTensor) -> CubeTensor {
        launch_apply_mask(into_contiguous(grad), mask)
    }
}

impl<B, C> StraightThrough for Autodiff<B, C>
where
    B: StraightThrough + Masked,
    C: CheckpointStrategy,
{
    fn straight_through(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        operation: FakeQuantize,
    ) -> FloatTensor<Self> {
        let (node, scale) = (x.node(), scale.into_primitive());
        match Clipped.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::UnTracked(prep) => {
                prep.finish(B::straight_through(x.into_primitive(), scale, operation))
            }
            OpsKind::Tracked(prep) => match operation.estimator {
                Estimator::Identity => {
                    prep.finish(None, B::straight_through(x.into_primitive(), scale, operation))
                }
                Estimator::Clipped => {
                    let (y, mask) = B::quantize_and_mask(x.into_primitive(), scale, operation);
                    prep.finish(Some(mask), y)
                }
            },
        }
    }
}

/// The straight-through estimator; without a mask the gradient passes everywhere.
#[derive(Debug)]
struct Clipped;

impl<B: Masked> Backward<B, 1> for Clipped {
    type State = Option<IntTensor<B>>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [parent] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        if let Some(parent) = parent {
            let grad = match ops.state {
                Some(mask) => B::apply_mask(grad, mask),
                None => grad,
            };
            grads.register::<B>(parent.id, grad);
        }
    }
}

fn empty_like(x: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(x.client.clone(), x.device.clone(), shape, dtype)
}

/// Elements that are read and written at once: depends on the number of elements alone, so that
/// a mask is read in the layout that it was written in.
fn vector_size(elements: usize) -> usize {
    match elements.is_multiple_of(VECTOR) {
        true => VECTOR,
        false => 1,
    }
}

fn launch_quantize(
    x: CubeTensor,
    scale: CubeTensor,
    operation: FakeQuantize,
    mask: Option<CubeTensor>,
) -> CubeTensor {
    let (x, scale) = (into_contiguous(x), into_contiguous(scale));
    let shape = x.shape();
    let elements = shape.num_elements();
    if elements == 0 {
        return x;
    }
    // A gradient is not needed: neither may the input be.
    let in_place = x.can_mut();
    let y = match in_place {
        true => x.clone(),
        false => empty_like(&x, shape.clone(), x.dtype),
    };
    let masked = mask.is_some();
    // A kernel's arguments are of fixed number: without a mask it gets a word that it leaves alone.
    let mask = mask.unwrap_or_else(|| empty_like(&x, Shape::from([1]), DType::U32));
    let (client, vector) = (x.client.clone(), vector_size(elements));
    let cube_dim = CubeDim::new(&client, words(elements));
    let dtypes = [dtype_to_storage_type(x.dtype), dtype_to_storage_type(scale.dtype)];
    let address = x.required_address_type();
    let (sharing, grid) = grid(&shape, operation.granularity);
    let out = match in_place {
        true => y.as_tensor_alias(0).into_buffer_arg(),
        false => y.clone().into_buffer_arg(),
    };
    // SAFETY: a unit reads and writes inside of the bounds that it is told.
    unsafe {
        quantize_kernel::launch_unchecked(
            &client,
            calculate_cube_count_elemwise(&client, words(elements), cube_dim),
            cube_dim,
            address,
            vector,
            x.into_buffer_arg(),
            scale.into_buffer_arg(),
            out,
            mask.into_buffer_arg(),
            elements / vector,
            words(elements),
            rounding(superposed(operation).expect("asked before")),
            grid,
            sharing,
            masked,
            dtypes,
        );
    }
    y
}

fn launch_apply_mask(grad: CubeTensor, mask: CubeTensor) -> CubeTensor {
    let elements = grad.shape().num_elements();
    if elements == 0 {
        return grad;
    }
    let (client, vector) = (grad.client.clone(), vector_size(elements));
    // Asked before there is a clone, which shares the buffer.
    let in_place = grad.can_mut();
    let out = match in_place {
        true => grad.clone(),
        false => empty_like(&grad, grad.shape(), grad.dtype),
    };
    let cube_dim = CubeDim::new(&client, words(elements));
    let dtype = dtype_to_storage_type(grad.dtype);
    let argument = match in_place {
        true => out.as_tensor_alias(0).into_buffer_arg(),
        false => out.clone().into_buffer_arg(),
    };
    // SAFETY: as above.
    unsafe {
        apply_mask_kernel::launch_unchecked(
            &client,
            calculate_cube_count_elemwise(&client, words(elements), cube_dim),
            cube_dim,
            grad.required_address_type(),
            vector,
            grad.into_buffer_arg(),
            mask.into_buffer_arg(),
            argument,
            elements / vector,
            words(elements),
            dtype,
        );
    }
    out
}

/// The constants of a [`Quantizer`].
#[derive(CubeLaunch, CubeType)]
struct Rounding {
    max: u32,
    base: u32,
    floor: u32,
    shift: u32,
    half_less_one: u32,
    mask: u32,
    underflow_end: u32,
    unit: f32,
    inverse_unit: f32,
    drop_negative: u32,
}

fn rounding(q: Quantizer) -> RoundingLaunch {
    RoundingLaunch::new(
        q.max,
        q.base,
        q.floor,
        q.shift,
        q.half_less_one,
        q.mask,
        q.underflow_end,
        q.unit,
        q.inverse_unit,
        q.drop_negative,
    )
}

/// Which elements share a scale: [`Granularity`] without its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Sharing {
    Tensor,
    Channel,
    Group,
}

/// The numbers of a [`Granularity`] for a tensor of some shape.
#[derive(CubeLaunch, CubeType)]
struct Grid {
    axis: usize,
    inner: usize,
    group: usize,
}

fn grid(shape: &[usize], granularity: Granularity) -> (Sharing, GridLaunch) {
    let (sharing, axis, group) = match granularity {
        Granularity::Tensor => return (Sharing::Tensor, GridLaunch::new(1, 1, 1)),
        Granularity::Channel { axis } => (Sharing::Channel, axis, 1),
        Granularity::Group { axis, size } => (Sharing::Group, axis, size),
    };
    let folded = Folded::new(shape, axis);
    (sharing, GridLaunch::new(folded.axis, folded.inner, group))
}

/// The index of an element's scale, as [`Granularity::indexer`] gives it.
#[cube]
fn scale_index(element: usize, grid: &Grid, #[comptime] sharing: Sharing) -> usize {
    match sharing {
        Sharing::Tensor => 0usize,
        Sharing::Channel => element / grid.inner % grid.axis,
        Sharing::Group => {
            let row = element / grid.inner;
            let groups = (grid.axis + grid.group - 1) / grid.group;
            let group = row / grid.axis * groups + row % grid.axis / grid.group;
            group * grid.inner + element % grid.inner
        }
    }
}

/// `1 / scale`, exact for a power of two whose inverse is a normal number, which a GPU's division need
/// not be.
#[cube]
fn inverse(scale: f32) -> f32 {
    let bits = u32::reinterpret(scale);
    let exact = (bits & 0x7f_ffff) == 0 && bits < (254u32 << 23);
    select(exact, f32::reinterpret((254u32 << 23) - bits), 1.0f32 / scale)
}

/// [`Quantizer::quantize`]. The underflow region is rounded in integers: adding and subtracting
/// a large number is what a GPU's compiler may take for nothing.
#[cube]
fn quantize(x: f32, q: &Rounding) -> f32 {
    let sign = 0x8000_0000u32;
    let infinity = 0x7f80_0000u32;
    let bits = u32::reinterpret(x);
    let magnitude = bits & 0x7fff_ffffu32;
    let clamped = select(magnitude < q.max, magnitude, q.max);

    let code_and_rest = select(clamped > q.floor, clamped, q.floor) - q.base;
    let parity = (code_and_rest >> q.shift) & 1u32;
    let superposed = ((code_and_rest + q.half_less_one + parity) & q.mask) + q.base;

    let underflows = clamped < q.underflow_end;
    let steps = f32::reinterpret(select(underflows, clamped, 0u32)) * q.inverse_unit;
    let whole = u32::cast_from(steps);
    let rest = steps - f32::cast_from(whole);
    let half_up = select(rest == 0.5f32, whole & 1u32, 0u32);
    let rounded = whole + select(rest > 0.5f32, 1u32, half_up);
    let underflown = u32::reinterpret(f32::cast_from(rounded) * q.unit);

    let level = select(underflows, underflown, superposed);
    let negative = (bits & sign) != 0u32;
    let level = select(negative, level & !q.drop_negative, level);
    let signed = select(level == 0u32, 0u32, level | (bits & sign));
    f32::reinterpret(select(magnitude > infinity, bits, signed))
}

/// [`Quantizer::in_range`].
#[cube]
fn in_range(x: f32, q: &Rounding) -> bool {
    let bits = u32::reinterpret(x);
    let magnitude = bits & 0x7fff_ffffu32;
    let negative = (bits & 0x8000_0000u32) != 0u32;
    let dropped = select(negative, magnitude & q.drop_negative, 0u32);
    magnitude <= q.max && dropped == 0u32
}

/// Unit `i` of `units` handles the vectors `i`, `i + units`, `i + 2 units`, ...: neighbours read
/// and write neighbouring memory, and each has a word of the mask to itself.
#[cube(launch_unchecked, address_type = "dynamic")]
fn quantize_kernel<F: Float, S: Float, N: Size>(
    x: &[Vector<F, N>],
    scale: &[S],
    y: &mut [Vector<F, N>],
    mask: &mut [u32],
    vectors: usize,
    units: usize,
    rounding: Rounding,
    grid: Grid,
    #[comptime] sharing: Sharing,
    #[comptime] masked: bool,
    #[define(F, S)] _dtypes: [ElemType; 2],
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let width = N::value();
    let mut word = 0u32;
    #[unroll]
    for step in 0..comptime!(WORD / width) {
        let index = ABSOLUTE_POS + step * units;
        if index < vectors {
            let values = x[index];
            let mut rounded = values;
            #[unroll]
            for lane in 0..width {
                let scale_index = scale_index(index * width + lane, &grid, sharing);
                let scale = f32::cast_from(scale[scale_index]);
                let value = f32::cast_from(values.extract(lane)) * inverse(scale);
                rounded.insert(lane, F::cast_from(quantize(value, &rounding) * scale));
                if masked {
                    let bit = comptime!(1u32 << (step * width + lane));
                    word |= select(in_range(value, &rounding), bit, 0u32);
                }
            }
            y[index] = rounded;
        }
    }
    if masked {
        mask[ABSOLUTE_POS] = word;
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn apply_mask_kernel<F: Float, N: Size>(
    grad: &[Vector<F, N>],
    mask: &[u32],
    out: &mut [Vector<F, N>],
    vectors: usize,
    units: usize,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let width = N::value();
    let word = mask[ABSOLUTE_POS];
    #[unroll]
    for step in 0..comptime!(WORD / width) {
        let index = ABSOLUTE_POS + step * units;
        if index < vectors {
            let values = grad[index];
            let mut kept = values;
            #[unroll]
            for lane in 0..width {
                let bit = comptime!(1u32 << (step * width + lane));
                kept.insert(lane, select((word & bit) != 0u32, values.extract(lane), F::new(0.0)));
            }
            out[index] = kept;
        }
    }
}
