//! A coding for each weight under a budget: `ausn search`, `--plan`, and `[quant.search]`.

use serde_json::Value;

use crate::support::{BERT, LSTM, Said, Workspace};

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
    for objective in ["squared-error", "divergence", "output-error", "fisher", "loss"] {
        let args = ["--average-bits", "4.5", "--objective", objective, "--json"];
        let found = search(&workspace, &args).success().json();
        let (bits, chosen) = chosen(&found);
        assert!(bits <= 4.5 && bits > 4.0, "{objective}: {bits} bits");
        let error = found["choice"]["error"].as_f64().unwrap();
        // A loss may fall, and its choice is looked at again beside the others.
        let loss = &found["loss"];
        assert_eq!(loss.is_object(), objective == "loss");
        assert!(error > 0.0 || loss.is_object(), "{objective}: {error}");
        assert!(found["choice"]["lower_bound"] == error || loss.is_object(), "{objective}");
        assert!(loss["refined"].as_f64() <= loss["chosen"].as_f64(), "{loss}");
        // The best E and S of four bits for each layer fit the budget as well.
        let layers = found["layers"].as_array().unwrap();
        let of_four_bits = |layer: &Value| {
            let candidates = layer["candidates"].as_array().unwrap().iter();
            let four = candidates.filter(|c| c["bits"] == 4).map(|c| c["error"].as_f64().unwrap());
            four.fold(f64::INFINITY, f64::min)
        };
        let uniform: f64 = layers.iter().map(of_four_bits).sum();
        assert!(
            error <= uniform || loss.is_object(),
            "{objective}: {error}, all of four bits {uniform}"
        );
        assert_eq!(chosen.len(), layers.len());
    }
}

#[test]
fn a_plan_keeps_the_recipes_of_the_rules_that_it_follows() {
    let workspace = workspace();
    let rule =
        "quant.layer=[{match='classifier', weight={learn-range='lsq', estimator='identity'}}]";
    for (default, expected) in
        [("none", [Value::Null, "lsq".into()]), ("tqt", ["tqt".into(), "lsq".into()])]
    {
        let default = format!("quant.weight.learn-range={default}");
        let set = ["--set", rule, "--set", &default];
        let budget = ["--average-bits", "4", "--out", "plan.toml"];
        search(&workspace, &[&budget[..], &set].concat()).success();
        let plan = ["plan", "config.toml", "--quiet", "--json", "--plan", "plan.toml"];
        let rows = workspace.ausn(plan.into_iter().chain(set)).success().json();
        let learned: Vec<Value> = ["lstm.input", "classifier"]
            .iter()
            .map(|layer| {
                let rows = rows.as_array().unwrap();
                let row = rows.iter().find(|r| r["layer"] == *layer && r["tensor"] == "weight");
                row.unwrap_or_else(|| panic!("{layer}: {rows:?}"))["learn_range"].clone()
            })
            .collect();
        assert_eq!(learned, expected, "{default}");
    }
    let plan = workspace.read("plan.toml");
    assert!(
        plan.contains("estimator = \"identity\"") && plan.contains("normalize = false"),
        "{plan}"
    );
}

#[test]
fn a_plan_shows_what_a_search_chooses_and_refuses_what_cannot_be() {
    let workspace = workspace();
    let budget = ["plan", "config.toml", "--quiet", "--set", "quant.search.average-bits=3"];
    let plan = || workspace.ausn(budget);
    plan().success().prints(["* is chosen from data in calibration, of weights by the search"]);
    let rows = workspace.ausn(budget.into_iter().chain(["--json"])).success().json();
    let weights = rows.as_array().unwrap().iter().filter(|row| row["tensor"] == "weight");
    assert!(weights.clone().count() > 0 && weights.clone().all(|row| row["bits"].is_null()));

    let fixed = ["--set", "quant.weight.range=fixed", "--set", "quant.weight.range-exponent=500"];
    workspace.ausn(["plan", "config.toml"].into_iter().chain(fixed)).code(2).says(["500"]);
    let nothing =
        ["--from", "float", "--rounding", "learned", "--set", "quant.weight.coding=float"];
    workspace
        .ausn(["quantize", "config.toml"].into_iter().chain(nothing))
        .code(2)
        .says(["quant.post-training", "no weight is given a coding"]);
}

#[test]
fn a_plan_is_written_and_trained() {
    let workspace = workspace();
    let found = search(&workspace, &["--average-bits", "4", "--out", "plan.toml", "--json"]);
    let (_, chosen) = chosen(&found.success().json());
    let plan = workspace.read("plan.toml");
    assert_eq!(plan.matches("[[layer]]").count(), chosen.len(), "{plan}");
    assert!(plan.contains("exponent-bits = ") && plan.contains("granularity = "), "{plan}");

    // Also where the plan was found by the configuration's own settings, which it takes the place of.
    let own = ["--set", "quant.search.average-bits=4"];
    let args = ["train", "config.toml", "--quiet", "--out", "run", "--plan", "plan.toml"];
    workspace.ausn(args.into_iter().chain(CHECKPOINT).chain(own)).success();
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
fn a_divergence_chooses_the_codings_of_activations_too() {
    let workspace = workspace();
    let args = ["--average-bits", "4", "--objective", "divergence"];
    let out = [&args[..], &["--out", "plan.toml", "--json"]].concat();
    let found = search(&workspace, &out).success().json();
    let activations = found["activations"].as_array().unwrap();
    assert_eq!(activations.len(), 3, "the inputs of three layers");
    let chosen = |activation: &Value| {
        let candidates = activation["candidates"].as_array().unwrap();
        let chosen = &candidates[activation["chosen"].as_u64().unwrap() as usize];
        let error = |candidate: &Value| candidate["error"].as_f64().unwrap();
        assert!(candidates.len() > 1 && candidates.iter().all(|c| c["bits"] == 8));
        assert!(candidates.iter().all(|c| error(c) >= error(chosen)), "{activation}");
        [chosen["exponent_bits"].clone(), chosen["superposition_bits"].clone()]
    };
    // A run by the plan and a run that searches by itself give what was found.
    let plan = workspace.read("plan.toml");
    assert_eq!(plan.matches("tensor = \"input\"\nactivation = {").count(), 3, "{plan}");
    let sets = ["train.float-checkpoint=float", "train.quantized.epochs=0"];
    let by_plan = [&sets[..], &["quant.plan=plan.toml"]].concat();
    let by_search = "quant.search={ average-bits = 4, objective = 'divergence' }";
    let by_search = [&sets[..], &[by_search]].concat();
    for (run, sets) in [("by-plan", by_plan), ("by-search", by_search)] {
        workspace.train(LSTM, run, &sets).success();
        let sites = workspace.json(&format!("{run}/plan.json"))["sites"].clone();
        let sites = sites.as_array().unwrap().iter();
        let inputs = sites.filter(|site| site["site"]["tensor"] == "input");
        let formats = inputs.map(|site| {
            ["exponent-bits", "superposition-bits"].map(|key| site["format"][key].clone())
        });
        let expected: Vec<_> = activations.iter().map(chosen).collect();
        assert_eq!(formats.collect::<Vec<_>>(), expected, "{run}");
    }
    search(&workspace, &args).success().prints(["ausn8 E", "E and S of 3 activations"]);
    // The others leave them to calibration.
    let found = search(&workspace, &["--average-bits", "4", "--json"]).success().json();
    assert_eq!(found["activations"], serde_json::json!([]));
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
fn the_budget_of_the_command_line_takes_the_place_of_the_configuration_s() {
    let workspace = workspace();
    let own = ["--set", "quant.search.bytes=10"];
    let found = search(&workspace, &[&["--average-bits", "4", "--json"], &own[..]].concat());
    assert!(chosen(&found.success().json()).0 <= 4.0);
    search(&workspace, &own).code(2).says(["a budget of 10 bytes cannot be kept"]);
    search(&workspace, &["--average-bits", "2.5", "--fewest-bits", "2", "--most-bits", "3"])
        .success();
    search(
        &workspace,
        &[
            "--average-bits",
            "2.5",
            "--set",
            "quant.layer=[{ match = 'lstm.*', weight = { coding = 'int', bits = 8 } }]",
        ],
    )
    .code(2)
    .says(["a budget of 2.5 bits a weight cannot be kept: the cheapest codings already take"]);
}

#[test]
fn a_resumed_run_with_dropout_searches_by_the_same_fisher_information() {
    let workspace = Workspace::new();
    let search = "quant.search={ average-bits = 4, objective = 'fisher' }";
    workspace.train(BERT, "run", &[search]).success();
    let found = workspace.json("run/search.json");
    for file in ["search.json", "plan.json", "model.bpk", "summary.json"] {
        workspace.remove(&format!("run/{file}"));
    }
    workspace.resume("run").success();
    assert_eq!(workspace.json("run/search.json"), found);
}

/// Costs of 3 to 5 bits with activations of 8, each twice that of a bit less.
const COSTS: &str = "unit = \"pJ\"\n\
    [[multiply-accumulate]]\nweight-bits = 3\nactivation-bits = 8\ncost = 0.5\n\
    [[multiply-accumulate]]\nweight-bits = 4\nactivation-bits = 8\ncost = 1\n\
    [[multiply-accumulate]]\nweight-bits = 5\nactivation-bits = 8\ncost = 2\n";

#[test]
fn a_budget_may_be_the_cost_of_products() {
    let workspace = workspace();
    workspace.write("costs.toml", COSTS);
    let widths = ["--fewest-bits", "3", "--most-bits", "5"];
    // Eight rows of eight pixels: input and state give 32 gates at each, the last state one of ten classes.
    let macs = [8 * 8 * 32, 8 * 8 * 32, 80];
    let limit = macs.iter().sum::<u64>().to_string();
    let args = [&["--cost-table", "costs.toml", "--cost", &limit], &widths[..]].concat();
    let found = search(&workspace, &[&args[..], &["--json"]].concat()).success().json();
    let layers = found["layers"].as_array().unwrap();
    let counted = layers.iter().map(|layer| layer["multiply_accumulates"].as_u64().unwrap());
    assert_eq!(counted.collect::<Vec<_>>(), macs);
    let (_, chosen) = chosen(&found);
    let of_bits = |bits: u64| [0.5, 1.0, 2.0][bits as usize - 3];
    let bits = chosen.iter().map(|candidate| candidate["bits"].as_u64().unwrap());
    let cost: f64 = bits.zip(macs).map(|(bits, macs)| of_bits(bits) * macs as f64).sum();
    assert_eq!(found["choice"]["cost"], cost);
    assert!(cost <= macs.iter().sum::<u64>() as f64 && found["cost_unit"] == "pJ");
    let total = format!("{limit} MACs for one example cost ");
    search(&workspace, &args).success().prints(["MACs", "2048", &total, "pJ"]);

    // A float activation has no cost in this table, and neither have two bits.
    let float = [&args[..], &["--set", "quant.activation={ coding = 'float' }"]].concat();
    search(&workspace, &float)
        .code(2)
        .says(["costs.toml has no entry for 3-bit weights and 32-bit activations", "floats"]);
    search(&workspace, &["--cost-table", "costs.toml", "--cost", "9e9"])
        .code(2)
        .says(["no entry for 2-bit weights and 8-bit activations; add one", "3 x 8, 4 x 8, 5 x 8"]);
}

#[test]
fn a_run_keeps_its_cost_table() {
    let workspace = workspace();
    workspace.write("costs.toml", COSTS);
    let search =
        "quant.search={ cost = 4000, cost-table = 'costs.toml', fewest-bits = 3, most-bits = 5 }";
    workspace.train(LSTM, "run", &["train.float-checkpoint=float", search]).success();
    let found = workspace.json("run/search.json");
    assert!(found["choice"]["cost"].as_f64().unwrap() <= 4000.0);
    // Elsewhere, without the file, it chooses the same again.
    workspace.remove("costs.toml");
    workspace.remove("run/search.json");
    for file in ["plan.json", "model.bpk", "summary.json"] {
        workspace.remove(&format!("run/{file}"));
    }
    workspace.resume("run").success();
    assert_eq!(workspace.json("run/search.json"), found);
}

#[test]
fn every_candidate_can_be_shown() {
    let workspace = workspace();
    let args = ["--bytes", "2000", "--candidates"];
    search(&workspace, &args).success().prints(["chosen", "dB", "bits a weight on average"]);
}

#[test]
fn a_plan_shows_what_calibration_chooses_from() {
    let workspace = workspace();
    let plan = |args: &[&str]| {
        let all = ["plan", "config.toml", "--candidates"].into_iter().chain(CHECKPOINT);
        workspace.ausn(all.chain(args.iter().copied())).success()
    };
    let tensors = plan(&["--json"]).json();
    let sites = workspace.json("float/plan.json")["sites"].clone();
    let (tensors, sites) = (tensors.as_array().unwrap(), sites.as_array().unwrap());
    assert_eq!((tensors.len(), sites.len()), (6, 6), "three weights and their inputs");
    for (tensor, site) in tensors.iter().zip(sites) {
        assert_eq!(
            (&tensor["layer"], &tensor["tensor"]),
            (&site["site"]["layer"], &site["site"]["tensor"])
        );
        let candidates = tensor["candidates"].as_array().unwrap();
        let bits = if tensor["tensor"] == "weight" { 4 } else { 8 };
        assert!(candidates.len() > 1 && candidates.iter().all(|c| c["bits"] == bits), "{tensor}");
        let chosen: Vec<&Value> = candidates.iter().filter(|c| c["chosen"] == true).collect();
        let [chosen] = chosen[..] else { panic!("one is chosen: {tensor}") };
        assert_eq!(chosen["exponent_bits"], site["format"]["exponent-bits"]);
        assert_eq!(chosen["superposition_bits"], site["format"]["superposition-bits"]);
        let sqnr = |candidate: &Value| candidate["sqnr_db"].as_f64().unwrap_or(f64::INFINITY);
        assert!(candidates.iter().all(|candidate| sqnr(candidate) <= sqnr(chosen)), "{tensor}");
        assert!(
            candidates.iter().all(|c| (0.0..=1.0).contains(&c["clipping_share"].as_f64().unwrap()))
        );
    }
    plan(&[]).prints(["clipping", "chosen", "2^-", "6 tensors"]);
    // A coding that is given is the only one.
    let given = ["--json", "--set", "quant.weight={ coding = 'int', bits = 5 }"];
    let tensors = plan(&given).json();
    assert_eq!(tensors[0]["candidates"].as_array().unwrap().len(), 1, "{tensors}");
    workspace
        .ausn(["plan", "config.toml", "--candidates"])
        .code(2)
        .says(["starts from a fresh model", "train.float-checkpoint=RUN"]);
}

#[test]
fn what_cannot_be_searched_is_refused() {
    let workspace = workspace();
    for (args, says) in [
        (&["--average-bits", "0"][..], "average-bits is 0; must be a number above 0"),
        (&["--average-bits", "inf"], "average-bits is inf; must be a number above 0"),
        (
            &["--average-bits", "1.5"],
            "a budget of 1.5 bits a weight cannot be kept: the cheapest codings already take 2",
        ),
        (&[], "average-bits is missing"),
        (&["--average-bits", "4", "--bytes", "10"], "cannot be used with"),
        (&["--cost", "4", "--bytes", "10"], "cannot be used with"),
        (&["--cost-table", "a.toml", "--bytes", "10"], "cannot be used with"),
        (&["--cost", "4"], "cost-table is missing beside cost"),
        (&["--cost", "-4"], "--cost is -4; must be a number from 0 up"),
        (&["--cost", "4", "--cost-table", "a.toml"], "cannot read the cost table a.toml"),
        (&["--average-bits", "4", "--most-bits", "1"], "most-bits is 1"),
        (
            &["--bytes", "10"],
            "a budget of 10 bytes cannot be kept: the cheapest codings already take",
        ),
        (&["--average-bits", "4", "--objective", "luck"], "invalid value 'luck'"),
        (
            &[
                "--average-bits",
                "4",
                "--set",
                "quant.weight.range=fixed",
                "--set",
                "quant.weight.range-exponent=-110",
            ],
            "range exponent -110 of its weight is outside what",
        ),
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
    // Before anything is trained.
    for (set, says) in [
        (
            &["quant.search={ bytes = 10 }"][..],
            "a budget of 10 bytes cannot be kept: the cheapest codings already take",
        ),
        (
            &["quant.search={ average-bits = 4 }", "quant.weight={ coding = 'int', bits = 4 }"],
            "whose coding is left open",
        ),
    ] {
        workspace.train(LSTM, "searched", set).code(2).says([says]);
        assert!(!workspace.path("searched/float.bpk").exists());
        let set = set.iter().flat_map(|set| ["--set", set]);
        workspace.ausn(["plan", "config.toml"].into_iter().chain(set)).code(2).says([says]);
    }
    for (search, says) in [
        ("{ cost = 9 }", "quant.search.cost-table is missing beside cost"),
        ("{ cost = 9, bytes = 9 }", "quant.search.cost stands beside bytes"),
        ("{ cost = 9, cost-table = 'absent.toml' }", "cannot read the cost table absent.toml"),
        ("{ cost = 9, cost-table = 7 }", "expected the name of a file, or a table with unit"),
        (
            "{ cost = 9, cost-table = { unit = 'pJ', multiply-accumulate = [{ weight-bits = 4, \
             activation-bits = 8, cost = -1 }] } }",
            "quant.search.cost-table is refused: the entry for 4-bit weights and 8-bit activations costs -1",
        ),
    ] {
        let search = format!("quant.search={search}");
        workspace.train(LSTM, "run", &[&search]).code(2).says([says]);
    }
    workspace.train(LSTM, "run", &["quant.plan=absent.toml"]).code(2).says(["absent.toml"]);
    workspace
        .write("plan.toml", "[[layer]]\nmatch = \"nothing\"\nweight = { coding = \"float\" }\n");
    workspace
        .train(LSTM, "run", &["quant.plan=plan.toml"])
        .code(2)
        .says(["layer pattern `nothing` matches no layer"]);
    workspace.write(
        "plan.toml",
        "[[layer]]\nmatch = \"classifier\"\ntensor = \"output\"\nweight = { coding = \"float\" }\n",
    );
    workspace
        .train(LSTM, "run", &["quant.plan=plan.toml"])
        .code(2)
        .says(["has a tensor `output`; they have: input, weight"]);
    workspace
        .write("plan.toml", "[[layer]]\nmatch = \"*\"\nweight = { coding = \"int\", bits = 99 }\n");
    workspace
        .train(LSTM, "run", &["quant.plan=plan.toml"])
        .code(2)
        .says(["config.toml with the rules of plan.toml: quant.layer.0.weight.bits is 99"]);
    // Widths that lack their cost are known before anything is trained.
    workspace.write("costs.toml", COSTS);
    let search = "quant.search={ cost = 9, cost-table = 'costs.toml' }";
    workspace.train(LSTM, "run", &[search]).code(2).says(["2-bit weights"]);
    assert!(!workspace.path("run").exists());
}

#[test]
fn a_plan_takes_the_place_of_a_plan_alone() {
    let workspace = workspace();
    let to = |out: &str| search(&workspace, &["--average-bits", "4", "--out", out]);
    to("plan.toml").success().prints(["plan: plan.toml"]);
    to("plan.toml").success();
    let before = workspace.read("config.toml");
    to("config.toml").code(2).says(["--out config.toml", "is no plan", "in the way"]);
    assert_eq!(workspace.read("config.toml"), before);
    to("absent/plan.toml").code(2).says(["there is no folder absent"]);
    to("float").code(2).says(["--out float"]);
}
