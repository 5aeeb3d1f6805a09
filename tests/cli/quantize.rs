//! Quantization without training: `ausn quantize`, and `[quant.post-training]`.

use serde_json::Value;

use crate::support::{RESNET, Said, Workspace};

/// A workspace with a float run `float` of a model that has batch normalization.
fn workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace
        .train(RESNET, "float", &["train.float.epochs=4", "train.quantized.epochs=0"])
        .success();
    workspace
}

const QUANTIZE: [&str; 4] = ["quantize", "config.toml", "--quiet", "--json"];
const THREE_BITS: [&str; 4] = ["--from", "float", "--set", "quant.weight.bits=3"];

fn quantize(workspace: &Workspace, args: &[&str]) -> Value {
    let all = QUANTIZE.iter().chain(&THREE_BITS).chain(args);
    workspace.ausn(all).success().json()
}

#[test]
fn learned_rounding_and_bias_correction_keep_more_of_the_metric() {
    let workspace = workspace();
    let nearest = quantize(&workspace, &["--out", "nearest"]);
    let learned =
        quantize(&workspace, &["--out", "learned", "--rounding", "learned", "--bias-correction"]);
    let metric = |run: &Value, stage: &str| run["metric"][stage].as_f64().unwrap();
    assert_eq!(metric(&nearest, "float"), metric(&learned, "float"));
    let lost = |run: &Value| (metric(run, "float") - metric(run, "calibrated")).abs();
    assert!(lost(&learned) < lost(&nearest), "{} {}", lost(&learned), lost(&nearest));
    assert_eq!(learned["metric"]["quantized"], Value::Null, "nothing was trained");

    let log = workspace.json("learned/post-training.json");
    let log = log.as_array().unwrap();
    assert!(log.len() > 5);
    for weight in log {
        let error = |key: &str| weight[key].as_f64().unwrap();
        assert!(error("output_error") <= error("output_error_nearest"), "{weight}");
    }
    assert!(log[0]["bias"].as_str().unwrap().ends_with("norm.running_mean"));
    assert!(!workspace.path("nearest/post-training.json").exists());
}

/// The stored weights lie on their levels; the log tells their errors to the float weights.
#[test]
fn errors_are_those_to_the_float_weights_also_when_evaluated_later() {
    let workspace = workspace();
    quantize(&workspace, &["--out", "run", "--rounding", "learned"]);
    let found = workspace.ausn(["evaluate", "run", "--json"]).success().json();
    assert_eq!(found[0]["model"], "calibrated");
    assert_eq!(
        found[0]["splits"][0]["value"],
        workspace.json("run/summary.json")["metric"]["calibrated"]
    );
    let layers = found[0]["layers"].as_array().unwrap();
    let weights: Vec<&Value> = layers.iter().filter(|layer| layer["kind"] == "weight").collect();
    assert!(weights.iter().all(|weight| weight["sqnr_db"].as_f64().unwrap() < 20.0));
    assert!(workspace.read("run/report.html").contains("<dt>Calibrated</dt>"));
}

#[test]
fn training_goes_on_from_the_corrected_model() {
    let workspace = workspace();
    let correction = ["quant.post-training.rounding=learned", "quant.weight.bits=3"];
    let start = ["train.float-checkpoint=float"];
    let set: Vec<&str> = correction.into_iter().chain(start).collect();
    workspace.train(RESNET, "trained", &set).success();
    let run = workspace.json("trained/summary.json");
    assert!(run["metric"]["quantized"].is_number());
    assert!(workspace.path("trained/corrected.bpk").exists());
    let expected = quantize(&workspace, &["--out", "run", "--rounding", "learned"]);
    assert_eq!(run["metric"]["calibrated"], expected["metric"]["calibrated"]);
}

#[test]
fn what_cannot_be_quantized_is_refused() {
    let workspace = workspace();
    let refuse = |args: &[&str], expected: &str| {
        let all = QUANTIZE.iter().chain(args);
        workspace.ausn(all).code(2).says([expected]);
    };
    refuse(&[], "starts from a fresh model, and quantizing trains none");
    refuse(&["--from", "nowhere"], "nowhere: there is no such run folder");
    let trains = ["--from", "float", "--set", "train.quantized.epochs=2"];
    refuse(&trains, "--set train.quantized.epochs=2 has no effect");
    let within = ["--from", "float", "--set", "train.quantized={ epochs = 2 }"];
    refuse(&within, "--set train.quantized={ epochs = 2 } has no effect");
    let float = ["--set", "quant.weight.coding=float", "--set", "quant.activation.coding=float"];
    let float: Vec<&str> = ["--from", "float"].into_iter().chain(float).collect();
    refuse(&float, "quantizes nothing");
    let none = ["--from", "float", "--set", "quant.post-training.iterations=0"];
    refuse(&none, "quant.post-training.iterations is 0; must be 1 to 1000000");
    let unknown = ["--from", "float", "--set", "quant.post-training.rounding=up"];
    refuse(&unknown, "unknown variant `up`, expected `nearest` or `learned`");
}
