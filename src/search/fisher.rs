//! The diagonal of the empirical Fisher information.

use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::train::TrainStep;

use crate::data::DataError;
use crate::tasks::{Part, Share, Task};

/// The mean over batches of the squared gradient of the loss with respect to every parameter of
/// rank 2 or more, by path, in row-major order.
///
/// A batch's gradient is a mean over its examples. Near a minimum the examples' gradients are
/// independent with mean 0, so that the square of their mean is the mean of their squares over their
/// number: `size` of a batch makes up for that.
///
/// # Errors
///
/// Those of the batches.
pub fn fisher<T: Task>(
    task: &T,
    network: &T::Network,
    batches: impl Iterator<Item = Result<T::Batch, DataError>>,
    size: usize,
) -> Result<HashMap<String, Vec<f32>>, DataError> {
    let learner = task.learner(network.clone().train());
    let mut sums: HashMap<String, Vec<f32>> = HashMap::new();
    let mut count = 0usize;
    for batch in batches {
        let output = TrainStep::step(&learner, Part { batch: batch?, share: Share::WHOLE });
        let mut squares = Squares { gradients: output.grads, path: Vec::new(), sums: &mut sums };
        task.network_of(learner.clone()).visit(&mut squares);
        count += 1;
    }
    let factor = size as f32 / count.max(1) as f32;
    sums.values_mut().flatten().for_each(|sum| *sum *= factor);
    Ok(sums)
}

struct Squares<'a> {
    gradients: GradientsParams,
    path: Vec<String>,
    sums: &'a mut HashMap<String, Vec<f32>>,
}

impl ModuleVisitor for Squares<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if D < 2 {
            return;
        }
        let Some(gradient) = self.gradients.get::<D>(param.id) else { return };
        let data = gradient.into_data().convert::<f32>();
        let values: Vec<f32> = data.try_to_vec().expect("data converted to f32");
        let sums = self.sums.entry(self.path.join(".")).or_default();
        sums.resize(values.len(), 0.0);
        sums.iter_mut().zip(&values).for_each(|(sum, g)| *sum += g * g);
    }
}
