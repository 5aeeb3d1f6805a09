//! One step of AdamW in one pass over parameter, gradient and both moments.

use multiversion::multiversion;
use rayon::prelude::*;

use super::FlexTensor;
use super::parallel::{task, values};

/// What a step needs besides the tensors.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub beta_1: f32,
    pub beta_2: f32,
    pub epsilon: f32,
    /// The learning rate.
    pub rate: f32,
    /// What the parameter is multiplied with before the update.
    pub decay: f32,
    /// 1 - beta_1^t and 1 - beta_2^t.
    pub corrections: (f32, f32),
}

/// Updates parameter and moments, in place where nobody else holds them.
pub fn step(
    [parameter, moment_1, moment_2]: [FlexTensor; 3],
    gradient: FlexTensor,
    step: Step,
) -> [FlexTensor; 3] {
    let gradient = gradient.to_contiguous();
    let contiguous = |tensor: FlexTensor| match tensor.is_contiguous() {
        true => tensor,
        false => tensor.to_contiguous(),
    };
    let [mut parameter, mut moment_1, mut moment_2] =
        [parameter, moment_1, moment_2].map(contiguous);
    let task = task(1);
    parameter
        .storage_mut::<f32>()
        .par_chunks_mut(task)
        .zip(moment_1.storage_mut::<f32>().par_chunks_mut(task))
        .zip(moment_2.storage_mut::<f32>().par_chunks_mut(task))
        .zip(values(&gradient).par_chunks(task))
        .for_each(|(((parameter, moment_1), moment_2), gradient)| {
            run(parameter, moment_1, moment_2, gradient, step)
        });
    [parameter, moment_1, moment_2]
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn run(
    parameter: &mut [f32],
    moment_1: &mut [f32],
    moment_2: &mut [f32],
    gradient: &[f32],
    step: Step,
) {
    let Step { beta_1, beta_2, epsilon, rate, decay, corrections } = step;
    // One division and one root an element: with more, the pass waits for them, not for memory.
    let rate = rate / corrections.0;
    let correction = 1.0 / corrections.1;
    let tensors = parameter.iter_mut().zip(moment_1).zip(moment_2).zip(gradient);
    for (((parameter, moment_1), moment_2), &gradient) in tensors {
        *moment_1 = beta_1 * *moment_1 + (1.0 - beta_1) * gradient;
        *moment_2 = beta_2 * *moment_2 + (1.0 - beta_2) * (gradient * gradient);
        let update = *moment_1 / ((*moment_2 * correction).sqrt() + epsilon);
        *parameter = *parameter * decay - rate * update;
    }
}
