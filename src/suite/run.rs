//! Running the cells of a suite, several at once.

use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{Cell, Group, Outcome, Ran, Record, Runner, Stop, SuiteError};
use crate::evaluate::Summary;

/// What happens to a cell.
#[derive(Clone, Debug)]
pub enum Event {
    /// It begins to run.
    Started,
    /// It has ended with a result.
    Done {
        /// What is kept of it.
        record: Box<Record>,
        /// Seconds that it took this time.
        seconds: f64,
    },
    /// It had a result before.
    Found,
    /// It has failed.
    Failed {
        /// Why.
        reason: String,
    },
    /// It was stopped.
    Stopped,
    /// Another process runs it.
    Elsewhere,
}

/// How many cells ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Cells that ran to their end now.
    pub done: usize,
    /// Cells that had a result before.
    pub found: usize,
    /// Cells that failed, and those whose float run did.
    pub failed: usize,
    /// Cells that were stopped or never begun, as the user stopped the suite.
    pub stopped: usize,
    /// Cells that another process runs.
    pub elsewhere: usize,
}

/// Where a cell stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its float run has not ended.
    Blocked,
    Ready,
    Running,
    Ended,
}

struct Queue {
    /// Of each group, the float run and then its cells.
    states: Vec<Vec<State>>,
    tally: Tally,
    /// What stopped the suite.
    error: Option<SuiteError>,
}

struct Suite<'a> {
    groups: &'a [Group],
    queue: Mutex<Queue>,
    ended: Condvar,
    stop: &'a Stop,
    tell: &'a (dyn Fn(&Cell, Event) + Sync),
}

/// Runs everything that has no result yet, `jobs` cells at once. A cell that fails does not stop
/// the others; one that failed before is tried again.
///
/// # Errors
///
/// If what is kept of cells cannot be read or written.
pub fn run(
    groups: &[Group],
    runner: &dyn Runner,
    jobs: usize,
    stop: &Stop,
    tell: &(dyn Fn(&Cell, Event) + Sync),
) -> Result<Tally, SuiteError> {
    let mut queue = Queue { states: Vec::new(), tally: Tally::default(), error: None };
    for group in groups {
        queue.states.push(states(group, &mut queue.tally, tell)?);
    }
    let suite = Suite { groups, queue: Mutex::new(queue), ended: Condvar::new(), stop, tell };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| suite.work(runner));
        }
    });
    let queue = suite.queue.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut tally = queue.tally;
    let left = queue.states.iter().flatten().filter(|state| **state != State::Ended);
    tally.stopped += left.count();
    match queue.error {
        Some(error) => Err(error),
        None => Ok(tally),
    }
}

/// What there is to do in a group: of a float run without a result or without a model that cells
/// need, and of the cells without a result.
fn states(
    group: &Group,
    tally: &mut Tally,
    tell: &(dyn Fn(&Cell, Event) + Sync),
) -> Result<Vec<State>, SuiteError> {
    let done = |cell: &Cell| Record::load(cell).map(|r| r.is_some_and(|record| record.is_done()));
    let cells = group.cells.iter().map(done).collect::<Result<Vec<bool>, _>>()?;
    let all_cells = cells.iter().all(|done| *done);
    let float = done(&group.float)? && (all_cells || has_model(&group.float.run));
    let state = |cell: &Cell, done: bool, otherwise: State| match done {
        true => {
            tell(cell, Event::Found);
            State::Ended
        }
        false => otherwise,
    };
    let mut states = vec![state(&group.float, float, State::Ready)];
    let otherwise = if float { State::Ready } else { State::Blocked };
    states.extend(group.cells.iter().zip(cells).map(|(cell, done)| state(cell, done, otherwise)));
    tally.found += states.iter().filter(|state| **state == State::Ended).count();
    Ok(states)
}

/// Whether a float run is complete with its model.
pub(super) fn has_model(run: &Path) -> bool {
    [Summary::FILE, "config.toml", "float.bpk"].iter().all(|file| run.join(file).is_file())
}

impl Suite<'_> {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one cell after the other until none is left.
    fn work(&self, runner: &dyn Runner) {
        while let Some((group, index)) = self.next() {
            let cell = self.groups[group].all().nth(index).expect("the states are of the cells");
            (self.tell)(cell, Event::Started);
            let begin = Instant::now();
            let ran = runner.run(cell);
            let seconds = begin.elapsed().as_secs_f64();
            self.end(group, index, ran, seconds);
        }
    }

    /// The next cell to run; waits for a float run where only its cells are left.
    fn next(&self) -> Option<(usize, usize)> {
        let mut queue = self.lock();
        loop {
            if self.stop.requested() || queue.error.is_some() {
                return None;
            }
            let find = |wanted: State| {
                let states = queue.states.iter().enumerate();
                states.filter_map(|(g, s)| Some((g, s.iter().position(|s| *s == wanted)?))).next()
            };
            match (find(State::Ready), find(State::Blocked)) {
                (Some((group, index)), _) => {
                    queue.states[group][index] = State::Running;
                    return Some((group, index));
                }
                (None, None) => return None,
                (None, Some(_)) => {
                    queue = self.ended.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Keeps what became of a cell, and of those that wait for it.
    fn end(&self, group: usize, index: usize, ran: Ran, seconds: f64) {
        let cell = self.groups[group].all().nth(index).expect("the states are of the cells");
        let kept = match &ran {
            Ran::Done => Record::keep_result(cell).map(Some),
            Ran::Failed(reason) => Record::keep_failure(cell, reason).map(Some),
            Ran::Stopped | Ran::Elsewhere => Ok(None),
        };
        let ran = match (&kept, ran) {
            (Ok(Some(Record { outcome: Outcome::Failed { reason }, .. })), Ran::Done) => {
                Ran::Failed(reason.clone())
            }
            (_, ran) => ran,
        };
        let mut queue = self.lock();
        queue.states[group][index] = State::Ended;
        let (event, waiting) = match (kept, ran) {
            (Err(error), _) => {
                queue.error.get_or_insert(error);
                self.ended.notify_all();
                return;
            }
            (Ok(Some(record)), Ran::Done) => {
                queue.tally.done += 1;
                (Event::Done { record: Box::new(record), seconds }, None)
            }
            (_, Ran::Failed(reason)) => {
                queue.tally.failed += 1;
                let of_cells = format!("its float run failed: {reason}");
                (Event::Failed { reason }, Some(Ran::Failed(of_cells)))
            }
            (_, Ran::Elsewhere) => {
                queue.tally.elsewhere += 1;
                (Event::Elsewhere, Some(Ran::Elsewhere))
            }
            (_, Ran::Stopped | Ran::Done) => {
                queue.tally.stopped += 1;
                (Event::Stopped, Some(Ran::Stopped))
            }
        };
        (self.tell)(cell, event);
        let blocked: Vec<usize> = (1..queue.states[group].len())
            .filter(|i| index == 0 && queue.states[group][*i] == State::Blocked)
            .collect();
        match waiting {
            None => blocked.iter().for_each(|&i| queue.states[group][i] = State::Ready),
            Some(ran) => {
                drop(queue);
                blocked.iter().for_each(|&i| self.end(group, i, ran.clone(), 0.0));
            }
        }
        self.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::suite::cell::tests::group;

    /// Ends each cell as it is told, and remembers in which order they began.
    #[derive(Default)]
    struct Scripted {
        ends: HashMap<String, Ran>,
        begun: Mutex<Vec<String>>,
        running: AtomicUsize,
        most: AtomicUsize,
    }

    impl Runner for Scripted {
        fn run(&self, cell: &Cell) -> Ran {
            self.begun.lock().unwrap().push(cell.to_string());
            let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(running, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(5));
            self.running.fetch_sub(1, Ordering::SeqCst);
            self.ends.get(&cell.to_string()).cloned().unwrap_or(Ran::Elsewhere)
        }
    }

    /// Two tasks of two cells each, with nothing kept of them; failures are kept in `folder`.
    fn groups(folder: &Path) -> Vec<Group> {
        let mut groups = vec![group("x", 1, &["a", "b"]), group("y", 1, &["a", "b"])];
        for group in &mut groups {
            for cell in std::iter::once(&mut group.float).chain(&mut group.cells) {
                cell.kept = folder.join(cell.to_string());
            }
        }
        groups
    }

    #[test]
    fn cells_of_a_failed_float_run_fail_with_it_and_the_others_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let groups = groups(folder.path());
        let runner = Scripted {
            ends: HashMap::from([("x, float, seed 1".into(), Ran::Failed("no".into()))]),
            ..Scripted::default()
        };
        let events = Mutex::new(Vec::new());
        let tell = |cell: &Cell, event: Event| {
            if let Event::Failed { reason } = event {
                events.lock().unwrap().push(format!("{cell}: {reason}"));
            }
        };
        let tally = run(&groups, &runner, 2, &Stop::default(), &tell).unwrap();
        assert_eq!(tally, Tally { failed: 3, elsewhere: 3, ..Tally::default() });
        assert_eq!(
            events.into_inner().unwrap(),
            [
                "x, float, seed 1: no",
                "x, a, seed 1: its float run failed: no",
                "x, b, seed 1: its float run failed: no"
            ]
        );
        let mut begun = runner.begun.into_inner().unwrap();
        begun.sort();
        assert_eq!(begun, ["x, float, seed 1", "y, float, seed 1"]);
        assert_eq!(runner.most.into_inner(), 2, "two at once");
        let record = Record::load(&groups[0].cells[1]).unwrap().unwrap();
        assert!(!record.is_done());
    }

    /// A float run that is repeated for its model, and a run that lacks the split of the suite.
    #[test]
    fn a_result_outlives_a_failed_repetition_and_a_wrong_split_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let mut groups = groups(folder.path());
        let layer = r#"{"layer": "l", "weight": null, "activation": null}"#;
        let summary = format!(
            r#"{{"metric": {{"name": "accuracy", "unit": "fraction", "higher_is_better": true}},
            "seconds": {{"float": 1, "quantized": 0}}, "first_layer": {layer}, "last_layer": {layer},
            "splits": {{"float": [{{"split": "valid", "value": 0.5, "examples": 9}}],
            "calibrated": [], "quantized": []}}, "version": "1", "commit": null}}"#
        );
        let float = &mut groups[0].float;
        float.run = folder.path().join("run");
        std::fs::create_dir_all(&float.run).unwrap();
        std::fs::write(float.run.join("summary.json"), &summary).unwrap();
        assert!(Record::keep_result(float).unwrap().is_done());
        Record::keep_failure(float, "no").unwrap();
        assert!(Record::load(float).unwrap().unwrap().is_done());

        // A failure of another configuration stands beside the result, which is there again with the first one.
        let mut changed = float.clone();
        changed.fingerprint.push('x');
        assert!(Record::load(&changed).unwrap().is_none());
        Record::keep_failure(&changed, "no").unwrap();
        assert!(!Record::load(&changed).unwrap().unwrap().is_done());
        assert!(Record::load(float).unwrap().unwrap().is_done());
        // A result takes the place of all that was there.
        std::fs::write(float.kept.join("layers.csv"), "of another").unwrap();
        assert!(Record::keep_result(&changed).unwrap().is_done());
        assert!(
            !float.kept.join("layers.csv").exists() && !float.kept.join("failure.json").exists()
        );
        assert!(Record::load(float).unwrap().is_none());
        assert!(Record::keep_result(float).unwrap().is_done());

        std::fs::write(float.run.join("summary.json"), "{\"metric\": 1}").unwrap();
        assert!(Record::keep_result(float).unwrap().is_done(), "the earlier result stays");
        std::fs::remove_dir_all(&float.kept).unwrap();
        let Outcome::Failed { reason } = Record::keep_result(float).unwrap().outcome else {
            panic!("it has no result")
        };
        assert!(reason.contains("delete") && reason.contains("to run it again"), "{reason}");
        std::fs::write(float.run.join("summary.json"), summary).unwrap();

        let other = &mut groups[1].float;
        other.run = folder.path().join("run");
        other.split = Some("dev".into());
        let runner = Scripted {
            ends: HashMap::from([("y, float, seed 1".into(), Ran::Done)]),
            ..Scripted::default()
        };
        let tally = run(&groups, &runner, 1, &Stop::default(), &|_, _| {}).unwrap();
        assert_eq!(tally, Tally { failed: 3, elsewhere: 3, ..Tally::default() });
        let record = Record::load(&groups[1].float).unwrap().unwrap();
        let Outcome::Failed { reason } = record.outcome else { panic!("{record:?}") };
        assert_eq!(reason, "the suite asks for the split `dev`, the task has valid");
    }

    #[test]
    fn a_damaged_record_is_a_failure_that_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let groups = groups(folder.path());
        let float = &groups[0].float;
        std::fs::create_dir_all(&float.kept).unwrap();
        std::fs::write(float.kept.join("result.json"), "{\"task\": ").unwrap();
        let Outcome::Failed { reason } = Record::load(float).unwrap().unwrap().outcome else {
            panic!("it holds no result")
        };
        assert!(reason.contains("result.json is damaged: EOF"), "{reason}");
        let runner = Scripted::default();
        run(&groups, &runner, 1, &Stop::default(), &|_, _| {}).unwrap();
        assert!(runner.begun.into_inner().unwrap().contains(&float.to_string()));
    }

    #[test]
    fn nothing_begins_after_a_stop() {
        let folder = tempfile::tempdir().unwrap();
        let stop = Stop::default();
        stop.request();
        let runner = Scripted::default();
        let tally = run(&groups(folder.path()), &runner, 2, &stop, &|_, _| {}).unwrap();
        assert_eq!(tally, Tally { stopped: 6, ..Tally::default() });
        assert_eq!(runner.begun.into_inner().unwrap().len(), 0);
    }
}
