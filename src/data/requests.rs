//! Requests to an assistant from templates with slots, such as `play SONG by ARTIST`, generated from a seed: intents and
//! slots without any file.
//!
//! No utterance occurs twice, in one part or across all of them.

use std::collections::HashSet;

use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::DataError;
use super::intents::{IntentData, RawPart, RawUtterance};

/// An intent and its templates. A word in upper case is a slot.
const INTENTS: [(&str, &[&str]); 4] = [
    (
        "PlayMusic",
        &[
            "play SONG by ARTIST",
            "i want to hear SONG",
            "put on some ARTIST please",
            "play ARTIST on SERVICE",
        ],
    ),
    (
        "GetWeather",
        &[
            "will it rain in CITY DATE",
            "what is the weather like in CITY",
            "how cold is it DATE in CITY",
        ],
    ),
    (
        "BookTable",
        &[
            "book a table for NUMBER in CITY DATE",
            "reserve a place for NUMBER at RESTAURANT",
            "i want to eat at RESTAURANT DATE",
        ],
    ),
    ("SetAlarm", &["wake me at TIME DATE", "set an alarm for TIME", "please ring DATE at TIME"]),
];

/// What may stand in each slot.
const SLOTS: [(&str, &[&str]); 8] = [
    (
        "SONG",
        &[
            "yesterday",
            "blue moon",
            "the long road home",
            "summer rain",
            "on the water",
            "paper boats",
            "north wind",
            "fly",
            "seven bridges",
            "home again",
            "the last train",
            "morning",
        ],
    ),
    (
        "ARTIST",
        &[
            "anna lind",
            "the old town band",
            "marlow",
            "two for tea",
            "dee and the rivers",
            "ivo",
            "sara stone",
            "the kites",
            "old river",
            "mira",
            "the night shift",
            "tom and his friends",
        ],
    ),
    ("SERVICE", &["radio one", "my phone", "the kitchen speaker", "the tablet"]),
    (
        "CITY",
        &[
            "oslo",
            "new york",
            "lima",
            "cape town",
            "san jose",
            "kyoto",
            "porto",
            "rio de janeiro",
            "cairo",
            "the hague",
        ],
    ),
    (
        "DATE",
        &[
            "today",
            "tomorrow",
            "on monday",
            "next week",
            "this evening",
            "on the first of may",
            "in two days",
            "at noon",
        ],
    ),
    ("NUMBER", &["two", "three", "four people", "my family", "six of us", "a party of ten"]),
    (
        "RESTAURANT",
        &[
            "the blue door",
            "marios",
            "the green fork",
            "chez nous",
            "bar seven",
            "the corner house",
        ],
    ),
    (
        "TIME",
        &[
            "six",
            "seven thirty",
            "half past eight",
            "five in the morning",
            "noon",
            "quarter to nine",
            "ten",
            "eleven fifteen",
            "four",
            "half past one",
            "twenty to three",
            "midnight",
        ],
    ),
];

/// Draws in a row without a new utterance after which there are none left.
const PATIENCE: usize = 20_000;

/// How many requests are generated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RequestsConfig {
    /// Requests to train on. Default 500.
    pub train_examples: usize,
    /// Requests to validate with, and again as many to test with. Default 100.
    pub valid_examples: usize,
}

impl Default for RequestsConfig {
    fn default() -> Self {
        Self { train_examples: 500, valid_examples: 100 }
    }
}

impl RequestsConfig {
    /// Refuses settings that leave a part empty.
    pub fn validate(&self) -> Result<(), DataError> {
        for (key, count) in
            [("train-examples", self.train_examples), ("valid-examples", self.valid_examples)]
        {
            if count == 0 {
                return Err(refused(key, count, "at least 1 is needed"));
            }
        }
        Ok(())
    }

    /// Generates requests. The same settings and seed give the same ones; `train_examples` has no influence on the other
    /// parts.
    pub fn generate(&self, seed: u64) -> Result<IntentData, DataError> {
        self.validate()?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut seen = HashSet::new();
        let mut part = |name: &str, key: &str, count: usize| -> Result<RawPart, DataError> {
            let mut utterances = Vec::with_capacity(count);
            let mut failures = 0;
            while utterances.len() < count {
                let utterance = draw(utterances.len() as u64 + 1, &mut rng);
                if seen.insert(utterance.words.clone()) {
                    utterances.push(utterance);
                    failures = 0;
                    continue;
                }
                failures += 1;
                if failures == PATIENCE {
                    let allowed = "so many different requests cannot be made of the templates";
                    return Err(refused(key, count, allowed));
                }
            }
            Ok((format!("{name} (generated)").into(), utterances))
        };
        let valid = part("valid", "valid-examples", self.valid_examples)?;
        let test = part("test", "valid-examples", self.valid_examples)?;
        let train = part("train", "train-examples", self.train_examples)?;
        Ok(IntentData::number(train, valid, test))
    }
}

fn refused(key: &str, found: usize, allowed: &str) -> DataError {
    DataError::InvalidSetting {
        key: key.to_owned(),
        found: found.to_string(),
        allowed: allowed.to_owned(),
    }
}

fn draw(line: u64, rng: &mut ChaCha8Rng) -> RawUtterance {
    const NEVER_EMPTY: &str = "no list of the templates is empty";
    let (intent, templates) = INTENTS.choose(rng).expect(NEVER_EMPTY);
    let (mut words, mut tags) = (Vec::new(), Vec::new());
    for word in templates.choose(rng).expect(NEVER_EMPTY).split(' ') {
        let Some((slot, values)) = SLOTS.iter().find(|(slot, _)| *slot == word) else {
            words.push(word.to_owned());
            tags.push("O".to_owned());
            continue;
        };
        for (place, value) in values.choose(rng).expect(NEVER_EMPTY).split(' ').enumerate() {
            words.push(value.to_owned());
            let prefix = if place == 0 { 'B' } else { 'I' };
            tags.push(format!("{prefix}-{}", slot.to_lowercase()));
        }
    }
    RawUtterance { line, words, tags, intent: (*intent).to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::intents::Utterance;
    use super::*;

    #[test]
    fn every_template_is_made_of_words_and_known_slots() {
        for template in INTENTS.iter().flat_map(|(_, templates)| *templates) {
            for word in template.split(' ') {
                let is_slot = SLOTS.iter().any(|(slot, _)| *slot == word);
                assert!(is_slot || word.bytes().all(|byte| byte.is_ascii_lowercase()), "{word}");
            }
        }
        let used = |slot: &str| {
            INTENTS.iter().any(|(_, all)| all.iter().any(|one| one.split(' ').any(|w| w == slot)))
        };
        assert!(SLOTS.iter().all(|(slot, _)| used(slot)));
    }

    #[test]
    fn parts_share_no_utterance_and_follow_the_seed() {
        let config = RequestsConfig::default();
        let data = config.generate(1).unwrap();
        assert_eq!((data.train.len(), data.valid.len(), data.test.len()), (500, 100, 100));
        let all: HashSet<_> = [&data.train, &data.valid, &data.test]
            .into_iter()
            .flatten()
            .map(|utterance| &utterance.words)
            .collect();
        assert_eq!(all.len(), 700);
        assert_eq!((data.known_intents, data.known_tags), (4, 1 + 2 * SLOTS.len()));
        assert!(data.report.is_empty(), "{}", data.report);
        assert_eq!(data, config.generate(1).unwrap());
        assert_ne!(data.valid, config.generate(2).unwrap().valid);
    }

    #[test]
    fn tags_cover_the_slots() {
        let data = RequestsConfig::default().generate(1).unwrap();
        let names = |utterance: &Utterance| -> Vec<_> {
            utterance.tags.iter().map(|tag| data.tags[*tag as usize].as_str()).collect()
        };
        let said = |text: &str| {
            let find = |utterance: &&Utterance| utterance.words.join(" ") == text;
            data.train.iter().find(find).map(names)
        };
        let mut found = 0;
        for city in ["oslo", "lima", "kyoto", "porto", "cairo"] {
            if let Some(tags) = said(&format!("what is the weather like in {city}")) {
                assert_eq!(tags, ["O", "O", "O", "O", "O", "O", "B-city"]);
                found += 1;
            }
        }
        for city in ["new york", "cape town", "san jose", "the hague"] {
            if let Some(tags) = said(&format!("what is the weather like in {city}")) {
                assert_eq!(tags, ["O", "O", "O", "O", "O", "O", "B-city", "I-city"]);
                found += 1;
            }
        }
        assert!(found > 0);
    }

    #[test]
    fn more_requests_than_there_are_cannot_be_made() {
        for (config, key) in [
            (RequestsConfig { train_examples: 100_000, valid_examples: 1 }, "train-examples"),
            (RequestsConfig { train_examples: 1, valid_examples: 0 }, "valid-examples"),
        ] {
            let error = config.generate(0).unwrap_err();
            assert!(error.is_user_error() && error.to_string().contains(key), "{error}");
        }
    }
}
