//! Sentiment of movie-review sentences (SST-2 of GLUE), with a pretrained BERT.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::tokens::TokenSource;
use super::{ClassMetric, Classification, ClassificationTask, TaskError};
use crate::config::Config;
use crate::data::DataError;
use crate::data::catalog::Locations;
use crate::data::glue::{GlueSplit, Sentence, read_sst2};
use crate::data::hold_out::hold_out_groups;
use crate::data::listops::TokenExample;
use crate::data::tokenizer::Tokenizer;
use crate::models::bert::{BertClassifier, BertConfig};

const CLASSES: usize = 2;

/// A pretrained BERT with a fresh head.
///
/// Evaluation splits: `dev`, and, where `held-out` whole sentences are asked for, `held-out`:
/// those sentences and every training row cut from them.
pub(super) fn bert(
    config: &Config,
    locations: &Locations,
) -> Result<ClassificationTask<BertClassifier>, TaskError> {
    let name = config.model.pretrained.as_deref().expect("checked when the configuration was read");
    let folder = find_pretrained(name, locations)?;
    let settings = &config.task.sst2;
    let model = BertConfig::from_published(&folder)?;
    let longest = model.max_position_embeddings;
    if settings.max_length > longest {
        return Err(TaskError::Config {
            key: "task.sst2.max-length",
            message: format!("is {}; the model has {longest} positions", settings.max_length),
        });
    }
    let path = folder.join("tokenizer.json");
    let tokenizer = Tokenizer::from_file(&path, settings.max_length)?;
    if tokenizer.vocabulary_size() > model.vocab_size {
        let reason = format!(
            "has {} tokens, but the model beside it embeds {}: the two do not belong together",
            tokenizer.vocabulary_size(),
            model.vocab_size
        );
        return Err(TaskError::Data(DataError::Tokenizer { path, reason }));
    }

    let sentences = read_sst2(GlueSplit::Train, locations)?;
    let dev = read_sst2(GlueSplit::Dev, locations)?;
    let seed = config.train.seed;
    let mut train: Vec<usize> = (0..sentences.len()).collect();
    let mut held_out = Vec::new();
    if settings.held_out > 0 {
        train = hold_out_groups(&sentences, settings.held_out, seed)?.train;
        let kept: HashSet<usize> = train.iter().copied().collect();
        held_out = (0..sentences.len()).filter(|i| !kept.contains(i)).collect();
    }
    if let Some(count) = settings.train_examples {
        train.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        train.truncate(count);
    }

    let source = |sentences: Vec<&Sentence>| -> Result<Arc<TokenSource>, TaskError> {
        let texts: Vec<&str> = sentences.iter().map(|s| s.text.as_str()).collect();
        let tokens = tokenizer.encode_batch(&texts)?;
        let example = |(tokens, s): (Vec<u32>, &&Sentence)| TokenExample { tokens, label: s.label };
        let examples = tokens.into_iter().zip(&sentences).map(example).collect();
        Ok(Arc::new(TokenSource { examples, pad: tokenizer.pad_id() }))
    };
    let pick = |indices: &[usize]| source(indices.iter().map(|&i| &sentences[i]).collect());
    let mut evaluation: Vec<(&'static str, Arc<_>)> = vec![("dev", source(dev.iter().collect())?)];
    if !held_out.is_empty() {
        evaluation.push(("held-out", pick(&held_out)?));
    }
    Ok(ClassificationTask {
        name: "sst2",
        objective: Classification::new(ClassMetric::Accuracy),
        train: pick(&train)?,
        build: Box::new(move |device| {
            Ok(BertClassifier::from_published(&folder, CLASSES, device)?)
        }),
        evaluation: evaluation.into_iter().map(|(name, source)| (name, source as _)).collect(),
    })
}

/// The folder itself; or one of that name under `AUSN_PRETRAINED_DIR`, in the data folder, or in
/// a folder `pretrained` beside it.
fn find_pretrained(name: &Path, locations: &Locations) -> Result<PathBuf, TaskError> {
    let mut looked = vec![name.to_path_buf()];
    looked.extend(std::env::var_os("AUSN_PRETRAINED_DIR").map(|dir| Path::new(&dir).join(name)));
    if let Some(data) = &locations.data_dir {
        looked.push(data.join("pretrained").join(name));
        looked.push(data.join("..").join("pretrained").join(name));
    }
    match looked.iter().find(|folder| folder.is_dir()) {
        Some(folder) => Ok(folder.clone()),
        None => Err(TaskError::PretrainedNotFound { name: name.display().to_string(), looked }),
    }
}
