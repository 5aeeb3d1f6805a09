//! Suites: `ausn table`.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{BERT, BINARY, LSTM, Said, Workspace};

/// Two tasks, two cells, two seeds.
const SUITE: &str = r#"
name = "tiny"
seeds = [1, 2]
out = "results"

[[task]]
name = "lstm"
config = "lstm.toml"
set = { "task.digits.valid-fraction" = 0.8 }

[[task]]
name = "bert"
config = "bert.toml"

[[cell]]
name = "AUSN 2,1 / 8"
weight = { coding = "ausn", exponent-bits = 2, superposition-bits = 1 }
activation = { coding = "ausn", bits = 8 }

[[cell]]
name = "AUSN 3/8"
weight = { coding = "ausn", bits = 3 }
activation = { coding = "ausn", bits = 8 }
"#;

/// One task of hundreds of steps an epoch, long enough to be stopped in its middle.
const LONG: &str = r#"
name = "long"
seeds = [1]
out = "results"

[[task]]
name = "bert"
config = "bert.toml"
set = { "train.epochs" = 2, "train.batch-size" = 4, "task.listops.train-examples" = 1500 }

[[cell]]
name = "AUSN 4/8"
weight = { coding = "ausn", bits = 4 }

[[cell]]
name = "AUSN 3/8"
weight = { coding = "ausn", bits = 3 }
"#;

fn workspace(suite: &str) -> Workspace {
    let workspace = Workspace::new();
    workspace.write("lstm.toml", LSTM);
    workspace.write("bert.toml", BERT);
    workspace.write("suite.toml", suite);
    workspace
}

const QUIET: [&str; 3] = ["table", "suite.toml", "--quiet"];

/// Task, cell and every figure of a table that the machine's speed has no part in.
fn figures(table: &Value) -> Vec<Value> {
    let tasks = table["tasks"].as_array().unwrap();
    let rows = tasks.iter().flat_map(|task| {
        task["rows"].as_array().unwrap().iter().map(|row| {
            let of = |key: &str| row[key].clone();
            let figures =
                ["cell", "float", "calibrated", "quantized", "difference", "standing", "seeds"];
            Value::from_iter([task["task"].clone()].into_iter().chain(figures.map(of)))
        })
    });
    rows.collect()
}

/// The run folders that have a file, each as `suite/task/run`, with the content of the file. Runs
/// may go on meanwhile.
fn runs(workspace: &Workspace, file: &str) -> Vec<(String, Vec<u8>)> {
    let mut folders = vec![String::new()];
    for _ in ["suite", "task", "run"] {
        let below = |folder: &String| {
            let entries = fs::read_dir(workspace.path("runs").join(folder));
            let names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name());
            let folder = folder.clone();
            names.map(move |name| {
                format!("{folder}/{}", name.to_string_lossy()).trim_start_matches('/').to_string()
            })
        };
        folders = folders.iter().flat_map(below).collect();
    }
    folders.sort();
    let content = |run: String| {
        let content = fs::read(workspace.path("runs").join(&run).join(file)).ok()?;
        Some((run, content))
    };
    folders.into_iter().filter_map(content).collect()
}

#[test]
fn a_suite_leaves_tables_and_is_not_run_twice() {
    let workspace = workspace(SUITE);
    let assert = workspace.ausn(["table", "suite.toml", "--jobs", "2"]).success();
    assert.says(["/12] lstm, float, seed 1: started", "[12/12] bert, ", ": accuracy 0."]).prints([
        "| coding | lstm, accuracy",
        "#### bert",
        "tables: results/table.*",
    ]);
    let summaries = runs(&workspace, "summary.json");
    assert_eq!(summaries.len(), 12, "2 tasks, 2 seeds, float and 2 cells");

    // Every cell starts from the float model of its task and seed, and its figures are in the table.
    let table = workspace.json("results/table.json");
    for (index, task) in ["lstm", "bert"].into_iter().enumerate() {
        for seed in [1, 2] {
            let of = |prefix: &str, file: &str| {
                let found = workspace.files("runs/tiny").into_iter().find(|(name, _)| {
                    name.starts_with(&format!("{task}/{prefix}-seed-{seed}-"))
                        && name.ends_with(&format!("/{file}"))
                });
                found.unwrap_or_else(|| panic!("{task} {prefix} {seed} {file}")).1
            };
            assert!(of("float", "float.bpk") == of("ausn-3-8", "float.bpk"), "{task} {seed}");
            assert!(of("float", "float.bpk") == of("ausn-2-1-8", "float.bpk"), "{task} {seed}");
            let summary: Value = serde_json::from_slice(&of("ausn-3-8", "summary.json")).unwrap();
            assert_eq!(summary["seconds"]["float"], 0.0, "trained anew");
            let run = &table["tasks"][index]["rows"][2]["runs"][seed - 1];
            assert_eq!(run["seed"], seed);
            let [shown, measured] = [&run["summary"], &summary].map(|s| &s["splits"]["quantized"]);
            assert_eq!(shown[0]["value"], measured[0]["value"]);
        }
        let row = &table["tasks"][index]["rows"][2];
        let value = |seed: usize| {
            row["runs"][seed]["summary"]["splits"]["quantized"][0]["value"].as_f64().unwrap()
        };
        let (a, b) = (value(0), value(1));
        let near = |key: &str, expected: f64| {
            let found = row["quantized"][key].as_f64().unwrap();
            assert!((found - expected).abs() < 1e-12, "{task} {key}: {found}, not {expected}");
        };
        near("mean", (a + b) / 2.0);
        near("deviation", (a - b).abs() / 2.0_f64.sqrt());
        assert_eq!(row["first_layer"][0]["weight"], 3);
        assert_eq!(row["last_layer"][1]["activation"], 8);
    }
    let csv = workspace.read("results/table.csv");
    assert_eq!(csv.lines().count(), 1 + 2 * 3);
    let html = workspace.read("results/table.html");
    assert!(html.contains("<th scope=\"row\">AUSN 3/8</th>"), "{html}");
    assert!(!html.contains("http") && !html.contains("src="), "it needs something else");
    let markdown = workspace.read("results/table.md");
    let row = markdown.lines().find(|line| line.starts_with("| AUSN 3/8 | 3 / 8 |")).unwrap();
    assert!(row.contains(" | 3 / 8 | 3 / 8 | last of 1 | "), "{row}");
    for file in ["result.json", "config.toml", "layers.csv", "epochs.jsonl", "resamples.jsonl"] {
        assert!(
            workspace.path("results/cells/bert/ausn-3-8-seed-2").join(file).is_file(),
            "{file}"
        );
    }
    let temporary = workspace.temporary_files("results");
    assert_eq!(temporary, [""; 0]);

    // Again: nothing runs, and everything stays.
    let (results, files) = (workspace.files("results"), workspace.files("runs"));
    let assert = workspace.ausn(["table", "suite.toml"]).success();
    let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(!said.contains("started"), "{said}");
    assert!(workspace.files("runs") == files, "a run was touched");
    assert!(workspace.files("results") == results, "a result has changed");

    // A float model that is gone is trained again for the cells that need it.
    for (name, _) in files.iter().filter(|(name, _)| name.starts_with("tiny/lstm/")) {
        let of_seed = name.contains("-seed-1-");
        if of_seed && (name.contains("/ausn-3-8-") || name.ends_with("/float.bpk")) {
            workspace.remove(&format!("runs/{name}"));
        }
    }
    workspace.remove("results/cells/lstm/ausn-3-8-seed-1/result.json");
    workspace.ausn(QUIET).success();
    assert_eq!(figures(&workspace.json("results/table.json")), figures(&table));
    workspace.ausn(["table", "suite.toml", "--tables-only"]).success();
    let results = workspace.files("results");

    // The tables are made of the results alone.
    fs::remove_dir_all(workspace.path("runs")).unwrap();
    for form in ["md", "csv", "json", "html"] {
        workspace.remove(&format!("results/table.{form}"));
    }
    workspace.ausn(["table", "suite.toml", "--tables-only"]).success();
    assert!(workspace.files("results") == results, "the tables are others");

    // In parts: each float run in one part, and together the same.
    let parts = self::workspace(SUITE);
    parts.ausn(QUIET.iter().chain(&["--shard", "1/2"])).success();
    let first: Vec<String> = runs(&parts, "summary.json").into_iter().map(|run| run.0).collect();
    assert_eq!(first.len(), 6);
    assert!(first.iter().all(|run| run.contains("-seed-1-")), "{first:?}");
    assert!(parts.read("results/table.md").contains("1 of 2; not run: seed 2"));
    parts.ausn(QUIET.iter().chain(&["--shard", "2/2"])).success();
    assert_eq!(runs(&parts, "summary.json").len(), 12);
    assert_eq!(figures(&parts.json("results/table.json")), figures(&table));
}

#[cfg(unix)]
#[test]
fn a_killed_suite_goes_on_and_ends_with_the_same_table() {
    let whole = workspace(LONG);
    whole.ausn(QUIET).success();
    let expected = figures(&whole.json("results/table.json"));

    for signal in ["-KILL", "-INT"] {
        let workspace = workspace(LONG);
        let mut suite = Background::start(&workspace, &QUIET);
        // In the middle of the first cell: the float run is done, the second cell has not begun.
        suite.wait_until(|| {
            let metrics = runs(&workspace, "metrics.jsonl");
            metrics.iter().any(|(run, text)| {
                run.contains("/ausn-4-8-") && String::from_utf8_lossy(text).contains("\"epoch\":2")
            })
        });
        suite.signal(signal);
        let (code, message) = suite.wait();
        if signal == "-INT" {
            assert_eq!(code, Some(130), "{message}");
            assert!(message.contains("stopped with 2 cells left; the same command goes on"));
        }
        let summaries = runs(&workspace, "summary.json");
        let [(float, _)] = &summaries[..] else { panic!("{} runs are done", summaries.len()) };
        let modified = |path: &str| {
            let summary = workspace.path("runs").join(path).join("summary.json");
            fs::metadata(summary).unwrap().modified().unwrap()
        };
        let before = modified(float);

        let assert = workspace.ausn(["table", "suite.toml"]).success();
        let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        assert!(!said.contains("float, seed 1: started"), "{said}");
        assert!(said.contains("AUSN 4/8, seed 1: started"), "{said}");
        assert_eq!(modified(float), before, "the float run was run again");
        assert_eq!(figures(&workspace.json("results/table.json")), expected, "{signal}");
    }
}

#[test]
fn a_cell_that_fails_stands_as_failed_and_the_others_run() {
    let suite = format!(
        r#"{SUITE}
[[cell]]
name = "no such range"
weight = {{ coding = "ausn", bits = 4, range = "fixed", range-exponent = 900 }}

[[task]]
name = "diverges"
config = "bert.toml"
set = {{ "model.bert.initializer-range" = 1e30 }}
"#
    )
    .replace("[1, 2]", "[1]");
    let workspace = workspace(&suite);
    workspace.ausn(["table", "suite.toml"]).code(1).says([
        "lstm, no such range, seed 1: failed: ",
        "diverges, float, seed 1: failed: float stage, epoch 1: the training loss became",
        "diverges, AUSN 3/8, seed 1: failed: its float run failed: float stage",
        "error: 6 of 12 cells failed; the table says why",
    ]);
    let table = workspace.json("results/table.json");
    for task in 0..2 {
        let rows = &table["tasks"][task]["rows"];
        assert!(rows[1]["quantized"]["mean"].is_f64() && rows[2]["quantized"]["mean"].is_f64());
        assert_eq!(rows[1]["quantized"]["deviation"], Value::Null);
        let (p, n) = (
            rows[1]["quantized"]["mean"].as_f64().unwrap(),
            table["tasks"][task]["examples"]["start"].as_f64().unwrap(),
        );
        let error = rows[1]["standard_error"]["quantized"].as_f64().unwrap();
        assert!((error - (p * (1.0 - p) / n).sqrt()).abs() < 1e-15, "{error}");
        assert_eq!(rows[3]["quantized"], Value::Null);
        let reason = rows[3]["failed"][0]["reason"].as_str().unwrap();
        assert!(reason.contains("900"), "{reason}");
    }
    let markdown = workspace.read("results/table.md");
    let failed = markdown.lines().filter(|line| line.starts_with("| no such range | 4 / 8 |"));
    let failed: Vec<&str> = failed.collect();
    assert_eq!(failed.len(), 3);
    assert!(failed.iter().all(|row| row.contains("| failed |") && row.contains("seed 1 failed: ")));
    assert!(markdown.contains("(1 seed, SE "), "{markdown}");

    // It is tried again, and what failed before alone.
    let assert = workspace.ausn(["table", "suite.toml"]).code(1);
    let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert_eq!(said.matches(": started").count(), 3, "{said}");
}

#[test]
fn what_would_fail_at_the_end_is_refused_at_the_start() {
    let workspace = workspace(SUITE);
    workspace.write("empty.md", "no place");
    for (readme, said) in
        [("absent.md", "--readme: cannot read absent.md"), ("empty.md", "empty.md")]
    {
        workspace.ausn(["table", "suite.toml", "--readme", readme]).code(2).says([said]);
        assert!(!workspace.path("runs").exists(), "{readme}");
    }
    workspace.write("suite.toml", SUITE.replace("task.digits.valid-fraction", "train.seed"));
    workspace.ausn(["table", "suite.toml"]).code(2).says(["train.seed", "write `seeds` instead"]);
}

#[test]
fn a_dry_run_checks_and_lists_the_cells_and_leaves_nothing() {
    let workspace = workspace(SUITE);
    workspace.ausn(["table", "suite.toml", "--dry-run"]).success().prints([
        "12 cells, 0 of them done; all configurations are valid",
        "AUSN 2,1 / 8",
        "to do",
    ]);
    let part = workspace.ausn(["table", "suite.toml", "--dry-run", "--shard", "2/2", "--json"]);
    let cells = part.success().json();
    let cells = cells.as_array().unwrap();
    assert_eq!(cells.len(), 6);
    assert!(cells.iter().all(|cell| cell["seed"] == 2), "{cells:?}");
    let part = ["--task", "LSTM", "--cell", "ausn-3-8", "--seed", "1"];
    let part = workspace.ausn(["table", "suite.toml", "--dry-run", "--json"].iter().chain(&part));
    let cells = part.success().json();
    let cells = cells.as_array().unwrap();
    let names = cells.iter().map(|cell| cell["cell"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["float", "AUSN 3/8"]);
    assert!(!workspace.path("runs").exists() && !workspace.path("results").exists());
}

#[test]
fn what_is_wrong_in_a_suite_is_refused_before_anything_runs() {
    let workspace = workspace("");
    for (old, new, expected) in [
        ("seeds =", "sedes =", &["suite.toml: line 3", "did you mean `seeds`?"][..]),
        (
            "config = \"bert",
            "config = \"bret",
            &["line 13: task.1.config", "did you mean `bert.toml`?"],
        ),
        (
            "bits = 3",
            "bits = 33",
            &[
                "4 of 12 cells are refused",
                "lstm, AUSN 3/8, seed 1: lstm.toml, line",
                "bits is 33; must be 2 to 16",
            ],
        ),
        ("bits = 3", "bit = 3", &["lstm, AUSN 3/8, seed 2", "unknown field `bit`"]),
        ("digits.valid", "digit.valid", &["2 of 12 cells are refused", "unknown field `digit`"]),
        ("coding = \"ausn\", bits = 3", "bits = 3", &["cell.1.weight has no `coding`"]),
    ] {
        assert!(SUITE.contains(old), "{old}");
        workspace.write("suite.toml", SUITE.replace(old, new));
        for dry in [&["--dry-run"][..], &[]] {
            let command = ["table", "suite.toml"].iter().chain(dry);
            workspace.ausn(command).code(2).says(expected).stdout("");
        }
    }
    workspace.write("suite.toml", SUITE);
    for (options, expected) in [
        (&["--shard", "3/2"][..], "--shard 3/2: must be i/n"),
        (&["--task", "lsmt"], "--task `lsmt`: is none of `lstm`, `bert`; did you mean `lstm`?"),
        (&["--cell", "INT 4/8"], "--cell `INT 4/8`: is none of `float`, "),
        (&["--seed", "3"], "--seed `3`: is none of `1`, `2`"),
        (&["--jobs", "0"], "at least 1"),
        (&["--tables-only", "--task", "lstm"], "cannot be used with"),
        (&["--device", "tpu"], "--device"),
        (&["--tables-only", "--dry-run"], "cannot be used with"),
    ] {
        workspace.ausn(["table", "suite.toml"].iter().chain(options)).code(2).says([expected]);
    }
    workspace.ausn(["table", "suit.toml"]).code(2).says(["cannot read the suite suit.toml"]);
    assert!(!workspace.path("runs").exists() && !workspace.path("results").exists());
}

#[test]
fn a_readme_gets_the_table_between_its_markers() {
    let workspace = workspace(SUITE);
    workspace.write("README.md", "before\n<!-- table:tiny -->\nold\n<!-- /table -->\nafter\n");
    let command = ["table", "suite.toml", "--tables-only", "--readme", "README.md"];
    workspace.ausn(command).success();
    let table = workspace.read("results/table.md");
    assert!(table.contains("Not run: `float`, "), "{table}");
    let (overview, _) = table.split_once("\n\n####").expect("details of the tasks");
    let expected = format!("before\n<!-- table:tiny -->\n\n{overview}\n\n<!-- /table -->\nafter\n");
    assert_eq!(workspace.read("README.md"), expected);
    workspace.ausn(command).success();
    assert_eq!(workspace.read("README.md"), expected);

    workspace.write("README.md", "nothing\n");
    workspace.ausn(command).code(2).says(["README.md: has no place", "<!-- table:tiny -->"]);
    assert_eq!(workspace.read("README.md"), "nothing\n");
}

#[test]
fn every_suite_that_ships_passes_its_dry_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in fs::read_dir(root.join("experiments")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            // Their paths are relative to the repository.
            let mut command = Command::new(BINARY);
            command.args(["table", "--dry-run"]).arg(&path).current_dir(root);
            crate::support::run(command).success().prints(["all configurations are valid"]);
            count += 1;
        }
    }
    assert!(count >= 3, "{count}");
}

#[test]
fn a_coding_that_is_not_fine_tuned_counts_straight_after_calibration() {
    let workspace = workspace(
        r#"
name = "tiny"
seeds = [1]
out = "results"

[[task]]
name = "lstm"
config = "lstm.toml"

[[cell]]
name = "INT 3/8"
weight = { coding = "int", bits = 3 }
activation = { coding = "int", bits = 8 }

[[cell]]
name = "INT 3/8, learned rounding"
weight = { coding = "int", bits = 3 }
activation = { coding = "int", bits = 8 }
set = { "train.quantized.epochs" = 0, "quant.post-training.rounding" = "learned" }
"#,
    );
    workspace.ausn(QUIET).success();
    let table = workspace.json("results/table.json");
    let [float, tuned, rounded] = [0, 1, 2].map(|row| &table["tasks"][0]["rows"][row]);
    assert_eq!(rounded["quantized"], Value::Null);
    let mean = |row: &Value, stage: &str| row[stage]["mean"].as_f64().unwrap();
    assert_ne!(mean(rounded, "calibrated"), mean(tuned, "calibrated"), "not rounded otherwise");
    let lost = 100.0 * (mean(rounded, "calibrated") - mean(float, "float"));
    assert!((mean(rounded, "difference") - lost).abs() < 1e-9);
    let markdown = workspace.read("results/table.md");
    let row = markdown.lines().find(|line| line.starts_with("| INT 3/8, learned")).unwrap();
    let figures: Vec<&str> = row.split('|').map(str::trim).collect();
    assert!(figures[3].contains("(1 seed, SE ") && figures[4].is_empty(), "{row}");
    assert!(figures[6].ends_with("%)"), "errors of weights and activations: {row}");
    assert_eq!(figures[9], "none", "{row}");
}

/// A suite that runs in the background. Killed with the test that started it.
struct Background<'a> {
    workspace: &'a Workspace,
    child: Child,
}

impl<'a> Background<'a> {
    fn start(workspace: &'a Workspace, args: &[&str]) -> Self {
        let mut command = workspace.process(BINARY);
        command.args(args).stdout(Stdio::null());
        command.stderr(File::create(workspace.path("stderr")).unwrap());
        Self { workspace, child: command.spawn().unwrap() }
    }

    fn wait_until(&mut self, ready: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !ready() {
            assert!(Instant::now() < end, "{}", self.workspace.read("stderr"));
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success(), "the suite ended before it could be stopped");
    }

    fn wait(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        let message = self.workspace.read("stderr");
        assert!(!message.contains("panicked"), "{message}");
        (status.code(), message)
    }
}

impl Drop for Background<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
