//! The moments of an input, as the products of a weight meet it.

use burn::tensor::{Device, Tensor, TensorData};

use super::SiteKind;

/// Elements of the patches that one batch is laid out as at most; examples past it are left out.
const PATCH_ELEMENTS: usize = 1 << 24;

/// A weight as the matrices that inputs are multiplied with: `[groups, inputs, outputs]`.
///
/// A linear layer's is itself. A convolution's inputs are the channels of its group times the
/// positions of its kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WeightMatrix {
    pub(crate) inputs: usize,
    /// Outputs of one group.
    pub(crate) outputs: usize,
    pub(crate) groups: usize,
    /// Of a convolution; empty for a linear layer.
    kernel: Vec<usize>,
}

impl WeightMatrix {
    /// Of a weight whose input has `channels` (features or channels). None where there is no such
    /// matrix: a transposed convolution, whose outputs differ in what they sum over, and shapes
    /// that do not fit.
    pub(crate) fn new(kind: &SiteKind, channels: usize) -> Option<Self> {
        let SiteKind::Weight { shape, channel_axis, input_axis } = kind else { return None };
        match (&shape[..], channel_axis, input_axis) {
            (&[inputs, outputs], 1, 0) if inputs == channels => {
                Some(Self { inputs, outputs, groups: 1, kernel: Vec::new() })
            }
            ([outputs, of_group, kernel @ ..], 0, 1) if !kernel.is_empty() && kernel.len() <= 3 => {
                let groups = channels / of_group.max(&1);
                let fits = channels == groups * of_group && groups > 0 && outputs % groups == 0;
                fits.then(|| Self {
                    inputs: of_group * kernel.iter().product::<usize>(),
                    outputs: outputs / groups,
                    groups,
                    kernel: kernel.to_vec(),
                })
            }
            _ => None,
        }
    }

    /// The axis of an input that its channels lie along.
    fn channel_axis(kind: &SiteKind, rank: usize) -> usize {
        match kind {
            SiteKind::Weight { shape, .. } if shape.len() > 2 => 1,
            _ => rank - 1,
        }
    }

    /// From a weight's row-major elements to those of its matrices.
    pub(crate) fn gather(&self, weight: &[f32]) -> Vec<f32> {
        (0..weight.len()).map(|i| weight[self.source(i)]).collect()
    }

    /// Where an element of the matrices lies in the weight.
    pub(crate) fn source(&self, index: usize) -> usize {
        if self.kernel.is_empty() {
            return index;
        }
        let (row, output) = (index / self.outputs, index % self.outputs);
        let (group, input) = (row / self.inputs, row % self.inputs);
        (group * self.outputs + output) * self.inputs + input
    }

    /// The output channel of an element of the matrices.
    pub(crate) fn channel(&self, index: usize) -> usize {
        index / (self.inputs * self.outputs) * self.outputs + index % self.outputs
    }
}

/// Sums over the positions of an input: of the inputs that meet a weight, and of their products.
///
/// A convolution is taken to look at every position, with zeros around the borders, whatever its
/// stride and padding: what it really looks at is a sample of that.
#[derive(Clone, Debug)]
pub(crate) struct Moments {
    kind: SiteKind,
    sums: Option<Sums>,
}

#[derive(Clone, Debug)]
struct Sums {
    matrix: WeightMatrix,
    positions: f64,
    /// `[groups, inputs]`
    first: Vec<f64>,
    /// `[groups, inputs, inputs]`
    second: Vec<f64>,
}

impl Moments {
    /// Nothing yet, for the input of a weight.
    pub(crate) fn new(weight: &SiteKind) -> Self {
        Self { kind: weight.clone(), sums: None }
    }

    /// Adds one batch, a tensor of `shape`. One that does not fit the weight is left out.
    pub(super) fn record(&mut self, values: &[f32], shape: &[usize], device: &Device) {
        if values.is_empty() {
            return;
        }
        let axis = WeightMatrix::channel_axis(&self.kind, shape.len());
        let Some(matrix) =
            shape.get(axis).and_then(|&channels| WeightMatrix::new(&self.kind, channels))
        else {
            return;
        };
        let patches = match &matrix.kernel[..] {
            [] => rows(values, matrix.inputs),
            kernel => {
                if shape.len() != kernel.len() + 2 {
                    return;
                }
                patches(values, shape, kernel)
            }
        };
        let (groups, inputs) = (matrix.groups, matrix.inputs);
        let positions = patches.len() / (groups * inputs);
        let patches = TensorData::new(patches, [groups, inputs, positions]);
        let patches = Tensor::<3>::from_data(patches, device);
        let second = patches.clone().matmul(patches.clone().swap_dims(1, 2));
        let first = patches.sum_dim(2);

        let sums = self.sums.get_or_insert_with(|| Sums {
            first: vec![0.0; groups * inputs],
            second: vec![0.0; groups * inputs * inputs],
            positions: 0.0,
            matrix,
        });
        for (sums, batch) in [(&mut sums.first, first), (&mut sums.second, second)] {
            let batch: Vec<f32> =
                batch.into_data().convert::<f32>().try_to_vec().expect("converted to f32");
            sums.iter_mut().zip(batch).for_each(|(sum, value)| *sum += f64::from(value));
        }
        sums.positions += positions as f64;
    }

    /// The matrices of a weight that meets this input; none where nothing was seen that fits it.
    pub(crate) fn matrix(&self, weight: &SiteKind) -> Option<WeightMatrix> {
        let seen = &self.sums.as_ref()?.matrix;
        let channels = match &seen.kernel[..] {
            [] => seen.inputs,
            kernel => seen.groups * seen.inputs / kernel.iter().product::<usize>(),
        };
        WeightMatrix::new(weight, channels).filter(|own| {
            own.kernel == seen.kernel && own.groups == seen.groups && own.inputs == seen.inputs
        })
    }

    /// The mean of each input: `[groups, inputs]`.
    pub(crate) fn mean(&self) -> Vec<f64> {
        let Some(sums) = &self.sums else { return Vec::new() };
        sums.first.iter().map(|sum| sum / sums.positions).collect()
    }

    /// The mean of each product of two inputs: `[groups, inputs, inputs]`.
    pub(crate) fn second(&self) -> Vec<f64> {
        let Some(sums) = &self.sums else { return Vec::new() };
        sums.second.iter().map(|sum| sum / sums.positions).collect()
    }
}

/// Rows of features, transposed: `[inputs, rows]`.
fn rows(values: &[f32], inputs: usize) -> Vec<f32> {
    let rows = (values.len() / inputs).min((PATCH_ELEMENTS / inputs).max(1));
    let mut columns = vec![0.0; rows * inputs];
    for (row, features) in values.chunks_exact(inputs).take(rows).enumerate() {
        features.iter().enumerate().for_each(|(i, &value)| columns[i * rows + row] = value);
    }
    columns
}

/// The neighbourhood of every position: `[channels, kernel, examples and positions]`.
fn patches(values: &[f32], shape: &[usize], kernel: &[usize]) -> Vec<f32> {
    let volume = |dims: &[usize]| dims.iter().product::<usize>();
    let (channels, space) = (shape[1], volume(&shape[2..]));
    let taps = volume(kernel);
    let examples = shape[0].min((PATCH_ELEMENTS / (channels * taps * space).max(1)).max(1));
    // Three dimensions serve for fewer.
    let three = |dims: &[usize]| -> [usize; 3] {
        let mut all = [1; 3];
        all[3 - dims.len()..].copy_from_slice(dims);
        all
    };
    let (size, kernel) = (three(&shape[2..]), three(kernel));
    let positions = examples * space;
    let mut patches = vec![0.0; channels * taps * positions];
    for (tap, row) in patches.chunks_exact_mut(positions.max(1)).enumerate() {
        let (channel, tap) = (tap / taps, tap % taps);
        let offset = [tap / (kernel[1] * kernel[2]), tap / kernel[2] % kernel[1], tap % kernel[2]];
        // The neighbour's coordinate along an axis, if it is inside.
        let near = |axis: usize, at: usize| {
            (at + offset[axis]).checked_sub((kernel[axis] - 1) / 2).filter(|&i| i < size[axis])
        };
        for (example, row) in row.chunks_exact_mut(space).enumerate() {
            let image = &values[(example * channels + channel) * space..][..space];
            for z in 0..size[0] {
                for y in 0..size[1] {
                    let (Some(from_z), Some(from_y)) = (near(0, z), near(1, y)) else { continue };
                    let line = &image[(from_z * size[1] + from_y) * size[2]..][..size[2]];
                    let to = &mut row[(z * size[1] + y) * size[2]..][..size[2]];
                    for (x, to) in to.iter_mut().enumerate() {
                        if let Some(from) = near(2, x) {
                            *to = line[from];
                        }
                    }
                }
            }
        }
    }
    patches
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::PaddingConfig2d;
    use burn::nn::conv::Conv2dConfig;
    use burn::tensor::{Distribution, Tolerance};

    fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    fn weight(shape: &[usize], channel_axis: usize) -> SiteKind {
        SiteKind::Weight { shape: shape.to_vec(), channel_axis, input_axis: 1 - channel_axis }
    }

    #[test]
    fn moments_of_rows_are_means_of_features_and_their_products() {
        let mut moments = Moments::new(&weight(&[2, 3], 1));
        moments.record(&[1.0, 2.0, 3.0, -4.0], &[2, 1, 2], &Device::default());
        moments.record(&[0.0, 1.0], &[1, 1, 2], &Device::default());
        assert_eq!(moments.mean(), [4.0 / 3.0, -1.0 / 3.0]);
        assert_eq!(moments.second(), [10.0 / 3.0, -10.0 / 3.0, -10.0 / 3.0, 7.0]);
    }

    /// `sum w mean(x)` is the mean of the layer's outputs, and `w' E[x x'] w` of their squares.
    #[test]
    fn moments_of_patches_predict_the_outputs_of_a_convolution() {
        let device = Device::default();
        device.seed(4);
        for groups in [1, 2, 4] {
            let conv = Conv2dConfig::new([4, 8], [3, 1])
                .with_groups(groups)
                .with_padding(PaddingConfig2d::Same)
                .with_bias(false)
                .init(&device);
            let x = Tensor::<4>::random([3, 4, 5, 6], Distribution::Uniform(-0.5, 1.5), &device);
            let y = conv.forward(x.clone());
            let shape = conv.weight.dims();
            let kind = weight(&shape, 0);
            let mut moments = Moments::new(&kind);
            moments.record(&host(x.clone()), &x.dims(), &device);
            let matrix = moments.matrix(&kind).unwrap();
            assert_eq!((matrix.groups, matrix.inputs), (groups, 12 / groups));
            let w = matrix.gather(&host(conv.weight.val()));

            let n = matrix.inputs;
            let (mut mean, mut square) = (vec![0f64; 8], vec![0f64; 8]);
            let (first, second) = (moments.mean(), moments.second());
            let element = |g: usize, i: usize, o: usize| (g * n + i) * matrix.outputs + o;
            for g in 0..groups {
                for o in 0..matrix.outputs {
                    let channel = matrix.channel(element(g, 0, o));
                    for i in 0..n {
                        let wi = f64::from(w[element(g, i, o)]);
                        mean[channel] += wi * first[g * n + i];
                        for j in 0..n {
                            let wj = f64::from(w[element(g, j, o)]);
                            square[channel] += wi * wj * second[(g * n + i) * n + j];
                        }
                    }
                }
            }
            let by_channel = |y: Tensor<4>| y.swap_dims(0, 1).flatten::<2>(1, 3).mean_dim(1);
            let tolerance = Tolerance::rel_abs(1e-4, 1e-5);
            for (found, expected) in
                [(mean, by_channel(y.clone())), (square, by_channel(y.powi_scalar(2)))]
            {
                let found: Vec<f32> = found.into_iter().map(|x| x as f32).collect();
                TensorData::new(found, [8, 1])
                    .assert_approx_eq::<f32>(&expected.into_data(), tolerance);
            }
        }
    }

    #[test]
    fn what_does_not_fit_the_weight_is_left_out() {
        let device = Device::default();
        let linear = weight(&[2, 3], 1);
        let mut moments = Moments::new(&linear);
        moments.record(&[1.0, 2.0, 3.0], &[1, 3], &device);
        assert!(moments.matrix(&linear).is_none());
        moments.record(&[1.0, 2.0], &[1, 2], &device);
        assert!(moments.matrix(&linear).is_some());
        assert!(moments.matrix(&weight(&[2, 8], 1)).is_some(), "another layer of the same input");
        assert!(moments.matrix(&weight(&[3, 8], 1)).is_none());
        let transposed = weight(&[2, 3, 3, 3], 1);
        let mut moments = Moments::new(&transposed);
        moments.record(&[1.0; 8], &[1, 2, 2, 2], &device);
        assert!(moments.matrix(&transposed).is_none());
    }
}
