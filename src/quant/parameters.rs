//! Reading and changing a model's parameters by path.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

/// The stored values of the float parameters whose path is wanted, in row-major order.
pub(crate) fn parameters<M: Module>(
    model: &M,
    wanted: impl Fn(&str) -> bool,
) -> HashMap<String, Vec<f32>> {
    let mut reader = Reader { wanted, path: Vec::new(), found: HashMap::new() };
    model.visit(&mut reader);
    reader.found
}

struct Reader<W> {
    wanted: W,
    path: Vec<String>,
    found: HashMap<String, Vec<f32>>,
}

impl<W: Fn(&str) -> bool> ModuleVisitor for Reader<W> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        if (self.wanted)(&path) {
            let data = param.base().into_data().convert::<f32>();
            self.found.insert(path, data.try_to_vec().expect("data converted to f32"));
        }
    }
}

/// How many numbers training may change: weights and biases, without the running statistics of batch normalization and
/// what belongs to quantizers.
pub fn parameter_count<M: Module>(model: &M) -> usize {
    let mut counter = Counter::default();
    model.visit(&mut counter);
    counter.count
}

#[derive(Default)]
struct Counter {
    /// Of each field on the way, whether what lies in it is left out.
    left_out: Vec<bool>,
    count: usize,
}

impl ModuleVisitor for Counter {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        let of_quantizer = ["Enum:ActivationQuantizer", "Reparameterization"];
        self.left_out.push(RUNNING.contains(&name) || of_quantizer.contains(&container_type));
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.left_out.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !self.left_out.contains(&true) {
            self.count += param.lazy_shape().num_elements();
        }
    }
}

/// The running statistics of batch normalization.
const RUNNING: [&str; 2] = ["running_mean", "running_var"];

/// The model with other values of the float parameters and running statistics that `values` has, by path, in row-major order. What trains, what it is called and where it lies stay.
pub(crate) fn change_parameters<M: Module>(model: M, values: HashMap<String, Vec<f32>>) -> M {
    model.map(&mut Writer { values, path: Vec::new() })
}

struct Writer {
    values: HashMap<String, Vec<f32>>,
    path: Vec<String>,
}

impl ModuleMapper for Writer {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(values) = self.values.remove(&self.path.join(".")) else { return param };
        param.map(|tensor| {
            let data = TensorData::new(values, tensor.shape());
            let changed = Tensor::from_data(data, &tensor.device());
            match tensor.is_require_grad() {
                true => changed.require_grad(),
                false => changed,
            }
        })
    }
}
