//! ListOps: classify a nested list operation by its value, a digit (N. Nangia and S. Bowman, "ListOps: A Diagnostic Dataset
//! for Latent Tree Learning", 2018, arXiv 1804.06028).
//!
//! `[MAX 2 9 [MIN 4 7 ] 0 ]` has the value 9. The operators are those of the paper: `MAX`, `MIN`, `MED` (median) and `SM`
//! (sum modulo 10). As in the authors' generator, the median of an even number of values is the mean of the two middle
//! ones, rounded down.
//!
//! The settings decide how hard the task is:
//!
//! * `max-depth = 1` and `max-length` up to 10 give flat lists such as `[SM 3 9 4 ]`. Only the operator and a few digits
//!   count, and small models learn it.
//! * `max-depth` 2 and 3 make the model evaluate inner lists before outer ones.
//! * The paper goes to depth 20 and about 100 tokens; Long Range Arena uses 500 to 2,000 tokens, depth 10.
//!
//! Lengths are spread over `min-length` to `max-length`. Since `MAX` and `MIN` would make 9 and 0 much too frequent, no
//! value is given to more than 12 % of a split, so that always answering the same digit is right in 12 % of cases at most.
//! No expression occurs twice, in one split or across both. Expressions that differ only in the order of their arguments
//! count as different.

use std::collections::HashSet;
use std::fmt;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::DataError;

/// Every token; a token's number is its place here.
pub const VOCABULARY: &[&str] = &[
    "[PAD]", "[CLS]", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "]", "[MAX", "[MIN",
    "[MED", "[SM",
];
/// Number of the padding token.
pub const PAD: u32 = 0;
/// Number of the token that every example begins with.
pub const CLS: u32 = 1;
/// Number of classes: the digits.
pub const CLASSES: usize = 10;

/// Share of a split that one class may have, in percent.
const LARGEST_CLASS_PERCENT: usize = 12;
/// Attempts in a row without a new example after which the settings count as impossible.
const PATIENCE: usize = 100_000;
/// Tokens of the shortest list, `[MAX 1 2 ]`.
const SHORTEST: usize = 4;
/// Limit on nesting, far above what anyone trains on, that keeps recursion safe.
const DEEPEST: usize = 64;
/// Limit on tokens in an expression, likewise.
const LONGEST: usize = 4096;

/// What is done to the arguments of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Operator {
    /// Largest.
    #[serde(rename = "MAX")]
    Max,
    /// Smallest.
    #[serde(rename = "MIN")]
    Min,
    /// Median; of an even number, the mean of the two middle ones, rounded down.
    #[serde(rename = "MED")]
    Median,
    /// Sum modulo 10.
    #[serde(rename = "SM")]
    SumModulo,
}

/// An expression tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// 0 to 9.
    Digit(u8),
    /// An operator applied to at least one argument.
    List(Operator, Vec<Expression>),
}

/// Which expressions are generated, and how many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ListOpsConfig {
    /// Fewest tokens of an expression, brackets included, `[CLS]` not. Default 5.
    pub min_length: usize,
    /// Most tokens. Default 20.
    pub max_length: usize,
    /// Deepest nesting; 1 is a flat list. Default 2.
    pub max_depth: usize,
    /// Most arguments of one list; the fewest are 2. Default 5.
    pub max_arguments: usize,
    /// Examples to train on. Default 10,000.
    pub train_examples: usize,
    /// Examples to validate with. Default 1,000.
    pub valid_examples: usize,
    /// Operators to use. Default all four.
    pub operators: Vec<Operator>,
}

/// An example: `[CLS]` and the tokens of an expression, and the expression's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenExample {
    /// Token numbers, places in [`VOCABULARY`].
    pub tokens: Vec<u32>,
    /// The class.
    pub label: u32,
}

/// A generated data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListOps {
    /// Examples to train on.
    pub train: Vec<TokenExample>,
    /// Examples to validate with, all different from those in `train`.
    pub valid: Vec<TokenExample>,
}

impl Operator {
    /// Every operator.
    pub const ALL: [Self; 4] = [Self::Max, Self::Min, Self::Median, Self::SumModulo];

    /// The token that opens a list of this operator.
    pub fn token(self) -> &'static str {
        match self {
            Self::Max => "[MAX",
            Self::Min => "[MIN",
            Self::Median => "[MED",
            Self::SumModulo => "[SM",
        }
    }

    /// Applies the operator to digits, of which there is at least one.
    fn apply(self, mut digits: Vec<u8>) -> u8 {
        digits.sort_unstable();
        let middle = digits.len() / 2;
        match self {
            Self::Max => digits[digits.len() - 1],
            Self::Min => digits[0],
            Self::Median if digits.len() % 2 == 1 => digits[middle],
            Self::Median => (digits[middle - 1] + digits[middle]) / 2,
            Self::SumModulo => {
                let sum: usize = digits.iter().map(|&digit| usize::from(digit)).sum();
                (sum % 10) as u8
            }
        }
    }
}

impl Expression {
    /// The value, a digit.
    pub fn evaluate(&self) -> u8 {
        match self {
            Self::Digit(digit) => *digit,
            Self::List(operator, arguments) => {
                operator.apply(arguments.iter().map(Self::evaluate).collect())
            }
        }
    }

    /// Reads tokens separated by white space, as [`Display`](fmt::Display) writes them.
    pub fn parse(text: &str) -> Result<Self, DataError> {
        let fail = |position: usize, reason: String| DataError::Expression { position, reason };
        let mut open: Vec<(Operator, Vec<Self>)> = Vec::new();
        let mut tokens = text.split_whitespace().zip(1..);
        let mut last = 0;
        while let Some((token, position)) = tokens.next() {
            last = position;
            let complete = if token == "]" {
                let (operator, arguments) =
                    open.pop().ok_or_else(|| fail(position, "`]` closes nothing".to_owned()))?;
                if arguments.is_empty() {
                    return Err(fail(position, "the list has no argument".to_owned()));
                }
                Self::List(operator, arguments)
            } else if let Some(operator) = Operator::ALL.iter().find(|op| op.token() == token) {
                if open.len() == DEEPEST {
                    return Err(fail(position, format!("nested more than {DEEPEST} deep")));
                }
                open.push((*operator, Vec::new()));
                continue;
            } else if let [digit @ b'0'..=b'9'] = token.as_bytes() {
                Self::Digit(digit - b'0')
            } else {
                return Err(fail(
                    position,
                    format!("`{token}` is no digit, no `]` and no operator such as `[MAX`"),
                ));
            };
            match open.last_mut() {
                Some((_, arguments)) => arguments.push(complete),
                None => match tokens.next() {
                    None => return Ok(complete),
                    Some((token, position)) => {
                        return Err(fail(
                            position,
                            format!("`{token}` follows the end of the expression"),
                        ));
                    }
                },
            }
        }
        Err(fail(
            last + 1,
            match open.len() {
                0 => "the text is empty".to_owned(),
                missing => format!("the text ends, {missing} `]` short"),
            },
        ))
    }

    /// Token numbers, places in [`VOCABULARY`], without `[CLS]`.
    pub fn tokens(&self) -> Vec<u32> {
        let number = |token: &str| {
            let place = VOCABULARY.iter().position(|known| *known == token);
            place.expect("every token of an expression is in the vocabulary") as u32
        };
        self.to_string().split(' ').map(number).collect()
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digit(digit) => write!(f, "{digit}"),
            Self::List(operator, arguments) => {
                f.write_str(operator.token())?;
                for argument in arguments {
                    write!(f, " {argument}")?;
                }
                f.write_str(" ]")
            }
        }
    }
}

impl Default for ListOpsConfig {
    fn default() -> Self {
        Self {
            min_length: 5,
            max_length: 20,
            max_depth: 2,
            max_arguments: 5,
            train_examples: 10_000,
            valid_examples: 1_000,
            operators: Operator::ALL.to_vec(),
        }
    }
}

impl ListOpsConfig {
    /// Refuses settings for which no expression exists.
    pub fn validate(&self) -> Result<(), DataError> {
        let check = |fine: bool, key: &str, found: &dyn fmt::Debug, allowed: String| {
            if fine {
                return Ok(());
            }
            Err(DataError::InvalidSetting {
                key: key.to_owned(),
                found: format!("{found:?}"),
                allowed,
            })
        };
        check(
            (1..=DEEPEST).contains(&self.max_depth),
            "max-depth",
            &self.max_depth,
            format!("it must be 1 (flat lists) to {DEEPEST}"),
        )?;
        check(
            self.max_arguments >= 2,
            "max-arguments",
            &self.max_arguments,
            "a list has at least 2 arguments".to_owned(),
        )?;
        check(
            (SHORTEST..=LONGEST).contains(&self.max_length),
            "max-length",
            &self.max_length,
            format!("it must be {SHORTEST} to {LONGEST} tokens; the shortest list is `[MAX 1 2 ]`"),
        )?;
        check(
            self.min_length <= self.max_length,
            "min-length",
            &self.min_length,
            format!("it must not exceed max-length, {}", self.max_length),
        )?;
        let longest = self.longest(self.max_depth);
        check(
            self.min_length <= longest,
            "min-length",
            &self.min_length,
            format!(
                "with max-depth {} and max-arguments {} no expression has more than {longest} tokens",
                self.max_depth, self.max_arguments
            ),
        )?;
        check(
            self.train_examples > 0,
            "train-examples",
            &self.train_examples,
            "at least 1 is needed".to_owned(),
        )?;
        check(
            self.valid_examples > 0,
            "valid-examples",
            &self.valid_examples,
            "at least 1 is needed".to_owned(),
        )?;
        let distinct: HashSet<_> = self.operators.iter().collect();
        check(
            !self.operators.is_empty() && distinct.len() == self.operators.len(),
            "operators",
            &self.operators.iter().map(|op| &op.token()[1..]).collect::<Vec<_>>(),
            "at least one of MAX, MIN, MED and SM is needed, each at most once".to_owned(),
        )
    }

    /// Tokens of the longest expression of some depth.
    fn longest(&self, depth: usize) -> usize {
        (0..depth)
            .fold(1, |inner: usize, _| inner.saturating_mul(self.max_arguments).saturating_add(2))
    }

    /// Draws an expression of exactly `length` tokens and at most `depth` levels, or nothing if the drawn shape cannot be
    /// completed.
    fn draw(&self, length: usize, depth: usize, rng: &mut ChaCha8Rng) -> Option<Expression> {
        if length == 1 {
            return Some(Expression::Digit(rng.random_range(0..10)));
        }
        let inside = length.checked_sub(2)?;
        let room = self.longest(depth - 1);
        // A count that leaves one or two tokens over is a dead end if all arguments are digits, which grow by three.
        let counts = inside.div_ceil(room).max(2)..=inside.min(self.max_arguments);
        let counts: Vec<usize> = counts.filter(|count| !matches!(inside - count, 1 | 2)).collect();
        let mut lengths = vec![1; *counts.choose(rng)?];
        let mut left = inside - lengths.len();
        while left > 0 {
            // A digit grows into a list of two digits, which takes three more tokens; a list grows by single tokens.
            let growth = |length: usize| if length == 1 { 3 } else { 1 };
            let open: Vec<usize> = (0..lengths.len())
                .filter(|&i| growth(lengths[i]) <= left && lengths[i] + growth(lengths[i]) <= room)
                .collect();
            let chosen = *open.choose(rng)?;
            let grown = growth(lengths[chosen]);
            lengths[chosen] += grown;
            left -= grown;
        }
        let operator = *self.operators.choose(rng)?;
        let arguments: Option<Vec<_>> =
            lengths.into_iter().map(|length| self.draw(length, depth - 1, rng)).collect();
        Some(Expression::List(operator, arguments?))
    }

    /// Draws the examples of one split. None of them is in `seen`, to which they are added.
    fn draw_split(
        &self,
        split: &'static str,
        wanted: usize,
        seen: &mut HashSet<Vec<u32>>,
        rng: &mut ChaCha8Rng,
    ) -> Result<Vec<TokenExample>, DataError> {
        let largest_class = (wanted * LARGEST_CLASS_PERCENT).div_ceil(100);
        let shortest = self.min_length.max(SHORTEST);
        let longest = self.max_length.min(self.longest(self.max_depth));
        let mut counts = [0; CLASSES];
        let mut examples = Vec::with_capacity(wanted);
        let mut failures = 0;
        while examples.len() < wanted {
            failures += 1;
            if failures > PATIENCE {
                return Err(DataError::Exhausted { split, wanted, made: examples.len() });
            }
            let length = rng.random_range(shortest..=longest);
            let Some(expression) = self.draw(length, self.max_depth, rng) else {
                continue;
            };
            let label = expression.evaluate();
            if counts[usize::from(label)] == largest_class {
                continue;
            }
            let tokens: Vec<u32> = [CLS].into_iter().chain(expression.tokens()).collect();
            if seen.insert(tokens.clone()) {
                counts[usize::from(label)] += 1;
                examples.push(TokenExample { tokens, label: u32::from(label) });
                failures = 0;
            }
        }
        Ok(examples)
    }
}

impl ListOps {
    /// Generates both splits. The same settings and seed give the same examples, on every machine; `train_examples` has no
    /// influence on the validation split.
    pub fn generate(config: &ListOpsConfig, seed: u64) -> Result<Self, DataError> {
        config.validate()?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut seen = HashSet::new();
        let valid = config.draw_split("valid", config.valid_examples, &mut seen, &mut rng)?;
        let train = config.draw_split("train", config.train_examples, &mut seen, &mut rng)?;
        Ok(Self { train, valid })
    }
}

/// How many examples each class has.
pub fn class_counts(examples: &[TokenExample]) -> [usize; CLASSES] {
    let mut counts = [0; CLASSES];
    for example in examples {
        counts[example.label as usize] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(example: &TokenExample) -> String {
        assert_eq!(example.tokens[0], CLS);
        let words: Vec<_> =
            example.tokens[1..].iter().map(|&token| VOCABULARY[token as usize]).collect();
        words.join(" ")
    }

    fn depth(expression: &Expression) -> usize {
        match expression {
            Expression::Digit(_) => 0,
            Expression::List(_, arguments) => 1 + arguments.iter().map(depth).max().unwrap_or(0),
        }
    }

    /// Evaluates text from right to left with a stack: a second implementation that shares nothing with the first.
    fn evaluate_text(text: &str) -> u8 {
        let mut stack: Vec<Option<f64>> = Vec::new();
        for token in text.split(' ').rev() {
            if let Ok(digit) = token.parse::<u8>() {
                stack.push(Some(f64::from(digit)));
            } else if token == "]" {
                stack.push(None);
            } else {
                let mut values = Vec::new();
                while let Some(Some(value)) = stack.pop() {
                    values.push(value);
                }
                values.sort_by(f64::total_cmp);
                let half = (values.len() - 1) as f64 / 2.0;
                stack.push(Some(match token {
                    "[MAX" => *values.last().unwrap(),
                    "[MIN" => values[0],
                    "[SM" => values.iter().sum::<f64>() % 10.0,
                    _ => ((values[half.floor() as usize] + values[half.ceil() as usize]) / 2.0)
                        .floor(),
                }));
            }
        }
        assert_eq!(stack.len(), 1);
        stack[0].unwrap() as u8
    }

    #[test]
    fn evaluates_by_hand_made_cases() {
        for (text, value) in [
            ("7", 7),
            ("[MAX 2 9 [MIN 4 7 ] 0 ]", 9),
            ("[MIN 2 9 [MAX 4 7 ] ]", 2),
            ("[MED 9 1 5 ]", 5),
            ("[MED 8 1 3 6 ]", 4),
            ("[MED 1 2 ]", 1),
            ("[MED 9 ]", 9),
            ("[SM 9 8 7 ]", 4),
            ("[SM 5 5 ]", 0),
            ("[SM [MED 3 4 9 ] [MAX 0 1 ] [MIN 6 6 ] [SM 9 9 ] ]", 9),
        ] {
            let expression = Expression::parse(text).unwrap();
            assert_eq!(expression.evaluate(), value, "{text}");
            assert_eq!(evaluate_text(text), value, "{text}");
            assert_eq!(expression.to_string(), text);
        }
    }

    #[test]
    fn parse_errors_name_the_token() {
        for (text, position, part) in [
            ("", 1, "empty"),
            ("]", 1, "closes nothing"),
            ("[MAX ]", 2, "no argument"),
            ("[MAX 1 2", 4, "1 `]` short"),
            ("[MAX 1 12 ]", 3, "`12`"),
            ("[AVG 1 2 ]", 1, "`[AVG`"),
            ("[MAX 1 ] 2", 4, "follows the end"),
            (&"[MAX ".repeat(DEEPEST + 1), DEEPEST + 1, "deep"),
        ] {
            let error = Expression::parse(text).unwrap_err();
            let expected = format!("token {position}:");
            let message = error.to_string();
            assert!(message.contains(&expected) && message.contains(part), "{message}");
        }
    }

    #[test]
    fn the_vocabulary_covers_every_operator_once() {
        assert_eq!((VOCABULARY[PAD as usize], VOCABULARY[CLS as usize]), ("[PAD]", "[CLS]"));
        let distinct: HashSet<_> = VOCABULARY.iter().collect();
        assert_eq!(distinct.len(), VOCABULARY.len());
        let all = "[MAX 0 1 2 3 4 5 6 7 8 9 [MIN [MED [SM 1 ] ] ] ]";
        assert_eq!(Expression::parse(all).unwrap().tokens()[..3], [13, 2, 3]);
    }

    #[test]
    fn splits_are_reproducible_disjoint_and_balanced() {
        let config = ListOpsConfig::default();
        let data = ListOps::generate(&config, 42).unwrap();
        assert_eq!(data, ListOps::generate(&config, 42).unwrap());
        assert_ne!(data, ListOps::generate(&config, 43).unwrap());

        let distinct: HashSet<_> =
            data.train.iter().chain(&data.valid).map(|e| &e.tokens).collect();
        assert_eq!(distinct.len(), config.train_examples + config.valid_examples);
        for (split, size) in [(&data.train, 10_000), (&data.valid, 1_000)] {
            let counts = class_counts(split);
            assert_eq!(counts.iter().sum::<usize>(), size);
            assert!(*counts.iter().max().unwrap() <= size * 12 / 100, "{counts:?}");
            assert!(*counts.iter().min().unwrap() >= size * 5 / 100, "{counts:?}");
        }

        let fewer = ListOpsConfig { train_examples: 10, ..config };
        assert_eq!(ListOps::generate(&fewer, 42).unwrap().valid, data.valid);
    }

    /// Generated examples are part of published results, so a change of them must be noticed.
    #[test]
    fn the_first_examples_stay_the_same() {
        let data = ListOps::generate(&ListOpsConfig::default(), 1).unwrap();
        assert_eq!(text(&data.valid[0]), "[MIN [SM 2 9 7 ] 4 [MED 1 0 8 ] ]");
        assert_eq!(text(&data.train[0]), "[MAX [MIN 4 6 ] 5 6 5 7 ]");
    }

    #[test]
    fn impossible_settings_are_named() {
        let default = ListOpsConfig::default;
        for (config, key) in [
            (ListOpsConfig { max_depth: 0, ..default() }, "max-depth = 0"),
            (ListOpsConfig { max_depth: 65, ..default() }, "max-depth = 65"),
            (ListOpsConfig { max_arguments: 1, ..default() }, "max-arguments = 1"),
            (ListOpsConfig { max_length: 3, min_length: 1, ..default() }, "max-length = 3"),
            (ListOpsConfig { min_length: 21, ..default() }, "min-length = 21"),
            (ListOpsConfig { min_length: 8, max_depth: 1, ..default() }, "more than 7 tokens"),
            (ListOpsConfig { train_examples: 0, ..default() }, "train-examples = 0"),
            (ListOpsConfig { valid_examples: 0, ..default() }, "valid-examples = 0"),
            (ListOpsConfig { operators: vec![], ..default() }, "operators = []"),
            (
                ListOpsConfig { operators: vec![Operator::Max, Operator::Max], ..default() },
                "operators = [\"MAX\", \"MAX\"]",
            ),
        ] {
            let error = ListOps::generate(&config, 0).unwrap_err();
            assert!(error.is_user_error() && error.to_string().contains(key), "{error}");
        }
    }

    #[test]
    fn too_few_different_expressions_is_an_error_and_no_endless_loop() {
        let config = ListOpsConfig {
            min_length: 4,
            max_length: 4,
            max_depth: 1,
            ..ListOpsConfig::default()
        };
        let error = ListOps::generate(&config, 0).unwrap_err();
        assert!(
            matches!(error, DataError::Exhausted { split: "valid", wanted: 1000, .. }),
            "{error}"
        );
        assert!(error.is_user_error());
    }

    #[test]
    fn long_and_deep_expressions_are_found() {
        let config = ListOpsConfig {
            min_length: 200,
            max_length: 1000,
            max_depth: 10,
            max_arguments: 10,
            train_examples: 20,
            valid_examples: 20,
            ..ListOpsConfig::default()
        };
        let data = ListOps::generate(&config, 5).unwrap();
        assert!(data.train.iter().any(|example| example.tokens.len() > 500));
    }

    #[test]
    fn settings_are_read_from_toml() {
        let config: ListOpsConfig =
            toml::from_str("max-depth = 1\noperators = ['SM', 'MED']").unwrap();
        assert_eq!(config.operators, [Operator::SumModulo, Operator::Median]);
        assert_eq!((config.max_depth, config.max_length), (1, 20));
        assert!(toml::from_str::<ListOpsConfig>("max-dept = 1").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn examples_keep_to_the_settings(
            seed: u64,
            max_depth in 1usize..5,
            max_arguments in 2usize..8,
            shortest in 0.0f64..1.0,
            max_length in 5usize..60,
        ) {
            let mut config = ListOpsConfig {
                min_length: 4,
                max_length,
                max_depth,
                max_arguments,
                train_examples: 10,
                valid_examples: 5,
                ..ListOpsConfig::default()
            };
            let reachable = max_length.min(config.longest(max_depth));
            config.min_length = 4 + (shortest * (reachable - 4) as f64) as usize;
            // Some lengths between the shortest and the longest do not exist, which generation reports.
            if let Ok(data) = ListOps::generate(&config, seed) {
                for example in data.train.iter().chain(&data.valid) {
                    let text = text(example);
                    let parsed = Expression::parse(&text).unwrap();
                    prop_assert_eq!(u32::from(parsed.evaluate()), example.label);
                    prop_assert_eq!(u32::from(evaluate_text(&text)), example.label);
                    prop_assert_eq!(parsed.tokens(), &example.tokens[1..]);
                    prop_assert!((config.min_length..=max_length).contains(&(example.tokens.len() - 1)));
                    prop_assert!(depth(&parsed) <= max_depth);
                }
            }
        }
    }
}
