//! SCAN: commands and the actions that they ask for (B. Lake and M. Baroni, "Generalization without Systematicity", ICML
//! 2018, arXiv 1711.00350), as a translation task that needs no file.
//!
//! `jump around left twice and walk` asks for `LTURN JUMP LTURN JUMP ... WALK`. The grammar of the paper has 20,910
//! commands, each with one meaning; the parts are drawn from all of them at random, the paper's "simple split".

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::DataError;
use super::translation::{ParallelText, SentencePair};

/// How many commands there are.
pub const COMMANDS: usize = 20_910;

const VERBS: [(&str, &str); 4] =
    [("walk", "WALK"), ("look", "LOOK"), ("run", "RUN"), ("jump", "JUMP")];
const DIRECTIONS: [(&str, &str); 2] = [("left", "LTURN"), ("right", "RTURN")];

/// Which commands are drawn, and how many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ScanConfig {
    /// Most actions that a command may ask for. Default 48, which all commands keep to.
    pub max_actions: usize,
    /// Commands to train on. Default 16,000.
    pub train_examples: usize,
    /// Commands to validate with, and again as many to test with. Default 1,000.
    pub valid_examples: usize,
}

impl Default for ScanConfig {
    fn default() -> Self {
        Self { max_actions: 48, train_examples: 16_000, valid_examples: 1_000 }
    }
}

impl ScanConfig {
    /// Refuses settings that ask for no example.
    pub fn validate(&self) -> Result<(), DataError> {
        for (key, count) in
            [("train-examples", self.train_examples), ("valid-examples", self.valid_examples)]
        {
            if count == 0 {
                return Err(refused(key, count, "at least 1 is needed".to_owned()));
            }
        }
        Ok(())
    }

    /// Draws commands. The same settings and seed give the same ones; no command is in two parts.
    ///
    /// # Errors
    ///
    /// [`DataError::InvalidSetting`] if there are not so many commands.
    pub fn generate(&self, seed: u64) -> Result<ParallelText, DataError> {
        self.validate()?;
        let mut pairs = all_commands();
        pairs.retain(|pair| pair.target.split(' ').count() <= self.max_actions);
        let wanted = self.valid_examples.saturating_mul(2).saturating_add(self.train_examples);
        if wanted > pairs.len() {
            return Err(refused(
                "train-examples",
                self.train_examples,
                format!(
                    "with those for validation and test it makes {wanted}, but only {} commands ask for at most {} actions",
                    pairs.len(),
                    self.max_actions
                ),
            ));
        }
        pairs.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let valid = pairs.drain(..self.valid_examples).collect();
        let test = pairs.drain(..self.valid_examples).collect();
        pairs.truncate(self.train_examples);
        Ok(ParallelText { train: pairs, valid, test })
    }
}

fn refused(key: &str, found: usize, allowed: String) -> DataError {
    DataError::InvalidSetting { key: key.to_owned(), found: found.to_string(), allowed }
}

/// Every command of the grammar with its actions, both as words separated by spaces.
fn all_commands() -> Vec<SentencePair> {
    // A verb phrase: a verb, or a verb or `turn` with a direction and perhaps a manner.
    let mut phrases: Vec<(String, Vec<&str>)> = Vec::new();
    for (verb, action) in VERBS {
        phrases.push((verb.to_owned(), vec![action]));
    }
    for (verb, action) in
        VERBS.map(|(verb, action)| (verb, Some(action))).into_iter().chain([("turn", None)])
    {
        for (direction, turn) in DIRECTIONS {
            let once: Vec<&str> = [turn].into_iter().chain(action).collect();
            let opposite = [&[turn], &once[..]].concat();
            phrases.push((format!("{verb} {direction}"), once.clone()));
            phrases.push((format!("{verb} opposite {direction}"), opposite));
            phrases.push((format!("{verb} around {direction}"), once.repeat(4)));
        }
    }
    let times = [("", 1), (" twice", 2), (" thrice", 3)];
    let sentences: Vec<(String, String)> = phrases
        .iter()
        .flat_map(|(phrase, actions)| {
            times.map(|(word, count)| (format!("{phrase}{word}"), actions.repeat(count).join(" ")))
        })
        .collect();
    let mut commands: Vec<SentencePair> = sentences
        .iter()
        .map(|(source, target)| SentencePair { source: source.clone(), target: target.clone() })
        .collect();
    for (first, first_actions) in &sentences {
        for (second, second_actions) in &sentences {
            commands.push(SentencePair {
                source: format!("{first} and {second}"),
                target: format!("{first_actions} {second_actions}"),
            });
            commands.push(SentencePair {
                source: format!("{first} after {second}"),
                target: format!("{second_actions} {first_actions}"),
            });
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    /// The examples of the paper's figure 1, and the sizes that its text and its supplement state.
    #[test]
    fn commands_mean_what_the_paper_says() {
        let commands = all_commands();
        assert_eq!(commands.len(), COMMANDS);
        let meanings: HashMap<&str, &str> =
            commands.iter().map(|pair| (pair.source.as_str(), pair.target.as_str())).collect();
        assert_eq!(meanings.len(), COMMANDS);
        for (command, actions) in [
            ("jump", "JUMP"),
            ("jump left", "LTURN JUMP"),
            ("jump around right", "RTURN JUMP RTURN JUMP RTURN JUMP RTURN JUMP"),
            ("turn left twice", "LTURN LTURN"),
            ("jump thrice", "JUMP JUMP JUMP"),
            ("turn opposite right", "RTURN RTURN"),
            ("jump opposite left and walk thrice", "LTURN LTURN JUMP WALK WALK WALK"),
            (
                "jump opposite left after walk around left",
                "LTURN WALK LTURN WALK LTURN WALK LTURN WALK LTURN LTURN JUMP",
            ),
        ] {
            assert_eq!(meanings[command], actions, "{command}");
        }
        let words = |text: fn(&SentencePair) -> &str| -> HashSet<&str> {
            commands.iter().flat_map(move |pair| text(pair).split(' ')).collect()
        };
        assert_eq!((words(|pair| &pair.source).len(), words(|pair| &pair.target).len()), (13, 6));
        let longest = |text: fn(&SentencePair) -> &str| {
            commands.iter().map(|pair| text(pair).split(' ').count()).max()
        };
        assert_eq!(
            (longest(|pair| &pair.source), longest(|pair| &pair.target)),
            (Some(9), Some(48))
        );
    }

    #[test]
    fn parts_share_no_command_and_follow_the_seed() {
        let config = ScanConfig { max_actions: 8, train_examples: 500, valid_examples: 50 };
        let data = config.generate(1).unwrap();
        let all: HashSet<_> =
            [&data.train, &data.valid, &data.test].into_iter().flatten().collect();
        assert_eq!((data.train.len(), all.len()), (500, 600));
        assert!(all.iter().all(|pair| pair.target.split(' ').count() <= 8));
        assert_eq!(data, config.generate(1).unwrap());
        assert_ne!(data.valid, config.generate(2).unwrap().valid);
    }

    #[test]
    fn more_commands_than_there_are_cannot_be_drawn() {
        let default = ScanConfig::default();
        for (config, part) in [
            (
                ScanConfig { train_examples: COMMANDS, ..default.clone() },
                "makes 22910, but only 20910",
            ),
            (ScanConfig { max_actions: 0, ..default.clone() }, "but only 0 commands"),
            (ScanConfig { valid_examples: 0, ..default }, "valid-examples = 0"),
        ] {
            let error = config.generate(0).unwrap_err();
            assert!(error.is_user_error() && error.to_string().contains(part), "{error}");
        }
    }
}
