//! Sentence understanding (GLUE), with a pretrained BERT: CoLA, MRPC, RTE, STS-B.

use std::sync::Arc;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::pretrained::Pretrained;
use super::regression::Regression;
use super::tokens::{ClassSource, ScoreSource, Tokens};
use super::{ClassMetric, Classification, ClassificationTask, SupervisedTask, TaskError};
use crate::config::{Config, TaskName};
use crate::data::catalog::Locations;
use crate::data::glue::{GlueExample, GlueSplit, GlueTask, Target, read_glue};
use crate::data::report::Report;
use crate::models::bert::{BertClassifier, BertRegressor};

/// Both parts of a task as tokens.
struct Encoded {
    pretrained: Pretrained,
    train: (Tokens, Vec<Target>),
    dev: (Tokens, Vec<Target>),
    report: Report,
}

fn encode(task: GlueTask, config: &Config, locations: &Locations) -> Result<Encoded, TaskError> {
    let settings = &config.task.glue;
    let pretrained =
        Pretrained::open(config, locations, settings.max_length, "task.glue.max-length")?;
    let mut train = read_glue(task, GlueSplit::Train, locations)?;
    if let Some(count) = settings.train_examples {
        train.shuffle(&mut ChaCha8Rng::seed_from_u64(config.train.seed));
        train.truncate(count);
    }
    let dev = read_glue(task, GlueSplit::Dev, locations)?;
    let mut report = Report::default();
    let mut part = |examples: Vec<GlueExample>| -> Result<_, TaskError> {
        let texts: Vec<_> = examples.iter().map(|e| (e.text.as_str(), e.pair.as_deref())).collect();
        let (encoded, found) = pretrained.tokenizer.encode_pairs(&texts)?;
        report.merge(found);
        let targets = examples.iter().map(|example| example.target).collect();
        Ok((Tokens::new(encoded, pretrained.tokenizer.pad_id()), targets))
    };
    let (train, dev) = (part(train)?, part(dev)?);
    Ok(Encoded { pretrained, train, dev, report })
}

/// CoLA (Matthews correlation), MRPC (F1) or RTE (accuracy), with a fresh head.
pub(super) fn classification(
    config: &Config,
    locations: &Locations,
) -> Result<ClassificationTask<BertClassifier>, TaskError> {
    let (name, task, metric) = match config.task.name {
        TaskName::Cola => ("cola", GlueTask::Cola, ClassMetric::Matthews),
        TaskName::Mrpc => ("mrpc", GlueTask::Mrpc, ClassMetric::F1),
        _ => ("rte", GlueTask::Rte, ClassMetric::Accuracy),
    };
    let Encoded { pretrained, train, dev, report } = encode(task, config, locations)?;
    let source = |(tokens, targets): (Tokens, Vec<Target>)| {
        let label = |target| match target {
            Target::Class(label) => label,
            Target::Score(_) => unreachable!("a task with classes"),
        };
        Arc::new(ClassSource { tokens, labels: targets.into_iter().map(label).collect() })
    };
    Ok(ClassificationTask {
        name,
        objective: Classification::new(metric),
        build: Box::new(move |device| {
            Ok(BertClassifier::from_published(&pretrained.folder, task.classes(), device)?)
        }),
        train: source(train),
        evaluation: vec![("dev", source(dev))],
        report,
    })
}

/// STS-B: how similar two sentences are, from 0 to 5.
pub(super) fn similarity(
    config: &Config,
    locations: &Locations,
) -> Result<SupervisedTask<Regression>, TaskError> {
    let Encoded { pretrained, train, dev, report } = encode(GlueTask::Stsb, config, locations)?;
    let source = |(tokens, targets): (Tokens, Vec<Target>)| {
        let score = |target| match target {
            Target::Score(score) => score,
            Target::Class(_) => unreachable!("a task with scores"),
        };
        Arc::new(ScoreSource { tokens, scores: targets.into_iter().map(score).collect() })
    };
    Ok(SupervisedTask {
        name: "stsb",
        objective: Regression,
        build: Box::new(move |device| {
            Ok(BertRegressor::from_published(&pretrained.folder, device)?)
        }),
        train: source(train),
        evaluation: vec![("dev", source(dev))],
        report,
    })
}
