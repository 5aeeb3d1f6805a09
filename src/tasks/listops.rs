//! ListOps: the value of a nested expression of list operations, one of ten digits.

use std::sync::Arc;

use super::tokens::{ClassSource, Tokens};
use super::{ClassMetric, Classification, ClassificationTask, TaskError};
use crate::config::Config;
use crate::data::listops::{CLASSES, ListOps, PAD, TokenExample, VOCABULARY};
use crate::data::report::Report;
use crate::models::bert::BertClassifier;

/// A small BERT, trained from scratch.
pub(super) fn bert(config: &Config) -> Result<ClassificationTask<BertClassifier>, TaskError> {
    let data = ListOps::generate(&config.task.listops, config.train.seed)?;
    let mut model = config.model.bert.clone();
    if model.vocab_size == 0 {
        model.vocab_size = VOCABULARY.len();
    }
    if model.vocab_size < VOCABULARY.len() {
        return Err(TaskError::Config {
            key: "model.bert.vocab-size",
            message: format!("is {}; ListOps has {} tokens", model.vocab_size, VOCABULARY.len()),
        });
    }
    let examples = data.train.iter().chain(&data.valid);
    let longest = examples.map(|e| e.tokens.len()).max().unwrap_or(0);
    if longest > model.max_position_embeddings {
        return Err(TaskError::Config {
            key: "model.bert.max-position-embeddings",
            message: format!(
                "is {}; the longest expression has {longest} tokens",
                model.max_position_embeddings
            ),
        });
    }
    let source = |examples: Vec<TokenExample>| {
        let labels = examples.iter().map(|example| example.label).collect();
        let tokens = Tokens::single(examples.into_iter().map(|example| example.tokens), PAD);
        Arc::new(ClassSource { tokens, labels })
    };
    Ok(ClassificationTask {
        name: "listops",
        objective: Classification::new(ClassMetric::Accuracy),
        build: Box::new(move |device| Ok(model.init_classifier(CLASSES, device))),
        train: source(data.train),
        evaluation: vec![("valid", source(data.valid))],
        report: Report::default(),
    })
}
