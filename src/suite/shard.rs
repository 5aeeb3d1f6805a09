//! The part of a suite that one of several processes runs.

use std::str::FromStr;

use super::{Group, SuiteError};

/// Part `i` of `n`, as `i/n` counted from 1: every `n`-th group of cells from the `i`-th on.
///
/// Groups are never divided, so each float run is done by one shard, and no shard waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Default for Shard {
    fn default() -> Self {
        Self { index: 1, count: 1 }
    }
}

impl FromStr for Shard {
    type Err = SuiteError;

    fn from_str(text: &str) -> Result<Self, SuiteError> {
        let parts =
            text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, count)) if 1 <= index && index <= count => Ok(Self { index, count }),
            _ => Err(SuiteError::Shard { text: text.to_string() }),
        }
    }
}

impl Shard {
    /// Its groups.
    pub fn of(self, groups: Vec<Group>) -> Vec<Group> {
        groups.into_iter().skip(self.index - 1).step_by(self.count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::cell::tests::group;

    #[test]
    fn shards_are_a_partition_of_the_groups() {
        for groups in 0..9 {
            for count in 1..6 {
                let mut found = Vec::new();
                for index in 1..=count {
                    let all = (0..groups).map(|seed| group("task", seed, &["a", "b"])).collect();
                    let shard: Shard = format!("{index}/{count}").parse().unwrap();
                    let part = shard.of(all);
                    assert!(part.len().abs_diff(groups as usize / count) <= 1, "unequal");
                    assert!(part.iter().all(|group| group.cells.len() == 2), "divided");
                    found.extend(part.iter().map(|group| group.float.seed));
                }
                found.sort();
                assert_eq!(found, (0..groups).collect::<Vec<u64>>(), "{groups} in {count}");
            }
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b"] {
            let error = text.parse::<Shard>().expect_err(text).to_string();
            assert!(error.contains("1 <= i <= n"), "{error}");
        }
    }
}
