//! Reading a model's parameters by path.

use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

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
