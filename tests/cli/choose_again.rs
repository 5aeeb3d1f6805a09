//! Codings chosen again while the quantized stage trains: `quant.choose-again`.

use crate::support::{LSTM, Said, Workspace};

const AGAIN: [&str; 2] = ["train.quantized.epochs=2", "quant.choose-again=[1]"];

#[test]
fn codings_are_chosen_again_from_the_weights_as_they_are_then() {
    let workspace = Workspace::new();
    workspace.train(LSTM, "run", &AGAIN).success();
    let (first, last) =
        (workspace.json("run/calibrated-plan.json"), workspace.json("run/plan.json"));
    assert_ne!(first, last, "an epoch changed no range");
    let paths = |plan: &serde_json::Value| -> Vec<String> {
        let sites = plan["sites"].as_array().unwrap();
        sites.iter().map(|site| site["site"]["path"].to_string()).collect()
    };
    assert_eq!(paths(&first), paths(&last));
    // What is left behind is of the last plan.
    let summary = workspace.json("run/summary.json");
    let found = workspace.ausn(["evaluate", "run", "--json"]).success().json();
    assert_eq!(found[0]["splits"][0]["value"], summary["metric"]["quantized"]);

    // Without it, the same first epoch, and another second one.
    workspace.train(LSTM, "once", &AGAIN[..1]).success();
    let (again, once) =
        (workspace.history("run", "quantized"), workspace.history("once", "quantized"));
    assert_eq!(again[0], once[0]);
    assert_ne!(again[1], once[1]);
    assert!(!workspace.path("once/calibrated-plan.json").exists());
}

#[test]
fn a_search_is_made_again_and_its_last_result_is_kept() {
    let workspace = Workspace::new();
    let search = "quant.search={ average-bits = 4, objective = 'squared-error' }";
    workspace.train(LSTM, "once", &[AGAIN[0], search]).success();
    workspace.train(LSTM, "again", &[AGAIN[0], AGAIN[1], search]).success();
    let (once, again) = (workspace.json("once/search.json"), workspace.json("again/search.json"));
    assert_ne!(once, again, "the errors are those of the weights before training");
}

#[test]
fn an_interrupted_run_chooses_the_same_again() {
    let workspace = Workspace::new();
    let sets = ["train.quantized.epochs=3", "quant.choose-again=[1, 2]"];
    workspace.train(LSTM, "whole", &sets).success();
    let resume = |run: &str, epochs: &[usize], first_plan: bool| {
        workspace.copy("whole", run);
        for file in ["model.bpk", "summary.json"] {
            workspace.remove(&format!("{run}/{file}"));
        }
        for (epoch, part) in
            epochs.iter().flat_map(|e| ["model", "optimizer", "schedule"].map(|part| (e, part)))
        {
            workspace.remove(&format!("{run}/checkpoints/quantized/{part}-{epoch}.bpk"));
        }
        if first_plan {
            let plan = workspace.read(&format!("{run}/calibrated-plan.json"));
            workspace.write(&format!("{run}/plan.json"), plan);
        }
        workspace.resume(run).success();
        let (whole, resumed) = (workspace.result("whole"), workspace.result(run));
        assert_eq!(whole.0, resumed.0, "{run}: the metric");
        assert!(whole.1 == resumed.1, "{run}: the weights are others");
        assert_eq!(workspace.json("whole/plan.json"), workspace.json(&format!("{run}/plan.json")));
    };
    resume("after-the-last-epoch", &[], false);
    resume("after-the-second-choice", &[3], false);
    resume("before-the-second-choice", &[3], true);
}

#[test]
fn epochs_that_cannot_be_are_refused() {
    let workspace = Workspace::new();
    for epochs in ["[2]", "[0]", "[1, 1]"] {
        let again = format!("quant.choose-again={epochs}");
        workspace
            .train(LSTM, "run", &[AGAIN[0], &again])
            .code(2)
            .says(["quant.choose-again", "names epoch"]);
    }
    let best = [AGAIN[0], AGAIN[1], "train.quantized.select=best"];
    workspace.train(LSTM, "run", &best).code(2).says(["select = \"last\""]);
}
