//! What several test files share.

#![allow(dead_code)] // each test file uses some of it

use std::path::PathBuf;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

/// A pretrained folder: in `AUSN_PRETRAINED_DIR`, or in `pretrained` beside `AUSN_DATA_DIR`.
/// Without it the test that asks says that it is skipped.
pub fn pretrained(name: &str) -> Option<PathBuf> {
    let own = std::env::var_os("AUSN_PRETRAINED_DIR").map(PathBuf::from);
    let beside = std::env::var_os("AUSN_DATA_DIR").map(|d| PathBuf::from(d).join("../pretrained"));
    let found = own.into_iter().chain(beside).map(|dir| dir.join(name)).find(|dir| dir.is_dir());
    if found.is_none() {
        eprintln!("skipped: no pretrained folder {name} (set AUSN_PRETRAINED_DIR)");
    }
    found
}

/// The data folder that `AUSN_DATA_DIR` names, where it holds `name`. Without it the test that
/// asks says that it is skipped.
pub fn data_dir(name: &str) -> Option<PathBuf> {
    let found =
        std::env::var_os("AUSN_DATA_DIR").map(PathBuf::from).filter(|dir| dir.join(name).exists());
    if found.is_none() {
        eprintln!("skipped: no data set {name} (set AUSN_DATA_DIR)");
    }
    // Tests may run in another folder than the one that a relative path is meant from.
    found.map(|dir| std::fs::canonicalize(dir).expect("an existing folder has a full path"))
}

/// The gradient of the parameter at a path.
pub fn gradient<M: Module>(model: &M, path: &str, grads: &Gradients) -> Vec<f32> {
    struct Finder<'a> {
        wanted: &'a str,
        path: Vec<String>,
        grads: &'a Gradients,
        found: Option<Vec<f32>>,
    }
    impl ModuleVisitor for Finder<'_> {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.to_string());
        }

        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.path.join(".") == self.wanted {
                let gradient = param.base().grad(self.grads).expect("the parameter has a gradient");
                self.found = Some(gradient.into_data().try_to_vec().unwrap());
            }
        }
    }
    let mut finder = Finder { wanted: path, path: Vec::new(), grads, found: None };
    model.visit(&mut finder);
    finder.found.unwrap_or_else(|| panic!("the model has no parameter {path}"))
}
