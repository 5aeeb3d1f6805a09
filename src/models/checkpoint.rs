//! Loading published checkpoints into models of this crate.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::store::{
    ChainAdapter, FloatCastAdapter, ModuleSnapshot, PyTorchToBurnAdapter, SafetensorsStore,
};
use burn::tensor::DType;
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
        "{path} is not a complete safetensors file: {reason}; download or copy it again",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
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

/// Loads a safetensors file with PyTorch's layout of weights.
///
/// `names` are regular expressions and replacements, applied in turn to the file's tensor names to
/// give paths in the module; `buffers` are names (after that) that the module does not need.
/// 16-bit floats are widened to 32.
///
/// # Errors
///
/// If the file is missing or damaged, and if a tensor of the module is missing, has another
/// shape, or a tensor of the file is left over.
pub fn load_safetensors<M: Module>(
    mut module: M,
    path: &Path,
    names: &[(&str, &str)],
    buffers: &[&str],
) -> Result<M, CheckpointError> {
    std::fs::metadata(path)
        .map_err(|source| CheckpointError::Read { path: path.to_path_buf(), source })?;
    let mut store = SafetensorsStore::from_file(path)
        .with_from_adapter(ChainAdapter::new(
            PyTorchToBurnAdapter,
            FloatCastAdapter::to(DType::F32),
        ))
        .skip_enum_variants(true)
        .allow_partial(true)
        .validate(false);
    for (from, to) in names {
        store = store.with_key_remapping(*from, *to);
    }
    let result = module.load_from(&mut store).map_err(|error| CheckpointError::Damaged {
        path: path.to_path_buf(),
        reason: error.to_string(),
    })?;

    let mut problems: Vec<String> = result.errors.iter().map(ToString::to_string).collect();
    // A published file knows nothing of the slots where activation quantizers attach.
    let missing = result.missing.iter().filter(|(_, types)| !types.contains("ActivationQuantizer"));
    problems.extend(missing.map(|(name, _)| format!("tensor `{name}` is missing from the file")));
    let unused = result.unused.iter().filter(|name| !buffers.contains(&name.as_str()));
    problems.extend(
        unused.map(|name| format!("tensor `{name}` of the file has no place in the model")),
    );
    match problems.is_empty() {
        true => Ok(module),
        false => Err(CheckpointError::Mismatch { path: path.to_path_buf(), problems }),
    }
}
