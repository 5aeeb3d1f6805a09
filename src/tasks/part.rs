//! A device's part of a training step.

use burn::tensor::{Gradients, Tensor};

/// What one device gets of the joined batch of a training step.
#[derive(Clone, Debug)]
pub struct Part<B> {
    /// The examples.
    pub batch: B,
    /// How much of the joined batch they are.
    pub share: Share,
}

/// How much of a joined batch a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Examples of the part that count: none where the joined batch has fewer examples than there
    /// are devices, and the part holds one only so that its device has something to do.
    pub(crate) examples: usize,
    /// Examples of the joined batch.
    pub(crate) joined: usize,
    /// Parts of the joined batch.
    pub(crate) parts: usize,
}

impl Share {
    /// All of it: training on one device.
    pub const WHOLE: Self = Self { examples: 1, joined: 1, parts: 1 };

    /// Differentiates the mean loss of a part's examples, times its share: the gradients of all
    /// parts add up to those of the joined batch's mean loss.
    ///
    /// `loss` becomes what the log averages: its mean over the parts is the joined batch's loss.
    /// Both hold for a loss that is a mean over examples.
    pub fn backward(self, loss: &mut Tensor<1>) -> Gradients {
        if self.parts == 1 {
            return loss.clone().backward();
        }
        let shared = loss.clone().mul_scalar(self.examples as f64 / self.joined as f64);
        *loss = shared.clone().detach().mul_scalar(self.parts as f64);
        shared.backward()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// The mean of w x over examples, and its gradient: the mean of x.
    fn run(examples: &[f32], share: Share) -> (f32, f32) {
        let device = Device::default().autodiff();
        let w = Tensor::<1>::from_floats([3.0], &device).require_grad();
        let x = Tensor::<1>::from_floats(examples, &device);
        let mut loss = (w.clone() * x).mean();
        let gradients = share.backward(&mut loss);
        let gradient = w.grad(&gradients).expect("w is differentiated").into_scalar();
        (loss.into_scalar(), gradient)
    }

    #[test]
    fn parts_add_up_to_the_joined_batch() {
        let (loss, gradient) = run(&[1.0, 2.0, 4.0, 8.0, 16.0], Share::WHOLE);
        assert!((loss - 18.6).abs() < 1e-5 && (gradient - 6.2).abs() < 1e-6);

        let share = |examples| Share { examples, joined: 5, parts: 3 };
        let parts = [
            run(&[1.0, 2.0], share(2)),
            run(&[4.0, 8.0, 16.0], share(3)),
            // Only there to keep its device busy.
            run(&[1000.0], share(0)),
        ];
        let losses: f32 = parts.iter().map(|p| p.0).sum();
        let gradients: f32 = parts.iter().map(|p| p.1).sum();
        assert!((losses / 3.0 - loss).abs() < 1e-5, "{parts:?}");
        assert!((gradients - gradient).abs() < 1e-6, "{parts:?}");
    }
}
