//! Mixed precision: products of 16-bit floats, everything else in 32 bits.

use std::sync::atomic::{AtomicU8, Ordering};

use burn::tensor::{Device, FloatDType, Tensor};
use serde::{Deserialize, Serialize};

/// The precision of the operands of matrix products and convolutions. Weights, the optimizer's
/// state, sums and everything between the products stay in 32 bits (Micikevicius et al. 2017,
/// arXiv 1710.03740).
///
/// A quantized operand loses nothing: the levels of a coding with a power-of-two range have at most
/// S + 1 significant bits, and bf16 has 8, f16 has 11.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// bfloat16: the exponents of 32 bits, 8 significant bits.
    Bf16,
    /// IEEE half precision: 11 significant bits, numbers up to 65,504 and down to 6e-8.
    F16,
}

/// That of this process, as the discriminant of a [`Precision`].
static CURRENT: AtomicU8 = AtomicU8::new(Precision::F32 as u8);

impl Precision {
    /// Sets the precision of all products of this process from now on, as a device's settings do.
    pub fn set(self) {
        CURRENT.store(self as u8, Ordering::Relaxed);
    }

    /// The precision of this process.
    pub fn current() -> Self {
        match CURRENT.load(Ordering::Relaxed) {
            p if p == Precision::Bf16 as u8 => Precision::Bf16,
            p if p == Precision::F16 as u8 => Precision::F16,
            _ => Precision::F32,
        }
    }

    /// Whether products are computed in it on a device. The operations of the `flex` backend are of
    /// 32 bits only.
    pub fn supported(self, device: &Device) -> bool {
        let device = device.clone().inner();
        #[cfg(feature = "flex")]
        if super::flex::is_flex(&device) {
            return self == Precision::F32;
        }
        self.dtype().is_none_or(|dtype| device.supports_dtype(dtype))
    }

    /// Its name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        }
    }

    fn dtype(self) -> Option<FloatDType> {
        match self {
            Precision::F32 => None,
            Precision::Bf16 => Some(FloatDType::BF16),
            Precision::F16 => Some(FloatDType::F16),
        }
    }

    /// A product of `a` and `b`, its operands in this precision, its result in 32 bits.
    pub(crate) fn product<const A: usize, const B: usize, const C: usize>(
        self,
        a: Tensor<A>,
        b: Tensor<B>,
        product: impl FnOnce(Tensor<A>, Tensor<B>) -> Tensor<C>,
    ) -> Tensor<C> {
        match self.dtype() {
            None => product(a, b),
            Some(half) => product(a.cast(half), b.cast(half)).cast(FloatDType::F32),
        }
    }
}

/// The matrix product of the last two dimensions, in the precision of this process.
pub fn matmul<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    Precision::current().product(a, b, Tensor::matmul)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding::{AusnFormat, Underflow};
    use crate::quant::{Estimator, FakeQuantize, Granularity, fake_quantize};
    use burn::tensor::{Distribution, Tolerance};

    fn operands(device: &Device) -> (Tensor<2>, Tensor<2>) {
        let random =
            |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), device);
        (random([5, 16]), random([16, 3]))
    }

    fn precisions(device: &Device) -> impl Iterator<Item = Precision> {
        let device = device.clone().inner();
        let stored = move |precision: &Precision| device.supports_dtype(precision.dtype().unwrap());
        [Precision::Bf16, Precision::F16].into_iter().filter(stored)
    }

    #[cfg(feature = "flex")]
    #[test]
    fn flex_computes_in_32_bits_only() {
        assert!(Precision::F32.supported(&Device::flex()));
        assert!(!Precision::Bf16.supported(&Device::flex().autodiff()));
    }

    #[test]
    fn half_products_are_near_those_of_32_bits_in_values_and_gradients() {
        let device = Device::default().autodiff();
        device.seed(11);
        let (a, b) = operands(&device);
        let run = |precision: Precision| {
            let (a, b) = (a.clone().require_grad(), b.clone().require_grad());
            let y = precision.product(a.clone(), b.clone(), Tensor::matmul);
            let gradients = y.clone().powi_scalar(2).sum().backward();
            let gradient = |x: &Tensor<2>| x.grad(&gradients).expect("a gradient").into_data();
            [y.into_data(), gradient(&a), gradient(&b)]
        };
        let exact = run(Precision::F32);
        for precision in precisions(&device) {
            for (half, exact) in run(precision).iter().zip(&exact) {
                half.assert_approx_eq::<f32>(exact, Tolerance::rel_abs(5e-2, 0.3));
                assert_ne!(half, exact, "{precision:?} was not used");
            }
        }
    }

    #[test]
    fn quantized_operands_are_exact_in_half_precision() {
        let device = Device::default();
        device.seed(12);
        let format = AusnFormat::new(2, 5, true, Underflow::Gradual).unwrap();
        let operation = FakeQuantize::new(format, Granularity::Tensor, Estimator::Clipped);
        let (a, _) = operands(&device);
        let a = fake_quantize(a, Tensor::from_floats([4.0], &device), operation);
        for precision in precisions(&device) {
            let half = a.clone().cast(precision.dtype().unwrap()).cast(FloatDType::F32);
            half.into_data().assert_eq(&a.clone().into_data(), true);
        }
    }
}
