//! Dropout (Srivastava et al. 2014): one pass forward, one pass backward, one bit kept an element.

use std::mem::MaybeUninit;

use burn::backend::TensorMetadata;
use multiversion::multiversion;

use super::FlexTensor;
use super::extension::Pullback;
use super::math::random;
use super::parallel::{build, task, values};

/// `threshold`: an element stays where its random number of 32 bits is not below it.
pub fn forward(inputs: Vec<FlexTensor>, seed: u32, threshold: u32) -> (FlexTensor, Pullback) {
    let [x] = <[_; 1]>::try_from(inputs).expect("one input");
    let y = run_all(&x, seed, threshold);
    let pullback = move |grad: FlexTensor, _: &[bool]| {
        // The same elements are drawn again instead of being kept.
        vec![Some(run_all(&grad.to_contiguous(), seed, threshold))]
    };
    (y, Box::new(pullback))
}

fn run_all(x: &FlexTensor, seed: u32, threshold: u32) -> FlexTensor {
    let source = values(x);
    // SAFETY: `run` writes an output for each input.
    unsafe {
        build(x.shape(), task(1), |first, out| {
            run(&source[first..first + out.len()], seed, first as u32, threshold, out)
        })
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn run(x: &[f32], seed: u32, first: u32, threshold: u32, out: &mut [MaybeUninit<f32>]) {
    let kept = 1.0 - f64::from(threshold) / 2f64.powi(32);
    let scale = (1.0 / kept) as f32;
    for (i, (out, &x)) in out.iter_mut().zip(x).enumerate() {
        let keeps = random(seed, first.wrapping_add(i as u32)) >= threshold;
        out.write(if keeps { x * scale } else { 0.0 });
    }
}
