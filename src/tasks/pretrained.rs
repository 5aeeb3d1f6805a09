//! A published BERT folder: where it is, its configuration and its tokenizer.

use std::path::{Path, PathBuf};

use super::TaskError;
use crate::config::Config;
use crate::data::DataError;
use crate::data::catalog::Locations;
use crate::data::tokenizer::Tokenizer;
use crate::models::bert::{BertConfig, Pooling};

/// A published BERT folder that is known to be there and to fit together.
pub(super) struct Pretrained {
    pub(super) folder: PathBuf,
    pub(super) tokenizer: Tokenizer,
    pub(super) pooling: Pooling,
}

impl Pretrained {
    /// Opens the folder that the configuration names; `key` is where it sets `max_length`.
    pub(super) fn open(
        config: &Config,
        locations: &Locations,
        max_length: usize,
        key: &'static str,
    ) -> Result<Self, TaskError> {
        let name = config.model.pretrained.as_deref().expect("checked when it was read");
        let folder = find(name, Path::is_dir, locations)?;
        let model = BertConfig::from_published(&folder)?;
        let longest = model.max_position_embeddings;
        if max_length > longest {
            let message = format!("is {max_length}; the model has {longest} positions");
            return Err(TaskError::Config { key, message });
        }
        let path = folder.join("tokenizer.json");
        let tokenizer = Tokenizer::from_file(&path, max_length)?;
        if tokenizer.vocabulary_size() > model.vocab_size {
            let reason = format!(
                "has {} tokens, but the model beside it embeds {}: the two do not belong together",
                tokenizer.vocabulary_size(),
                model.vocab_size
            );
            return Err(TaskError::Data(DataError::Tokenizer { path, reason }));
        }
        Ok(Self { folder, tokenizer, pooling: config.model.bert.pooling })
    }
}

/// What is wanted at the path itself; or of that name under `AUSN_PRETRAINED_DIR`, in the data
/// folder, or in a folder `pretrained` beside it.
pub(super) fn find(
    name: &Path,
    wanted: fn(&Path) -> bool,
    locations: &Locations,
) -> Result<PathBuf, TaskError> {
    let mut looked = vec![name.to_path_buf()];
    looked.extend(std::env::var_os("AUSN_PRETRAINED_DIR").map(|dir| Path::new(&dir).join(name)));
    if let Some(data) = &locations.data_dir {
        looked.push(data.join("pretrained").join(name));
        looked.push(data.join("..").join("pretrained").join(name));
    }
    match looked.iter().find(|path| wanted(path)) {
        Some(path) => Ok(path.clone()),
        None => Err(TaskError::PretrainedNotFound { name: name.display().to_string(), looked }),
    }
}
