//! Loading published checkpoints into models of this crate.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::store::burn_pack::Tensor;
use burn::store::{
    ChainAdapter, FloatCastAdapter, KeyRemapper, ModuleSnapshot, ModuleStore, PyTorchToBurnAdapter,
    PytorchStore, SafetensorsStore,
};
use burn::tensor::DType;
use serde::Deserialize;
use thiserror::Error;

/// Why a published checkpoint could not be loaded.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// A file that cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A model configuration that is damaged or describes another kind of model.
    #[error("{path} does not describe a model that can be loaded: {reason}", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A weights file that is damaged or not in its format.
    #[error(
        "{path} is not a complete {format} file: {reason}; download or copy it again",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should be.
        format: &'static str,
        /// What the reader said.
        reason: String,
    },
    /// A weights file of an unknown kind.
    #[error(
        "{path} is of no known kind; weights are read from .safetensors files and from PyTorch's \
         .pt, .pth, .bin and .ckpt files",
        path = path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// Tensors that do not fit the model.
    #[error("{path} does not fit the model:\n  {}", problems.join("\n  "), path = path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// One line for each tensor that is missing, left over, or of another shape.
        problems: Vec<String>,
    },
}

/// How the tensors of a published file are called beside those of a module here.
pub struct Naming {
    /// Regular expressions and replacements, applied in turn to the file's tensor names to give
    /// paths in the module.
    pub names: Vec<(String, String)>,
    /// Whether the module does not need a tensor of that name (after `names`).
    pub unneeded: fn(&str) -> bool,
}

/// The last layer of a model with a published file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// That of the file, whose classes the model then has.
    Published,
    /// A new one, for other classes than those of the file.
    #[default]
    Fresh,
}

/// Keys under which PyTorch programs keep a model's weights beside other things.
const WEIGHT_KEYS: [&str; 4] = ["state_dict", "model_state_dict", "model_state", "model"];

/// What PyTorch puts before every name of a model that ran on several devices.
const PARALLEL: (&str, &str) = (r"^module\.", "");

/// Loads a safetensors file, or a PyTorch file that holds a state dictionary (alone, or beside
/// what else a training program saved), with PyTorch's layout of weights.
///
/// Floats of 16 bits are widened to 32. `fresh` is the path of a layer that keeps the weights that
/// it has, whatever the file says of it.
///
/// # Errors
///
/// If the file is missing, damaged, or of a kind that its name does not tell, and if a tensor of
/// the module is missing, has another shape, or a tensor of the file is left over.
///
/// # Panics
///
/// If a pattern of `naming` is no regular expression.
pub fn load_checkpoint<M: Module>(
    mut module: M,
    path: &Path,
    naming: &Naming,
    fresh: Option<&str>,
) -> Result<M, CheckpointError> {
    let is_fresh = |name: &str| fresh.is_some_and(|fresh| name.starts_with(&format!("{fresh}.")));
    let tensors = read_tensors(path, naming)?;
    let tensors = tensors.into_iter().filter(|tensor| !is_fresh(&tensor.name)).collect();
    let adapter = ChainAdapter::new(PyTorchToBurnAdapter, FloatCastAdapter::to(DType::F32));
    let result = module.apply(tensors, None, Some(Box::new(adapter)), true);

    let mut problems: Vec<String> = result.errors.iter().map(ToString::to_string).collect();
    // A published file knows nothing of the slots where activation quantizers attach.
    let missing = result
        .missing
        .iter()
        .filter(|(name, types)| !types.contains("ActivationQuantizer") && !is_fresh(name));
    problems.extend(missing.map(|(name, _)| format!("tensor `{name}` is missing from the file")));
    let unused = result.unused.iter().filter(|name| !(naming.unneeded)(name));
    problems.extend(
        unused.map(|name| format!("tensor `{name}` of the file has no place in the model")),
    );
    match problems.is_empty() {
        true => Ok(module),
        false => Err(CheckpointError::Mismatch { path: path.to_path_buf(), problems }),
    }
}

/// The tensors of a file, renamed.
fn read_tensors(path: &Path, naming: &Naming) -> Result<Vec<Tensor>, CheckpointError> {
    std::fs::metadata(path)
        .map_err(|source| CheckpointError::Read { path: path.to_path_buf(), source })?;
    let damaged = |format: &'static str, reason: String| CheckpointError::Damaged {
        path: path.to_path_buf(),
        format,
        reason,
    };
    let tensors = match path.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => {
            let mut store = SafetensorsStore::from_file(path);
            let tensors = store.get_all_tensors();
            let tensors = tensors.map_err(|error| damaged("safetensors", error.to_string()))?;
            tensors.values().cloned().collect()
        }
        Some("pt" | "pth" | "bin" | "ckpt") => {
            let mut store = PytorchStore::from_file(path).map_indices_contiguous(false);
            let tensors = store.get_all_tensors();
            let tensors = tensors.map_err(|error| damaged("PyTorch", error.to_string()))?;
            weights_of(tensors.values().cloned().collect())
        }
        _ => return Err(CheckpointError::Format { path: path.to_path_buf() }),
    };
    let parallel = (PARALLEL.0.to_string(), PARALLEL.1.to_string());
    let names = std::iter::once(&parallel).chain(&naming.names).cloned().collect();
    let remapper = KeyRemapper::from_patterns::<String, String>(names)
        .expect("names are told by regular expressions");
    Ok(remapper.remap(tensors).0)
}

/// The model's weights of what a PyTorch file holds.
fn weights_of(tensors: Vec<Tensor>) -> Vec<Tensor> {
    let under = |key: &str| {
        let prefix = format!("{key}.");
        tensors.iter().any(|tensor| tensor.name.starts_with(&prefix)).then_some(prefix)
    };
    let Some(prefix) = WEIGHT_KEYS.into_iter().find_map(under) else { return tensors };
    let inside = |mut tensor: Tensor| {
        tensor.name = tensor.name.strip_prefix(&prefix)?.to_string();
        Some(tensor)
    };
    tensors.into_iter().filter_map(inside).collect()
}
