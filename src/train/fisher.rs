//! The diagonal of the empirical Fisher information.

use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::train::TrainStep;

use crate::data::DataError;
use crate::quant::parameters;
use crate::tasks::{Part, Share, Task};

/// The mean over batches of the squared gradient of the loss with respect to every parameter of
/// rank 2 or more, by path, in row-major order.
///
/// A batch's gradient is a mean over its examples. Near a minimum the examples' gradients are
/// independent with mean 0, so that the square of their mean is the mean of their squares over their
/// number: `size` of a batch makes up for that. Where a loss is a mean over more than examples, such as
/// words, all figures are too small by one and the same factor.
///
/// Batch normalization counts with its running statistics, as in the deployed model: those of a batch
/// would undo much of what quantization does to a channel. Dropout drops, as it does in training.
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
    // Without any, and where quantizers are attached already, the model is taken as it is.
    let folded = task.fold_batch_norm(network.clone()).ok();
    let learner = task.learner(folded.as_ref().unwrap_or(network).clone().train());
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
    if let Some(folded) = &folded {
        let [own, folded] =
            [network, folded].map(|model| parameters(model, |path| sums.contains_key(path)));
        for (path, sums) in &mut sums {
            for ((sum, own), folded) in sums.iter_mut().zip(&own[path]).zip(&folded[path]) {
                // What a weight moves by, the folded one moves by in proportion.
                let scale = if own == folded { 1.0 } else { folded / own };
                *sum *= scale * scale;
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::data::catalog::Locations;
    use crate::quant::change_parameters;
    use crate::tasks::{TaskVisitor, with_task};
    use burn::tensor::Device;
    use std::path::Path;

    const SIZE: usize = 8;
    const CONFIG: &str = r#"
[task]
name = "word-chain"

[task.text]
length = 6
context = 0

[model]
arch = "lstm-language-model"

[model.lstm-language-model]
hidden-size = 6
layers = 1
dropout = 0.0

[train]
batch-size = 8
epochs = 0
optimizer = { name = "sgd", learning-rate = 0.1 }
"#;

    /// Compares the largest elements of each parameter with squared slopes of the loss, which a
    /// language model's evaluation gives: the logarithm of its perplexity.
    struct Compare;

    impl TaskVisitor for Compare {
        type Output = usize;

        fn visit<T: Task>(self, task: T) -> usize {
            let device = Device::default();
            device.seed(5);
            let network = task.network(&device).unwrap();
            let source = task.train_source();
            let batch = |start: usize| {
                let indices: Vec<usize> = (start..start + SIZE).collect();
                source.batch(&indices, &device)
            };
            let starts = [0, 40, 80];
            let found = fisher(&task, &network, starts.into_iter().map(batch), SIZE).unwrap();
            let loss = |network: &T::Network, start| {
                let score = task.evaluate(network, &mut std::iter::once(batch(start))).unwrap();
                score.measures[0].value.ln()
            };
            let stored = parameters(&network, |path| found.contains_key(path));
            for (path, fisher) in &found {
                let mut order: Vec<usize> = (0..fisher.len()).collect();
                order.sort_by(|&a, &b| fisher[b].total_cmp(&fisher[a]));
                for &element in order.iter().take(4) {
                    let moved = |by: f32| {
                        let mut values = stored[path].clone();
                        values[element] += by;
                        change_parameters(network.clone(), HashMap::from([(path.clone(), values)]))
                    };
                    let step = 0.02f32;
                    let (above, below) = (moved(step), moved(-step));
                    let slope = |start| {
                        (loss(&above, start) - loss(&below, start)) / (2.0 * f64::from(step))
                    };
                    let squares: f64 = starts.iter().map(|&start| slope(start).powi(2)).sum();
                    let expected = SIZE as f64 * squares / starts.len() as f64;
                    let found = f64::from(fisher[element]);
                    assert!(
                        (found - expected).abs() <= 0.02 * expected,
                        "{path}[{element}]: {found} is not {expected}"
                    );
                }
            }
            found.len()
        }
    }

    /// Compares a model that has batch normalization with what it is deployed as.
    struct Fold;

    impl TaskVisitor for Fold {
        type Output = ();

        fn visit<T: Task>(self, task: T) {
            let device = Device::default();
            device.seed(6);
            let network = task.network(&device).unwrap();
            // Other statistics than those of the batches.
            let statistics = ["running_mean", "running_var"].map(|name| {
                let mut values = parameters(&network, |path| path.ends_with(name));
                values.values_mut().flatten().for_each(|value| *value = 0.3 * *value - 0.1);
                values
            });
            let network = statistics.into_iter().fold(network, change_parameters);
            let folded = task.fold_batch_norm(network.clone()).unwrap();
            let source = task.train_source();
            let of = |network: &T::Network| {
                let batch = source.batch(&[0, 1, 2, 3], &device);
                fisher(&task, network, std::iter::once(batch), 4).unwrap()
            };
            let (found, deployed) = (of(&network), of(&folded));
            let [own, new] = [&network, &folded].map(|model| parameters(model, |_| true));
            assert!(found.values().flatten().any(|&value| value > 0.0));
            for (path, values) in &found {
                for (i, &value) in values.iter().enumerate() {
                    let scale = if own[path][i] == 0.0 { 1.0 } else { new[path][i] / own[path][i] };
                    let expected = deployed[path][i] * scale * scale;
                    assert!((value - expected).abs() <= 1e-5 * expected, "{path}[{i}]");
                }
            }
        }
    }

    #[test]
    fn normalization_counts_as_it_is_deployed() {
        let text = CONFIG.replace("word-chain", "digits").replace("lstm-language-model", "resnet");
        let from = text.find("[task.text]").unwrap();
        let to = text.find("[train]").unwrap();
        let model = "[model]\narch = \"resnet\"\nresnet = { depth = 8, width = 4 }\n";
        let text = [&text[..from], model, &text[to..]].concat();
        let config = Config::parse(&text, Path::new("test.toml"), &[]).unwrap();
        with_task(&config, &Locations::from_env(None), Fold).unwrap();
    }

    #[test]
    fn elements_are_squared_slopes_of_the_loss() {
        let config = Config::parse(CONFIG, Path::new("test.toml"), &[]).unwrap();
        let compared = with_task(&config, &Locations::from_env(None), Compare).unwrap();
        assert!(compared >= 3, "{compared}");
    }
}
