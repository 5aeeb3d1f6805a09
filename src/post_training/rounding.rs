//! AdaRound: which of its two neighbouring levels each weight is rounded to, learned so that the
//! layer's output changes least (Nagel et al. 2020, arXiv 2004.10568).

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use crate::quant::WeightMatrix;

/// Part of the iterations in which nothing pushes towards a decision yet.
const WARM_UP: f64 = 0.2;
/// Step of Adam. A variable has to go about 2.4 from undecided to decided.
const LEARNING_RATE: f32 = 0.01;
/// Weight of the term that pushes towards a decision. The output's error counts 1 for each weight
/// where all are rounded to nearest. Problems of 8 to 384 inputs, each with 1000 iterations, end with
/// 0.2 to 0.8 of the error that a weight of 0.1 leaves.
const DECISION: f32 = 10.0;
/// Exponent of that term (equation 24), from the first to the last iteration.
const EXPONENT: (f64, f64) = (20.0, 2.0);
/// Rounds of single changes after the learning at most; it takes few until there is none left.
const ROUNDS: usize = 50;
/// The stretch of the rectified sigmoid (equation 23; Louizos et al. 2017).
const STRETCH: (f32, f32) = (-0.1, 1.1);

/// A layer's weights, the level next to each, and the one on the weight's other side; the same
/// where there is nothing to choose. All in the order of the matrices.
pub(super) struct Neighbours<'a> {
    pub(super) matrix: &'a WeightMatrix,
    pub(super) weights: &'a [f32],
    pub(super) nearest: &'a [f32],
    pub(super) other: &'a [f32],
}

/// Squared errors of a layer's output, a sum over its channels and a mean over positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct OutputErrors {
    pub(super) nearest: f64,
    pub(super) learned: f64,
    /// The output's own mean square.
    pub(super) energy: f64,
}

/// Chooses for each weight: whether it takes the other level.
///
/// The mean squared error of the output is `d' M d` for an error `d` of a channel's weights and the
/// second moments `M` of the inputs, `[groups, inputs, inputs]`: all that data tell of the problem.
/// What was learned is then changed weight by weight for as long as a change lowers the error. A
/// channel for which nothing better was found than rounding to nearest is left so.
pub(super) fn learn(
    layer: &Neighbours,
    second: Vec<f32>,
    iterations: usize,
    device: &Device,
) -> (Vec<bool>, OutputErrors) {
    let &Neighbours { matrix, weights, nearest, other } = layer;
    let &WeightMatrix { groups, inputs, outputs, .. } = matrix;
    let moments = TensorData::new(second.clone(), [groups, inputs, inputs]);
    let moments = Tensor::<3>::from_data(moments, device);
    let products = |errors: Vec<f32>| -> Vec<f32> {
        let errors = TensorData::new(errors, [groups, inputs, outputs]);
        let products = moments.clone().matmul(Tensor::from_data(errors, device));
        products.into_data().convert::<f32>().try_to_vec().expect("converted to f32")
    };
    let channels = groups * outputs;
    // `d' M d` of each channel.
    let losses = |errors: &[f32]| -> Vec<f64> {
        let mut losses = vec![0.0; channels];
        for (i, (&error, product)) in errors.iter().zip(products(errors.to_vec())).enumerate() {
            losses[matrix.channel(i)] += f64::from(error) * f64::from(product);
        }
        losses
    };
    let difference =
        |a: &[f32], b: &[f32]| -> Vec<f32> { a.iter().zip(b).map(|(a, b)| a - b).collect() };

    let step = difference(other, nearest);
    let start = difference(nearest, weights);
    let nearest_losses = losses(&start);
    // The scale at which each weight of a channel counts 1 where all are rounded to nearest.
    let weight_of: Vec<f32> = nearest_losses
        .iter()
        .map(|&loss| if loss > 0.0 { (inputs as f64 / loss) as f32 } else { 0.0 })
        .collect();

    let mut variables: Vec<Variable> = step
        .iter()
        .zip(&start)
        .enumerate()
        .map(|(i, (&step, &start))| Variable::new(step, start, weight_of[matrix.channel(i)]))
        .collect();
    for iteration in 0..iterations {
        let errors = variables.par_iter().map(Variable::error).collect();
        let gradients = products(errors);
        let done = iteration as f64 / iterations as f64;
        let exponent = (done >= WARM_UP).then(|| {
            let annealed = (done - WARM_UP) / (1.0 - WARM_UP);
            let (first, last) = EXPONENT;
            (last + (first - last) * (1.0 + (std::f64::consts::PI * annealed).cos()) / 2.0) as f32
        });
        let corrections = Corrections::of(iteration as i32 + 1);
        variables
            .par_iter_mut()
            .zip(gradients)
            .for_each(|(variable, gradient)| variable.update(gradient, exponent, &corrections));
    }

    let mut taken: Vec<bool> = variables.iter().map(Variable::taken).collect();
    let mut errors: Vec<f32> = variables
        .iter()
        .zip(&taken)
        .map(|(variable, &taken)| variable.start + if taken { variable.step } else { 0.0 })
        .collect();
    let gradients = products(errors.clone());
    let changes: Vec<Vec<usize>> = (0..channels)
        .into_par_iter()
        .map(|channel| {
            let (group, output) = (channel / outputs, channel % outputs);
            let at = |input: usize| (group * inputs + input) * outputs + output;
            let changes = (0..inputs)
                .map(|i| if taken[at(i)] { -step[at(i)] } else { step[at(i)] })
                .collect();
            let gradients = (0..inputs).map(|i| gradients[at(i)]).collect();
            let moments = &second[group * inputs * inputs..][..inputs * inputs];
            single_changes(changes, gradients, moments).into_iter().map(at).collect()
        })
        .collect();
    for i in changes.into_iter().flatten() {
        errors[i] += if taken[i] { -step[i] } else { step[i] };
        taken[i] = !taken[i];
    }
    let learned_losses = losses(&errors);
    for (i, taken) in taken.iter_mut().enumerate() {
        let channel = matrix.channel(i);
        *taken &= learned_losses[channel] < nearest_losses[channel];
    }
    let better = nearest_losses.iter().zip(&learned_losses).map(|(a, b)| a.min(*b)).sum();
    let errors = OutputErrors {
        nearest: nearest_losses.iter().sum(),
        learned: better,
        energy: losses(weights).iter().sum(),
    };
    (taken, errors)
}

/// The inputs of a channel whose change, each after those before it, lowers `d' M d`; `changes` says
/// by how much each error can change, `gradients` is `M d`.
fn single_changes(mut changes: Vec<f32>, mut gradients: Vec<f32>, moments: &[f32]) -> Vec<usize> {
    let inputs = changes.len();
    let mut changed = vec![false; inputs];
    for _ in 0..ROUNDS {
        let mut settled = true;
        for i in 0..inputs {
            let (change, row) = (changes[i], &moments[i * inputs..][..inputs]);
            // A gain within the rounding of the sums would be undone and done for ever.
            if change * (2.0 * gradients[i] + change * row[i]) < -1e-5 * change * change * row[i] {
                gradients.iter_mut().zip(row).for_each(|(g, m)| *g += change * m);
                changes[i] = -change;
                changed[i] = !changed[i];
                settled = false;
            }
        }
        if settled {
            break;
        }
    }
    (0..inputs).filter(|&i| changed[i]).collect()
}

/// Bias corrections of Adam's two means.
struct Corrections(f32, f32);

impl Corrections {
    fn of(step: i32) -> Self {
        Self(1.0 / (1.0 - 0.9f32.powi(step)), 1.0 / (1.0 - 0.999f32.powi(step)))
    }
}

/// The decision of one weight, `h(v)` between 0 (nearest) and 1 (other), and Adam's state.
struct Variable {
    step: f32,
    start: f32,
    weight: f32,
    v: f32,
    mean: f32,
    square: f32,
}

impl Variable {
    /// Starts where nothing is rounded: the error is 0.
    fn new(step: f32, start: f32, weight: f32) -> Self {
        let part = if step == 0.0 { 0.0 } else { -start / step };
        let (low, high) = STRETCH;
        let sigmoid = (part - low) / (high - low);
        Self { step, start, weight, v: (sigmoid / (1.0 - sigmoid)).ln(), mean: 0.0, square: 0.0 }
    }

    /// `h(v)` and its derivative.
    fn part(&self) -> (f32, f32) {
        let (low, high) = STRETCH;
        let sigmoid = 1.0 / (1.0 + (-self.v).exp());
        let part = sigmoid * (high - low) + low;
        match part {
            part if part <= 0.0 => (0.0, 0.0),
            part if part >= 1.0 => (1.0, 0.0),
            part => (part, (high - low) * sigmoid * (1.0 - sigmoid)),
        }
    }

    fn error(&self) -> f32 {
        self.start + self.step * self.part().0
    }

    fn taken(&self) -> bool {
        self.part().0 >= 0.5
    }

    /// One step of Adam; `product` is the row of `M d` that the weight meets.
    fn update(&mut self, product: f32, exponent: Option<f32>, corrections: &Corrections) {
        let (part, slope) = self.part();
        if self.step == 0.0 || slope == 0.0 {
            return;
        }
        let mut gradient = 2.0 * self.weight * self.step * product;
        if let Some(exponent) = exponent {
            let distance = 2.0 * part - 1.0;
            gradient -=
                DECISION * 2.0 * exponent * distance.abs().powf(exponent - 1.0) * distance.signum();
        }
        gradient *= slope;
        self.mean = 0.9 * self.mean + 0.1 * gradient;
        self.square = 0.999 * self.square + 0.001 * gradient * gradient;
        let denominator = (self.square * corrections.1).sqrt() + 1e-8;
        self.v -= LEARNING_RATE * self.mean * corrections.0 / denominator;
    }
}
