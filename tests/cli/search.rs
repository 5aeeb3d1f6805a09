//! A coding for each weight under a budget: `ausn search`, `--plan`, and `[quant.search]`.

use serde_json::Value;

use crate::support::{LSTM, Said, Workspace};

/// A workspace with a float run `float` and the configuration of a model that starts from it.
fn workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace.train(LSTM, "float", &["train.float.epochs=3", "train.quantized.epochs=0"]).success();
    workspace
}

const CHECKPOINT: [&str; 2] = ["--set", "train.float-checkpoint=float"];

fn search(workspace: &Workspace, args: &[&str]) -> assert_cmd::assert::Assert {
    let all = ["search", "config.toml", "--quiet"].into_iter().chain(CHECKPOINT);
    workspace.ausn(all.chain(args.iter().copied()))
}

/// Bits of a weight on average, and the chosen candidate of every layer.
fn chosen(found: &Value) -> (f64, Vec<Value>) {
    let layers = found["layers"].as_array().unwrap();
    let choice = found["choice"]["candidates"].as_array().unwrap();
    let pick = |(layer, index): (&Value, &Value)| {
        layer["candidates"][index.as_u64().unwrap() as usize].clone()
    };
    let chosen: Vec<Value> = layers.iter().zip(choice).map(pick).collect();
    let weights: f64 = layers.iter().map(|layer| layer["weights"].as_f64().unwrap()).sum();
    let bits = chosen.iter().zip(layers);
    let bits = bits.map(|(c, l)| c["bits"].as_f64().unwrap() * l["weights"].as_f64().unwrap());
    (bits.sum::<f64>() / weights, chosen)
}

#[test]
fn every_objective_keeps_the_budget_and_beats_one_coding_for_all() {
    let workspace = workspace();
    for objective in ["squared-error", "divergence", "output-error", "fisher"] {
        let args = ["--average-bits", "4.5", "--objective", objective, "--json"];
        let found = search(&workspace, &args).success().json();
        let (bits, chosen) = chosen(&found);
        assert!(bits <= 4.5 && bits > 4.0, "{objective}: {bits} bits");
        let error = found["choice"]["error"].as_f64().unwrap();
        assert!(error > 0.0 && found["choice"]["lower_bound"] == error, "{objective}");
        // The best E and S of four bits for each layer fit the budget as well.
        let layers = found["layers"].as_array().unwrap();
        let of_four_bits = |layer: &Value| {
            let candidates = layer["candidates"].as_array().unwrap().iter();
            let four = candidates.filter(|c| c["bits"] == 4).map(|c| c["error"].as_f64().unwrap());
            four.fold(f64::INFINITY, f64::min)
        };
        let uniform: f64 = layers.iter().map(of_four_bits).sum();
        assert!(error <= uniform, "{objective}: {error}, all of four bits {uniform}");
        assert_eq!(chosen.len(), layers.len());
    }
}

#[test]
fn a_plan_is_written_and_trained() {
    let workspace = workspace();
    let found = search(&workspace, &["--average-bits", "4", "--out", "plan.toml", "--json"]);
    let (_, chosen) = chosen(&found.success().json());
    let plan = workspace.read("plan.toml");
    assert_eq!(plan.matches("[[layer]]").count(), chosen.len(), "{plan}");
    assert!(plan.contains("exponent-bits = ") && plan.contains("granularity = "), "{plan}");

    let args = ["train", "config.toml", "--quiet", "--out", "run", "--plan", "plan.toml"];
    workspace.ausn(args.into_iter().chain(CHECKPOINT)).success();
    let weights: Vec<Value> = workspace.json("run/plan.json")["sites"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|site| site["site"]["kind"]["weight"].is_object())
        .cloned()
        .collect();
    assert_eq!(weights.len(), chosen.len());
    for (site, candidate) in weights.iter().zip(&chosen) {
        assert_eq!(site["format"]["exponent-bits"], candidate["exponent_bits"]);
        assert_eq!(site["format"]["superposition-bits"], candidate["superposition_bits"]);
    }
    // The run stands by itself.
    workspace.remove("plan.toml");
    workspace.ausn(["evaluate", "run", "--quiet"]).success();
}

#[test]
fn a_configuration_may_search_by_itself() {
    let workspace = workspace();
    let sets = [
        "train.float-checkpoint=float",
        "quant.search={ average-bits = 3.5, objective = 'output-error', most-bits = 6 }",
    ];
    workspace.train(LSTM, "run", &sets).success();
    let (bits, chosen) = chosen(&workspace.json("run/search.json"));
    assert!(bits <= 3.5, "{bits}");
    assert!(chosen.iter().all(|c| c["bits"].as_u64().unwrap() <= 6));
    let again = workspace.ausn(["evaluate", "run", "--quiet", "--json"]).success().json();
    let quantized = &workspace.json("run/summary.json")["metric"]["quantized"];
    assert_eq!(&again[0]["splits"][0]["value"], quantized);
}

#[test]
fn every_candidate_can_be_shown() {
    let workspace = workspace();
    let args = ["--bytes", "2000", "--candidates"];
    search(&workspace, &args).success().prints(["chosen", "dB", "bits a weight on average"]);
}

#[test]
fn what_cannot_be_searched_is_refused() {
    let workspace = workspace();
    for (args, says) in [
        (&["--average-bits", "1.5"][..], "average-bits is 1.5; must be at least fewest-bits (2)"),
        (&[], "average-bits is missing"),
        (&["--average-bits", "4", "--bytes", "10"], "cannot be used with"),
        (&["--average-bits", "4", "--most-bits", "1"], "most-bits is 1"),
        (&["--bytes", "10"], "cannot be kept: the cheapest candidates already cost"),
        (&["--average-bits", "4", "--objective", "luck"], "invalid value 'luck'"),
        (
            &["--average-bits", "4", "--set", "quant.weight={ coding = 'int', bits = 4 }"],
            "whose coding is left open",
        ),
    ] {
        search(&workspace, args).code(2).says([says]);
    }
    workspace
        .ausn(["search", "config.toml", "--average-bits", "4"])
        .code(2)
        .says(["starts from a fresh model", "train.float-checkpoint=RUN"]);
    workspace
        .train(LSTM, "run", &["quant.search={ average-bits = 4, most-bits = 20 }"])
        .code(2)
        .says(["quant.search.most-bits", "is 20"]);
    workspace.train(LSTM, "run", &["quant.plan=absent.toml"]).code(2).says(["absent.toml"]);
    workspace
        .write("plan.toml", "[[layer]]\nmatch = \"nothing\"\nweight = { coding = \"float\" }\n");
    workspace
        .train(LSTM, "run", &["quant.plan=plan.toml"])
        .code(2)
        .says(["layer pattern `nothing` matches no layer"]);
}
