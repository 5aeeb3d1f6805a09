use super::MetricError;
use super::f1::Matches;

const NAME: &str = "slot F1";

/// Precision, recall and F1 of tagged entities (slots, names), from 0 to 1, over all types together (micro average).
///
/// A predicted entity is right if there is a true one of the same type with the same first and last token. Entities are
/// read off the tags of a sentence as seqeval does by default, which is how the CoNLL-2000 script `conlleval` does it.
/// Tags are `O`, `B-type` and `I-type`. An entity starts at
///
/// - each `B-`,
/// - an `I-` after `O` or at the start of the sentence,
/// - an `I-` of another type than the tag before it,
///
/// and goes on through the `I-` of its type that follow. So a prediction that is no valid IOB2 still has entities. The
/// strict mode of seqeval, in which those do not count, is another figure.
///
/// `B` and `I` without a type are of the type `_`. Where a denominator is 0 the figure is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotF1 {
    matches: Matches,
    sentences: u64,
}

impl SlotF1 {
    /// Starts without sentences.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a sentence: the predicted and the true tag of each token.
    ///
    /// # Errors
    ///
    /// Different numbers of tags, and tags that are not IOB2 (seqeval warns of these and counts them somehow).
    pub fn add(
        &mut self,
        predicted: &[impl AsRef<str>],
        truth: &[impl AsRef<str>],
    ) -> Result<(), MetricError> {
        if predicted.len() != truth.len() {
            return Err(MetricError::TagCount { predicted: predicted.len(), truth: truth.len() });
        }
        let predicted = entities(predicted, "predicted")?;
        let truth = entities(truth, "true")?;
        // Both lists are in the order of first tokens, and no two entities of a list share one.
        let found = |entity: &&Entity| {
            truth
                .binary_search_by_key(&entity.first, |e| e.first)
                .is_ok_and(|i| truth[i] == **entity)
        };
        self.matches.correct += predicted.iter().filter(found).count() as u64;
        self.matches.predicted += predicted.len() as u64;
        self.matches.truth += truth.len() as u64;
        self.sentences += 1;
        Ok(())
    }

    /// Adds what another accumulator has seen.
    pub fn merge(&mut self, other: &Self) {
        self.matches.merge(&other.matches);
        self.sentences += other.sentences;
    }

    /// The part of the predicted entities that are right.
    ///
    /// # Errors
    ///
    /// If no sentence was added.
    pub fn precision(&self) -> Result<f64, MetricError> {
        self.matches().map(Matches::precision)
    }

    /// The part of the true entities that were predicted.
    ///
    /// # Errors
    ///
    /// If no sentence was added.
    pub fn recall(&self) -> Result<f64, MetricError> {
        self.matches().map(Matches::recall)
    }

    /// F1, the harmonic mean of precision and recall.
    ///
    /// # Errors
    ///
    /// If no sentence was added.
    pub fn value(&self) -> Result<f64, MetricError> {
        self.matches().map(Matches::f1)
    }

    fn matches(&self) -> Result<&Matches, MetricError> {
        if self.sentences == 0 {
            return Err(MetricError::NoExamples { metric: NAME, examples: "sentence" });
        }
        Ok(&self.matches)
    }
}

/// Tokens `first..end` of a sentence.
#[derive(Debug, PartialEq, Eq)]
struct Entity<'a> {
    kind: &'a str,
    first: usize,
    end: usize,
}

fn entities<'a>(
    tags: &'a [impl AsRef<str>],
    side: &'static str,
) -> Result<Vec<Entity<'a>>, MetricError> {
    let mut entities: Vec<Entity> = Vec::new();
    for (index, tag) in tags.iter().enumerate() {
        let tag = tag.as_ref();
        let (begins, kind) = match tag.split_once('-').unwrap_or((tag, "")) {
            _ if tag == "O" => continue,
            ("B", kind) => (true, kind),
            ("I", kind) => (false, kind),
            _ => {
                return Err(MetricError::Tag { tag: tag.to_owned(), position: index + 1, side });
            }
        };
        let kind = if kind.is_empty() { "_" } else { kind };
        match entities.last_mut() {
            Some(open) if open.end == index && !begins && open.kind == kind => open.end += 1,
            _ => entities.push(Entity { kind, first: index, end: index + 1 }),
        }
    }
    Ok(entities)
}

#[cfg(test)]
mod tests {
    use super::super::{assert_close, fixture};
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        truth: Vec<Vec<String>>,
        predicted: Vec<Vec<String>>,
        precision: f64,
        recall: f64,
        f1: f64,
    }

    #[test]
    fn agrees_with_seqeval() {
        let cases: Vec<Case> = fixture(include_str!("../../tests/data/metrics/slots.json"));
        assert_eq!(cases.len(), 12);
        for case in cases {
            let mut slots = SlotF1::new();
            for (predicted, truth) in case.predicted.iter().zip(&case.truth) {
                slots.add(predicted, truth).unwrap();
            }
            assert_close(slots.precision().unwrap(), case.precision);
            assert_close(slots.recall().unwrap(), case.recall);
            assert_close(slots.value().unwrap(), case.f1);
        }
    }

    #[test]
    fn reads_entities_off_odd_sequences() {
        let read = |tags: &[&str]| -> Vec<(String, usize, usize)> {
            let entities = entities(tags, "true").unwrap();
            entities.iter().map(|e| (e.kind.to_owned(), e.first, e.end)).collect()
        };
        let entity = |kind: &str, first, end| (kind.to_owned(), first, end);
        assert_eq!(read(&["I-x", "I-x", "O", "I-x"]), [entity("x", 0, 2), entity("x", 3, 4)]);
        assert_eq!(read(&["B-y", "I-x", "I-x"]), [entity("y", 0, 1), entity("x", 1, 3)]);
        assert_eq!(read(&["B-x", "B-x"]), [entity("x", 0, 1), entity("x", 1, 2)]);
        assert_eq!(read(&["B", "I-_", "I", "B-"]), [entity("_", 0, 3), entity("_", 3, 4)]);
        assert_eq!(read(&["B-a-b", "I-a-b", "I-a"]), [entity("a-b", 0, 2), entity("a", 2, 3)]);
    }

    #[test]
    fn refuses_other_schemes_and_lengths() {
        let mut slots = SlotF1::new();
        assert_eq!(
            slots.add(&["O"], &["O", "O"]).unwrap_err().to_string(),
            "slot F1: 1 predicted tags for a sentence with 2 true ones: each token needs one of both"
        );
        assert_eq!(
            slots.add(&["O", "S-x"], &["O", "O"]).unwrap_err().to_string(),
            "slot F1: `S-x`, tag 2 of the predicted tags, is not in the IOB2 scheme: `O`, `B-type` or `I-type` is expected"
        );
        for tag in ["", "o", "O-x", "Bx", "-", "x-B"] {
            assert!(slots.add(&["O"], &[tag]).is_err(), "`{tag}`");
        }
        assert_eq!(
            slots.value().unwrap_err().to_string(),
            "slot F1 is not defined without examples: no sentence was added"
        );
    }
}
