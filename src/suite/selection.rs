//! The part of a suite that is named.

use super::error::closest;
use super::file::slug;
use super::{Cell, Group, SuiteError};

/// Tasks, cells and seeds by name; of what none are named, all are meant.
///
/// A name counts by its letters and digits alone, so that `sst-2-minilm`, as the folders are called,
/// stands for `SST-2, MiniLM`. `float` stands for the float runs without their cells.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Names of tasks.
    pub tasks: Vec<String>,
    /// Names of cells.
    pub cells: Vec<String>,
    /// Seeds.
    pub seeds: Vec<u64>,
}

impl Selection {
    /// What is selected of all groups of a suite. A group keeps its float run, which its cells start
    /// from.
    ///
    /// # Errors
    ///
    /// A name that is no task's or no cell's, and a seed that no selected task has.
    pub fn of(&self, mut groups: Vec<Group>) -> Result<Vec<Group>, SuiteError> {
        known("--task", &self.tasks, groups.iter().map(|group| group.float.task.as_str()))?;
        known("--cell", &self.cells, groups.iter().flat_map(Group::all).map(Cell::name))?;

        groups.retain(|group| selects(&self.tasks, &group.float.task));
        let seeds: Vec<String> = groups.iter().map(|group| group.float.seed.to_string()).collect();
        let asked: Vec<String> = self.seeds.iter().map(u64::to_string).collect();
        known("--seed", &asked, seeds.iter().map(String::as_str))?;

        groups.retain(|group| selects(&asked, &group.float.seed.to_string()));
        for group in &mut groups {
            group.cells.retain(|cell| selects(&self.cells, cell.name()));
        }
        Ok(groups)
    }
}

/// Whether a name is among those that are asked for, or none are.
fn selects(asked: &[String], name: &str) -> bool {
    asked.is_empty() || asked.iter().any(|asked| slug(asked) == slug(name))
}

fn known<'a>(
    option: &'static str,
    asked: &[String],
    names: impl Iterator<Item = &'a str>,
) -> Result<(), SuiteError> {
    let mut known: Vec<&str> = Vec::new();
    for name in names {
        if !known.contains(&name) {
            known.push(name);
        }
    }
    let unknown = asked.iter().find(|asked| known.iter().all(|name| slug(name) != slug(asked)));
    unknown.map_or(Ok(()), |unknown| {
        Err(SuiteError::Selection {
            option,
            found: unknown.clone(),
            closest: closest(unknown, known.iter().copied()).map(str::to_string),
            known: known.into_iter().map(str::to_string).collect(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::cell::tests::group;

    fn groups() -> Vec<Group> {
        let columns = ["INT 4/8", "AUSN 4/8"];
        [("SST-2, MiniLM", 1), ("SST-2, MiniLM", 2), ("BCCD", 1)]
            .map(|(task, seed)| group(task, seed, &columns))
            .into()
    }

    fn select(tasks: &[&str], cells: &[&str], seeds: &[u64]) -> Result<Vec<String>, String> {
        let own = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        let selection = Selection { tasks: own(tasks), cells: own(cells), seeds: seeds.to_vec() };
        let groups = selection.of(groups()).map_err(|error| error.to_string())?;
        Ok(groups.iter().flat_map(Group::all).map(ToString::to_string).collect())
    }

    #[test]
    fn all_is_selected_where_nothing_is_named() {
        assert_eq!(select(&[], &[], &[]).unwrap().len(), 9);
    }

    #[test]
    fn tasks_cells_and_seeds_narrow_each_other() {
        let two = ["SST-2, MiniLM, float, seed 2", "SST-2, MiniLM, INT 4/8, seed 2"];
        assert_eq!(select(&["SST-2, MiniLM"], &["INT 4/8"], &[2]).unwrap(), two);
        assert_eq!(select(&["sst-2-minilm"], &["int-4-8"], &[2]).unwrap(), two, "folders' names");
        assert_eq!(select(&["bccd", "sst-2 minilm"], &[], &[1]).unwrap().len(), 6);
        assert_eq!(select(&["BCCD"], &["float"], &[]).unwrap(), ["BCCD, float, seed 1"]);
    }

    #[test]
    fn what_is_not_there_is_refused_with_what_is() {
        for (tasks, cells, seeds, said) in [
            (
                &["SST2, MiniLM"][..],
                &[][..],
                &[][..],
                "--task `SST2, MiniLM`: is none of `SST-2, MiniLM`, `BCCD`; did you mean `SST-2, MiniLM`?",
            ),
            (&[], &["INT 3/8"], &[], "`float`, `INT 4/8`, `AUSN 4/8`; did you mean `INT 4/8`?"),
            (&[], &[], &[3], "--seed `3`: is none of `1`, `2`"),
            (&["BCCD"], &[], &[2], "--seed `2`: is none of `1`"),
        ] {
            let error = select(tasks, cells, seeds).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
