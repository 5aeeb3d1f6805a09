//! Sentiment of movie-review sentences (SST-2 of GLUE), with a pretrained BERT.

use std::collections::HashSet;
use std::sync::Arc;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::pretrained::Pretrained;
use super::tokens::{ClassSource, Tokens};
use super::{ClassMetric, Classification, ClassificationTask, Source, TaskError};
use crate::config::Config;
use crate::data::catalog::Locations;
use crate::data::glue::{GlueSplit, Sentence, read_sst2};
use crate::data::hold_out::hold_out_groups;
use crate::data::report::Report;
use crate::models::bert::BertClassifier;

const CLASSES: usize = 2;

/// A pretrained BERT with a fresh head.
///
/// Evaluation splits: `dev`, and, where `held-out` whole sentences are asked for, before it
/// `held-out`: those sentences and every training row cut from them.
pub(super) fn bert(
    config: &Config,
    locations: &Locations,
) -> Result<ClassificationTask<BertClassifier>, TaskError> {
    let settings = &config.task.sst2;
    let pretrained =
        Pretrained::open(config, locations, settings.max_length, "task.sst2.max-length")?;
    let Pretrained { folder, tokenizer, pooling } = pretrained;

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

    let mut report = Report::default();
    let mut source = |sentences: Vec<&Sentence>| -> Result<Arc<dyn Source<_>>, TaskError> {
        let texts: Vec<_> = sentences.iter().map(|s| (s.text.as_str(), None)).collect();
        let (encoded, found) = tokenizer.encode_pairs(&texts)?;
        report.merge(found);
        let tokens = Tokens::new(encoded, tokenizer.pad_id());
        Ok(Arc::new(ClassSource { tokens, labels: sentences.iter().map(|s| s.label).collect() }))
    };
    let mut evaluation = vec![("dev", source(dev.iter().collect())?)];
    let mut pick = |indices: &[usize]| source(indices.iter().map(|&i| &sentences[i]).collect());
    if !held_out.is_empty() {
        evaluation.insert(0, ("held-out", pick(&held_out)?));
    }
    let train = pick(&train)?;
    Ok(ClassificationTask {
        name: "sst2",
        objective: Classification::new(ClassMetric::Accuracy),
        train,
        build: Box::new(move |device| {
            Ok(BertClassifier::from_published(&folder, CLASSES, pooling, device)?)
        }),
        evaluation,
        report,
    })
}
