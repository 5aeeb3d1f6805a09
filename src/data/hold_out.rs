//! A validation split for training data that consists of sentences *and phrases cut out of them*.
//!
//! Most rows of SST-2's training file are phrases of other rows. A row drawn at random for validation therefore nearly
//! always has a longer or shorter copy of itself, with the same label, among the rows that remain, and accuracy on it says
//! little about new sentences. [`hold_out_groups`] holds out whole sentences together with everything cut out of them.
//!
//! The 67,349 training rows of SST-2 hold 66,978 different texts, of which 6,885 are whole. 6,722 groups form, the largest
//! of 18 whole texts, so that nearly any number can be held out exactly. Holding out 800 (seed 42) leaves 59,936 rows to
//! train on and drops 6,613. The held-out texts have 19.7 tokens on average; the sentences of the development file, 19.5.

use std::collections::{BTreeMap, HashMap};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::glue::Sentence;
use super::{DataError, Split};

/// A phrase of up to this many tokens ("the film", "not very funny") belongs to the language and not to one sentence.
const SHORT: usize = 3;

/// Holds out whole sentences such that the remaining rows give none of them away.
///
/// Texts are compared as sequences of tokens separated by white space. A text is *whole* if it is contained, as a
/// contiguous run of tokens, in no longer text of the data. Whole texts that share a row of more than 3 tokens are linked;
/// linked texts form a group with all the rows of more than 3 tokens inside them. Groups are drawn at random, by `seed`,
/// until they hold `examples` whole texts; a group that would exceed the number is passed over. From then on:
///
/// 1. Every held-out row is a whole text, and no two of them have the same text.
/// 2. No training row contains a held-out text or has the same text.
/// 3. No training row of more than 3 tokens is contained in a held-out text.
/// 4. No row of more than 3 tokens, in either part or dropped, is contained both in a held-out text and in a whole text of
///    the training part.
/// 5. A training row of up to 3 tokens that is contained in a held-out text is also contained in a whole text of the
///    training part. All others that occur in held-out texts only are dropped.
///
/// Rows that fall to neither part are dropped. What is not guaranteed: runs of tokens that both parts share but that are no
/// row of their own, and sentences that say the same in other words.
///
/// Fewer than `examples` rows are held out only if the groups do not add up to the number. It may be at most half of the
/// whole texts.
pub fn hold_out_groups(
    sentences: &[Sentence],
    examples: usize,
    seed: u64,
) -> Result<Split, DataError> {
    let mut numbers = HashMap::new();
    let rows: Vec<Vec<u32>> = sentences
        .iter()
        .map(|sentence| {
            let tokens = sentence.text.split_whitespace();
            tokens
                .map(|token| {
                    let next = numbers.len() as u32;
                    *numbers.entry(token).or_insert(next)
                })
                .collect()
        })
        .collect();

    // From here on a text is named by its first row; rows that repeat it share its fate.
    let mut first_row: HashMap<&[u32], usize> = HashMap::new();
    for (row, tokens) in rows.iter().enumerate() {
        first_row.entry(tokens).or_insert(row);
    }
    let containment = Containment::of(&rows, &first_row);

    if examples == 0 || examples > containment.whole.len() / 2 {
        return Err(DataError::InvalidSetting {
            key: "held-out".to_owned(),
            found: examples.to_string(),
            allowed: format!(
                "the data has {} whole sentences, of which 1 to {} can be held out",
                containment.whole.len(),
                containment.whole.len() / 2
            ),
        });
    }

    let held_out = draw_groups(containment.groups(&rows), examples, seed);
    let mut is_held_out = vec![false; rows.len()];
    for &text in &held_out {
        is_held_out[text] = true;
    }
    let stays = |row: &usize| {
        let text = first_row[rows[*row].as_slice()];
        match containment.inside.get(&text) {
            None => !is_held_out[text],
            // Of more than 3 tokens, all the texts around it are in one group, so that "any" is also "all".
            Some(around) => around.iter().any(|&whole| !is_held_out[whole]),
        }
    };
    let train = (0..rows.len()).filter(stays).collect();
    Ok(Split { train, held_out })
}

/// Which texts are inside which whole texts.
struct Containment {
    /// The whole texts, longest first.
    whole: Vec<usize>,
    /// For every text that is not whole: the whole texts that contain it.
    inside: HashMap<usize, Vec<usize>>,
}

impl Containment {
    /// Goes through the texts from long to short. One that no earlier text contained is whole, and all its runs of tokens
    /// are looked up; other texts need no look-up, as their runs are runs of a whole text.
    fn of(rows: &[Vec<u32>], first_row: &HashMap<&[u32], usize>) -> Self {
        let mut texts: Vec<usize> = first_row.values().copied().collect();
        texts.sort_unstable_by_key(|&text| (std::cmp::Reverse(rows[text].len()), text));
        let mut whole = Vec::new();
        let mut inside: HashMap<usize, Vec<usize>> = HashMap::new();
        for text in texts {
            if inside.contains_key(&text) {
                continue;
            }
            whole.push(text);
            let tokens = &rows[text];
            let runs = (1..tokens.len()).flat_map(|length| tokens.windows(length));
            for part in runs.filter_map(|run| first_row.get(run)) {
                let around = inside.entry(*part).or_default();
                if around.last() != Some(&text) {
                    around.push(text);
                }
            }
        }
        Self { whole, inside }
    }

    /// The whole texts, in groups linked by the longer texts that they share. The order is that of the data.
    fn groups(&self, rows: &[Vec<u32>]) -> Vec<Vec<usize>> {
        let mut parent: Vec<usize> = (0..rows.len()).collect();
        for (part, around) in &self.inside {
            if rows[*part].len() > SHORT {
                for pair in around.windows(2) {
                    let (a, b) = (root(&mut parent, pair[0]), root(&mut parent, pair[1]));
                    // The smaller root wins, so that the result does not depend on the order of a hash map.
                    parent[a.max(b)] = a.min(b);
                }
            }
        }
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for &text in &self.whole {
            groups.entry(root(&mut parent, text)).or_default().push(text);
        }
        groups.into_values().collect()
    }
}

/// The representative of a set in a forest of parents, shortening the way on the go.
fn root(parent: &mut [usize], mut node: usize) -> usize {
    while parent[node] != node {
        parent[node] = parent[parent[node]];
        node = parent[node];
    }
    node
}

fn draw_groups(mut groups: Vec<Vec<usize>>, examples: usize, seed: u64) -> Vec<usize> {
    groups.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut held_out = Vec::with_capacity(examples);
    for group in groups {
        if held_out.len() + group.len() <= examples {
            held_out.extend(group);
        }
    }
    held_out.sort_unstable();
    held_out
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::catalog::Locations;
    use super::super::glue::{GlueSplit, read_sst2};
    use super::*;

    fn sentences(texts: &[&str]) -> Vec<Sentence> {
        let sentence = |text: &&str| Sentence { text: text.to_string(), label: 0 };
        texts.iter().map(sentence).collect()
    }

    fn tokens(sentence: &Sentence) -> Vec<&str> {
        sentence.text.split_whitespace().collect()
    }

    /// Whether `outer` contains `inner` as a run of tokens; a text contains itself.
    fn contains(outer: &[&str], inner: &[&str]) -> bool {
        outer.windows(inner.len()).any(|run| run == inner)
    }

    /// Checks the five guarantees by comparing texts pair by pair.
    fn check_by_brute_force(data: &[Sentence], split: &Split) {
        let rows: Vec<Vec<&str>> = data.iter().map(tokens).collect();
        let held: HashSet<&Vec<&str>> = split.held_out.iter().map(|&row| &rows[row]).collect();
        assert_eq!(held.len(), split.held_out.len());
        let whole = |row: &Vec<&str>| !rows.iter().any(|r| r.len() > row.len() && contains(r, row));
        let kept: Vec<&Vec<&str>> = split.train.iter().map(|&row| &rows[row]).collect();
        let whole_kept: Vec<_> = kept.iter().filter(|row| whole(row)).collect();
        for held in &held {
            assert!(whole(held), "1: {held:?}");
            for row in &kept {
                assert!(!contains(row, held), "2: {row:?} contains {held:?}");
                if contains(held, row) {
                    assert!(row.len() <= SHORT, "3: {held:?} contains {row:?}");
                    assert!(whole_kept.iter().any(|w| contains(w, row)), "5: {row:?}");
                }
            }
            for row in rows.iter().filter(|row| row.len() > SHORT && contains(held, row)) {
                assert!(!whole_kept.iter().any(|w| contains(w, row)), "4: {row:?}");
            }
        }
        for (row, text) in rows.iter().enumerate() {
            let in_train = split.train.binary_search(&row).is_ok();
            let in_held_out = split.held_out.binary_search(&row).is_ok();
            assert!(!(in_train && in_held_out));
            // Nothing is dropped without need.
            assert!(
                in_train || in_held_out || held.iter().any(|held| contains(held, text)),
                "{text:?}"
            );
        }
    }

    #[test]
    fn phrases_go_with_their_sentence() {
        let data = sentences(&[
            "a b c d e f",
            "b c d e",
            "c d",
            "a b c d e f",
            "u v w x y z",
            "v w x y",
            "w x",
            "c d w x",
        ]);
        let mut seen = HashSet::new();
        for seed in 0..20 {
            let split = hold_out_groups(&data, 1, seed).unwrap();
            check_by_brute_force(&data, &split);
            let expected_train: &[usize] = match split.held_out[0] {
                0 => &[2, 4, 5, 6, 7],
                4 => &[0, 1, 2, 3, 6, 7],
                7 => &[0, 1, 2, 3, 4, 5, 6],
                other => panic!("row {other} is no whole sentence"),
            };
            assert_eq!(split.train, expected_train);
            seen.insert(split.held_out[0]);
        }
        assert_eq!(seen.len(), 3, "every whole sentence is drawn by some seed");
    }

    #[test]
    fn sentences_that_share_a_longer_phrase_are_never_divided() {
        // The first two share the row of four tokens, the third shares only a short one.
        let data =
            sentences(&["m a b c d", "n a b c d", "a b c d", "o a b p", "a b", "q r s t", "u"]);
        for seed in 0..20 {
            let split = hold_out_groups(&data, 2, seed).unwrap();
            check_by_brute_force(&data, &split);
            assert_eq!(split.held_out.len(), 2);
            assert_eq!(split.held_out.contains(&0), split.held_out.contains(&1));
        }
    }

    #[test]
    fn random_texts_keep_every_guarantee() {
        use rand::RngExt;
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for seed in 0..30 {
            let words = ["a", "b", "c", "d", "e", "f", "g", "h"];
            let mut texts: Vec<String> = Vec::new();
            for _ in 0..12 {
                let length = rng.random_range(2..12);
                let sentence: Vec<&str> =
                    (0..length).map(|_| words[rng.random_range(0..8)]).collect();
                texts.push(sentence.join(" "));
                for _ in 0..4 {
                    let start = rng.random_range(0..length);
                    let end = rng.random_range(start + 1..=length);
                    texts.push(sentence[start..end].join(" "));
                }
            }
            let data = sentences(&texts.iter().map(String::as_str).collect::<Vec<_>>());
            let split = hold_out_groups(&data, 3, seed).unwrap();
            assert!(!split.held_out.is_empty());
            assert_eq!(split, hold_out_groups(&data, 3, seed).unwrap());
            check_by_brute_force(&data, &split);
        }
    }

    #[test]
    fn an_impossible_number_is_refused() {
        let data = sentences(&["a b", "a", "c d", "e"]);
        for examples in [0, 2, 9] {
            let error = hold_out_groups(&data, examples, 0).unwrap_err();
            assert!(error.is_user_error());
            assert!(error.to_string().contains("3 whole sentences"), "{error}");
        }
    }

    #[test]
    fn sst2_is_divided_without_leaks() {
        let mut locations = Locations::from_env(None);
        if locations.data_dir.is_none() {
            eprintln!("skipped: AUSN_DATA_DIR is not set");
            return;
        }
        locations.offline = true;
        let data = read_sst2(GlueSplit::Train, &locations).unwrap();
        let start = std::time::Instant::now();
        let split = hold_out_groups(&data, 800, 42).unwrap();
        let seconds = start.elapsed().as_secs_f64();
        let dropped = data.len() - split.train.len() - split.held_out.len();
        println!(
            "train {}, held out {}, dropped {dropped}, {seconds:.2} s",
            split.train.len(),
            split.held_out.len()
        );
        assert_eq!(split.held_out.len(), 800);
        assert!(split.train.len() > 55_000);

        // Guarantees 2 and 3 again, by text alone: with a space at both ends, substrings are runs of tokens.
        let spaced = |row: &usize| format!(" {} ", tokens(&data[*row]).join(" "));
        let held = split.held_out.iter().map(spaced).collect::<Vec<_>>().join("\n");
        let held_set: HashSet<String> = split.held_out.iter().map(spaced).collect();
        for row in &split.train {
            let text = spaced(row);
            assert!(!held_set.contains(&text));
            if tokens(&data[*row]).len() > SHORT {
                assert!(!held.contains(&text), "{text}");
            }
        }
    }
}
