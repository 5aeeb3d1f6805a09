//! Runs that are stopped on the way and go on later.

use std::process::ExitStatus;

use crate::support::{BERT, LSTM, RESNET, Said, Training, Workspace};

/// Epochs of hundreds of steps, long enough to be stopped in their middle.
const STEPS: [&str; 2] = ["train.epochs=2", "train.evaluation-batch-size=64"];
/// The same for the task of which examples are generated.
const EXAMPLES: &str = "task.listops.train-examples=1500";

/// Trains once in one go, and once for each stage with `signal` in the middle of its second epoch
/// and a resumption after that. The smaller the batch, the more steps there are to be stopped at.
fn stop_and_resume(
    config: &str,
    batch_size: usize,
    signal: &str,
    stopped: impl Fn(ExitStatus, &str, &str),
) {
    let workspace = Workspace::new();
    let batch_size = format!("train.batch-size={batch_size}");
    let examples = (config == BERT).then_some(EXAMPLES);
    let sets: Vec<&str> = STEPS.into_iter().chain(examples).chain([batch_size.as_str()]).collect();
    workspace.train(config, "whole", &sets).success();
    for stage in ["float", "quantized"] {
        let mut training = Training::start(&workspace, stage, &sets);
        training.wait_for(stage, 2);
        training.signal(signal);
        let (status, message) = training.wait();
        stopped(status, stage, &message);
        assert_eq!(workspace.history(stage, stage).len(), 1, "not stopped within its second epoch");
        assert!(!workspace.path(stage).join("summary.json").exists());

        workspace.resume(stage).success();
        let (whole, resumed) = (workspace.result("whole"), workspace.result(stage));
        assert_eq!(whole.0, resumed.0, "{stage}: the metric");
        assert!(whole.1 == resumed.1, "{stage}: the weights are others");
        for stage_of_log in ["float", "quantized"] {
            assert_eq!(
                workspace.history("whole", stage_of_log),
                workspace.history(stage, stage_of_log),
                "{stage}: the log of {stage_of_log}"
            );
        }
        assert_eq!(workspace.temporary_files(stage), [""; 0], "{stage}");
        let left = workspace.files(stage);
        for file in [
            "layers.csv",
            "layers-by-epoch.csv",
            "histograms.json",
            "plan.json",
            "codes.safetensors",
        ] {
            let whole = workspace.bytes(&format!("whole/{file}"));
            assert!(left[file] == whole, "{stage}: {file} is another");
        }
    }
}

#[test]
fn a_killed_run_with_batch_normalization_resumes_to_the_same_result() {
    stop_and_resume(RESNET, 4, "-KILL", |status, _, _| assert_eq!(status.code(), None));
}

#[test]
fn a_killed_run_with_dropout_resumes_to_the_same_result() {
    stop_and_resume(BERT, 4, "-KILL", |status, _, _| assert_eq!(status.code(), None));
}

#[test]
fn ctrl_c_stops_a_run_and_tells_how_to_resume_it() {
    stop_and_resume(LSTM, 1, "-INT", |status, stage, message| {
        assert_eq!(status.code(), Some(130), "{message}");
        let expected = format!("stopped in the {stage} stage");
        assert!(message.contains(&expected), "{expected} is not in: {message}");
        let hint = format!("ausn train --resume {stage}");
        assert!(message.contains(&hint), "{hint} is not in: {message}");
    });
}

#[test]
fn a_run_goes_on_without_the_run_that_trained_its_float_model() {
    let workspace = Workspace::new();
    workspace.train(LSTM, "float", &["train.quantized.epochs=0"]).success();
    workspace.train(LSTM, "run", &["train.float-checkpoint=float"]).success();
    let model = workspace.bytes("run/model.bpk");
    std::fs::rename(workspace.path("float"), workspace.path("elsewhere")).unwrap();
    for file in ["summary.json", "model.bpk"] {
        workspace.remove(&format!("run/{file}"));
    }
    workspace.resume("run").success();
    assert_eq!(workspace.bytes("run/model.bpk"), model);
    let epochs = &workspace.json("run/summary.json")["epochs"];
    assert!(epochs["float"] == 0 && epochs["quantized"].as_u64() > Some(0), "{epochs}");
    workspace.remove("run/float.bpk");
    workspace.resume("run").code(2).says(["float: there is no such run folder"]);
}

#[test]
fn a_finished_run_resumes_to_itself() {
    let workspace = Workspace::new();
    workspace.train(LSTM, "run", &[]).success();
    let before = workspace.files("run");
    workspace.resume("run").success().prints(["quantized"]);
    let after = workspace.files("run");
    for (file, content) in &before {
        assert!(after[file] == *content, "{file} has changed");
    }
    assert_eq!(before.len(), after.len());
}
