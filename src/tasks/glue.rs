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
use crate::data::{DataError, Split};
use crate::models::bert::{BertClassifier, BertRegressor};

/// All parts of a task as tokens.
struct Encoded {
    pretrained: Pretrained,
    train: (Tokens, Vec<Target>),
    /// What is measured, by name; the first is what training watches.
    evaluation: Vec<(&'static str, (Tokens, Vec<Target>))>,
    report: Report,
}

fn encode(task: GlueTask, config: &Config, locations: &Locations) -> Result<Encoded, TaskError> {
    let settings = &config.task.glue;
    let pretrained =
        Pretrained::open(config, locations, settings.max_length, "task.glue.max-length")?;
    let seed = config.train.seed;
    let mut train = read_glue(task, GlueSplit::Train, locations)?;
    let mut evaluation = vec![("dev", read_glue(task, GlueSplit::Dev, locations)?)];
    if let Some(fraction) = settings.valid_fraction {
        let (rest, held_out) = hold_out(train, fraction, seed)?;
        train = rest;
        evaluation.insert(0, ("valid", held_out));
    }
    if let Some(count) = settings.train_examples {
        train.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        train.truncate(count);
    }
    let mut report = Report::default();
    let mut part = |examples: Vec<GlueExample>| -> Result<_, TaskError> {
        let texts: Vec<_> = examples.iter().map(|e| (e.text.as_str(), e.pair.as_deref())).collect();
        let (encoded, found) = pretrained.tokenizer.encode_pairs(&texts)?;
        report.merge(found);
        let targets = examples.iter().map(|example| example.target).collect();
        Ok((Tokens::new(encoded, pretrained.tokenizer.pad_id()), targets))
    };
    let train = part(train)?;
    let evaluation = evaluation
        .into_iter()
        .map(|(name, examples)| Ok((name, part(examples)?)))
        .collect::<Result<_, TaskError>>()?;
    Ok(Encoded { pretrained, train, evaluation, report })
}

/// Draws a part of the examples of every class, or of every score when rounded: what is left, and it.
fn hold_out(
    examples: Vec<GlueExample>,
    fraction: f64,
    seed: u64,
) -> Result<(Vec<GlueExample>, Vec<GlueExample>), DataError> {
    let class = |example: &GlueExample| match example.target {
        Target::Class(label) => label,
        Target::Score(score) => score.round() as u32,
    };
    let classes: Vec<u32> = examples.iter().map(class).collect();
    let split = Split::stratified(&classes, fraction, seed)?;
    let mut examples: Vec<_> = examples.into_iter().map(Some).collect();
    let mut take =
        |rows: Vec<usize>| rows.into_iter().filter_map(|row| examples[row].take()).collect();
    Ok((take(split.train), take(split.held_out)))
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
    let Encoded { pretrained, train, evaluation, report } = encode(task, config, locations)?;
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
            let Pretrained { folder, pooling, .. } = &pretrained;
            Ok(BertClassifier::from_published(folder, task.classes(), *pooling, device)?)
        }),
        train: source(train),
        evaluation: evaluation.into_iter().map(|(name, part)| (name, source(part) as _)).collect(),
        report,
    })
}

/// STS-B: how similar two sentences are, from 0 to 5.
pub(super) fn similarity(
    config: &Config,
    locations: &Locations,
) -> Result<SupervisedTask<Regression>, TaskError> {
    let Encoded { pretrained, train, evaluation, report } =
        encode(GlueTask::Stsb, config, locations)?;
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
            let Pretrained { folder, pooling, .. } = &pretrained;
            Ok(BertRegressor::from_published(folder, *pooling, device)?)
        }),
        train: source(train),
        evaluation: evaluation.into_iter().map(|(name, part)| (name, source(part) as _)).collect(),
        report,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_out_has_the_proportions_of_the_whole_and_is_not_trained_on() {
        let example =
            |(index, target)| GlueExample { text: format!("{index}"), pair: None, target };
        let examples =
            |targets: Vec<Target>| targets.into_iter().enumerate().map(example).collect();
        let classes = (0..90).map(|i| Target::Class(u32::from(i % 3 == 0))).collect();
        let scores = (0..90).map(|i| Target::Score(if i % 3 == 0 { 4.8 } else { 0.2 })).collect();
        for targets in [classes, scores] {
            let whole: Vec<GlueExample> = examples(targets);
            let (train, held_out) = hold_out(whole.clone(), 0.2, 7).unwrap();
            assert_eq!((train.len(), held_out.len()), (72, 18));
            let high = |target| matches!(target, Target::Class(1) | Target::Score(4.8));
            assert_eq!(held_out.iter().filter(|e| high(e.target)).count(), 6);
            assert!(whole.iter().all(|e| train.contains(e) != held_out.contains(e)));
            assert_eq!(hold_out(whole, 0.2, 7).unwrap().1, held_out);
        }
    }
}
