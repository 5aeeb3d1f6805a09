//! `ausn train` and `ausn evaluate`, from start to end.

use ausn::coding::CodeWord;
use ausn::deploy::load_codes;
use ausn::quant::Granularity;
use serde_json::Value;

use crate::support::{BERT, BINARY, LSTM, RESNET, Said, Workspace};

#[test]
fn a_run_trains_quantizes_and_leaves_everything_behind() {
    for (name, config, task) in
        [("lstm", LSTM, "digits"), ("resnet", RESNET, "digits"), ("bert", BERT, "listops")]
    {
        let workspace = Workspace::new();
        workspace.write("config.toml", config);
        let assert = workspace.ausn(["train", "config.toml", "--out", "run"]).success().says([
            "float epoch 1/1",
            "quantized epoch 1/1",
            "run folder: run",
        ]);

        let summary = workspace.json("run/summary.json");
        let metric = &summary["metric"];
        assert_eq!(summary["task"], task);
        assert_eq!(summary["seed"], 7);
        assert_eq!(metric["name"], "accuracy");
        for stage in ["float", "calibrated", "quantized"] {
            let value = metric[stage].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&value), "{name}: {stage} is {value}");
        }
        for stage in ["float", "quantized"] {
            let value = metric[stage].as_f64().unwrap();
            let [logged] = workspace.history("run", stage)[..] else { panic!("one epoch") };
            assert!((logged - value).abs() < 1e-12, "{name}: {stage} is {value}, logged {logged}");
            assert!(summary["seconds"][stage].as_f64().unwrap() > 0.0, "{name}: {stage}");
        }

        let quantized = summary["layers"].as_u64().unwrap() as usize;
        let layers = workspace.read("run/layers.csv");
        let rows: Vec<&str> = layers.lines().skip(1).collect();
        assert_eq!(rows.len(), 2 * quantized, "{name}: a row for each stage and tensor");
        assert_eq!(workspace.read("run/layers-by-epoch.csv").lines().count(), 1 + quantized);
        let shown = |stage: &str| format!("{stage:<11} {:.4}", metric[stage].as_f64().unwrap());
        assert
            .prints(["float", "calibrated", "quantized"].map(shown))
            .prints(["clipping", "rounding", "SQNR", "run folder: run"])
            .prints(rows.iter().map(|row| row.split(',').nth(1).unwrap()));

        let files = workspace.files("run");
        for expected in [
            "config.toml",
            "metrics.jsonl",
            "float.bpk",
            "plan.json",
            "layers.csv",
            "layers-by-epoch.csv",
            "histograms.json",
            "report.html",
            "model.bpk",
            "model.safetensors",
            "codes.safetensors",
            "summary.json",
            "checkpoints/float/model-1.bpk",
            "checkpoints/quantized/model-1.bpk",
        ] {
            assert!(files.contains_key(expected), "{name}: {expected} is missing");
        }
        assert_eq!(workspace.temporary_files("run"), [""; 0], "{name}");

        let found = workspace.ausn(["evaluate", "run", "--json"]).success().stderr("").json();
        assert_eq!(found[0]["model"], "quantized");
        assert_eq!(found[0]["splits"][0]["value"], metric["quantized"], "{name}");
        assert_eq!(found[0]["layers"].as_array().unwrap().len(), quantized);
        workspace.ausn(["evaluate", "run"]).success().prints([
            format!("accuracy on {task}, quantized"),
            format!("{:.4}  on valid", metric["quantized"].as_f64().unwrap()),
        ]);
    }
}

#[test]
fn folded_batch_norm_is_trained_evaluated_and_exported() {
    let fold = "quant.fold-batch-norm=true";
    let workspace = Workspace::new();
    workspace.train(RESNET, "run", &[fold]).success();
    let tensors = workspace.tensors("run/model.safetensors");
    assert_eq!(tensors["stem.layer.bias"].len(), 4);
    assert!(tensors["stem.layer.bias"].iter().any(|bias| *bias != 0.0));
    assert!(!tensors.keys().any(|name| name.contains("norm")), "{:?}", tensors.keys());

    let trained = workspace.json("run/summary.json")["metric"]["quantized"].clone();
    let found = workspace.ausn(["evaluate", "run", "--json"]).success().json();
    assert_eq!(found[0]["splits"][0]["value"], trained);

    let refused = workspace.train(LSTM, "lstm", &[fold]).code(2);
    refused.says(["quant.fold-batch-norm", "no batch normalization to fold"]);
    assert!(!workspace.path("lstm").exists());
    let planned = workspace.ausn(["plan", "config.toml", "--set", fold]).code(2);
    planned.says(["no batch normalization to fold"]).stdout("");
}

#[test]
fn quiet_is_silent_and_json_is_pure() {
    let workspace = Workspace::new();
    workspace.train(LSTM, "quiet", &[]).success().stderr("");
    let args = ["train", "config.toml", "--out", "run", "--json"];
    let mut printed = workspace.ausn(args).success().says(["epoch 1/1"]).json();
    assert_eq!(printed.as_object_mut().unwrap().remove("run").unwrap(), "run");
    assert_eq!(printed, workspace.json("run/summary.json"));
}

#[test]
fn the_seed_decides_everything() {
    // Dropout, initial weights, order and generated data: all of it hangs on the seed.
    for (name, config) in [("lstm", LSTM), ("bert", BERT)] {
        let workspace = Workspace::new();
        for (run, seed) in [("a", "7"), ("b", "7"), ("c", "8")] {
            workspace.train(config, run, &[&format!("train.seed={seed}")]).success();
        }
        let [a, b, c] = ["a", "b", "c"].map(|run| workspace.result(run));
        assert_eq!(a.0, b.0, "{name}");
        assert!(a.1 == b.1, "{name}: the same seed gives other weights");
        assert!(a.1 != c.1, "{name}: another seed gives the same weights");
    }
}

#[test]
fn every_quantized_weight_is_on_its_grid_and_the_codes_hold_it_bit_for_bit() {
    // Not trained in float: the weights are as random as they are after it.
    let unfinished = ["train.float.epochs=0", "train.quantized.epochs=1"];
    for (config, set) in [
        (LSTM, "{ coding = 'ausn', bits = 4 }"),
        (LSTM, "{ coding = 'ausn', bits = 5, granularity = 'per-channel', range = 'max' }"),
        (LSTM, "{ coding = 'ausn', bits = 3, range = 'fixed', range-exponent = -2 }"),
        (
            LSTM,
            "{ coding = 'ausn', bits = 4, underflow = 'zero-code', granularity = 'per-group', \
             group-size = 32 }",
        ),
        (RESNET, "{ coding = 'ausn', bits = 4, granularity = 'per-channel' }"),
        (RESNET, "{ coding = 'int', bits = 4, granularity = 'per-channel' }"),
        (LSTM, "{ coding = 'mxfp4' }"),
        (LSTM, "{ coding = 'mxfp8-e5m2' }"),
        (LSTM, "{ coding = 'minifloat', exponent-bits = 3, mantissa-bits = 2, reserved = 'nan' }"),
        (LSTM, "{ coding = 'power-of-two', bits = 4, learn-range = 'tqt' }"),
        (
            RESNET,
            "{ coding = 'ausn', exponent-bits = 3, superposition-bits = 2, \
             granularity = 'per-group', group-size = 3 }",
        ),
    ] {
        let workspace = Workspace::new();
        // A hidden size that 32 does not divide leaves a shorter group at the end.
        let (weight, hidden) = (format!("quant.weight={set}"), "model.lstm.hidden-size=40");
        let sets = [weight.as_str()].into_iter().chain((config == LSTM).then_some(hidden));
        let sets: Vec<&str> = unfinished.into_iter().chain(sets).collect();
        workspace.train(config, "run", &sets).success();

        let weights = workspace.tensors("run/model.safetensors");
        let codes = load_codes(&workspace.path("run/codes.safetensors")).unwrap();
        let plan = workspace.json("run/plan.json");
        let sites = plan["sites"].as_array().unwrap();
        let planned = sites.iter().filter(|site| site["site"]["tensor"] == "weight").count();
        assert_eq!(codes.len(), planned, "{set}: a weight has no codes");
        for codes in codes {
            let (path, layout) = (&codes.path, &codes.layout);
            let stored = weights.get(path).unwrap_or_else(|| panic!("{path} is not in the file"));
            let decoded = codes.decode().unwrap();
            assert_eq!(decoded.len(), stored.len(), "{set}: {path}");
            assert!(stored.iter().any(|&x| x != 0.0), "{set}: {path} is all zero");

            let codings: Vec<_> = codes
                .range_exponents
                .iter()
                .map(|&r| layout.format.with_range(r).unwrap())
                .collect();
            assert_eq!(codings.len(), layout.granularity.count(&layout.shape), "{set}: {path}");
            for i in 0..stored.len() {
                assert_eq!(decoded[i].to_bits(), stored[i].to_bits(), "{set}: {path}[{i}]");
                let coding = codings[scale_of(layout.granularity, &layout.shape, i)];
                let word = CodeWord::from_bits(codes.words[i], layout.format).unwrap();
                assert_eq!(coding.encode(stored[i]).unwrap(), word, "{set}: {path}[{i}]");
            }
        }
    }
}

/// The scale of an element of a row-major tensor, from the words of the documentation.
fn scale_of(granularity: Granularity, shape: &[usize], element: usize) -> usize {
    let mut rest = element;
    let mut place: Vec<usize> = shape.iter().rev().map(|n| (rest % n, rest /= n).0).collect();
    place.reverse();
    match granularity {
        Granularity::Tensor => 0,
        Granularity::Channel { axis } => place[axis],
        Granularity::Group { axis, size } => {
            let grid = |i: usize| if i == axis { shape[i].div_ceil(size) } else { shape[i] };
            place[axis] /= size;
            (0..shape.len()).fold(0, |index, i| index * grid(i) + place[i])
        }
    }
}

/// A safetensors file without tensors is still one.
#[test]
fn weights_wider_than_a_byte_have_no_packed_codes() {
    let workspace = Workspace::new();
    let sets = ["train.epochs=0", "quant.weight={ coding = 'ausn', bits = 10 }"];
    workspace.train(LSTM, "run", &sets).success();
    assert_eq!(load_codes(&workspace.path("run/codes.safetensors")).unwrap(), []);
    assert!(workspace.tensors("run/model.safetensors").contains_key("lstm.input.layer.weight"));
}

#[test]
fn without_a_quant_section_the_run_ends_with_the_float_model() {
    let workspace = Workspace::new();
    let (config, _) = LSTM.split_once("[quant]").unwrap();
    workspace.train(config, "run", &[]).success();
    let summary = workspace.json("run/summary.json");
    assert_eq!(summary["layers"], 0);
    assert_eq!(summary["metric"]["quantized"], Value::Null);
    let found = workspace.ausn(["evaluate", "run", "--json"]).success().json();
    assert_eq!(found[0]["model"], "float");
    assert_eq!(found[0]["splits"][0]["value"], summary["metric"]["float"]);
}

#[test]
fn a_run_can_start_from_the_float_model_of_another() {
    let workspace = Workspace::new();
    workspace.train(LSTM, "float", &["train.quantized.epochs=0"]).success();
    workspace.train(LSTM, "same", &["train.float-checkpoint=float"]).success();
    assert!(workspace.history("same", "float").is_empty(), "the float stage was repeated");
    let float =
        |run: &str| workspace.json(&format!("{run}/summary.json"))["metric"]["float"].clone();
    assert_eq!(float("same"), float("float"));

    let sets = ["--set", "train.float-checkpoint=float"];
    let args = ["evaluate", "config.toml", "--json"].into_iter().chain(sets);
    let found = workspace.ausn(args).success().json();
    assert_eq!(found[0]["model"], "float");
    assert_eq!(found[0]["splits"][0]["value"], float("float"));
    assert_eq!(found[1]["model"], "calibrated");
}

#[test]
fn a_model_is_not_measured_on_what_it_was_trained_on() {
    let workspace = Workspace::new();
    workspace.train(LSTM, "run", &["train.epochs=1"]).success();
    for (set, expected) in [
        ("train.seed=8", "train.seed is 8 here and 7 there"),
        ("task.digits.valid-fraction=0.5", "task.digits.valid-fraction is 0.5 here"),
        ("model.arch=resnet", "model.arch is resnet here and lstm there"),
    ] {
        let sets = ["train.float-checkpoint=run", set];
        workspace.train(LSTM, "other", &sets).code(2).says(["run: its float model", expected]);
        assert!(!workspace.path("other").exists(), "{set}: something was left behind");
    }
    for (arguments, expected) in [
        (&["--seed", "8"][..], "--seed does not change a run that is trained"),
        (&["--plan", "plan.toml"], "--plan does not change"),
        (&["--set", "quant.weight.bits=2"], "--set quant.weight.bits=2 does not change"),
        (&["--set", "task.digits.valid-fraction=0.5"], "task.digits.valid-fraction is 0.5 here"),
    ] {
        let arguments = ["evaluate", "run"].iter().chain(arguments);
        workspace.ausn(arguments).code(2).says([expected]).stdout("");
    }
    let set = ["evaluate", "run", "--set", "train.evaluation-batch-size=7"];
    workspace.ausn(set).success();
}

#[test]
fn early_stopping_ends_a_stage_that_no_longer_improves() {
    let workspace = Workspace::new();
    let sets = [
        "train.epochs=9",
        "train.early-stopping={ patience = 1 }",
        // Too little to change one prediction.
        "train.optimizer={ name = 'sgd', learning-rate = 1e-12 }",
    ];
    workspace.train(LSTM, "run", &sets).success();
    for stage in ["float", "quantized"] {
        assert_eq!(workspace.history("run", stage).len(), 2, "{stage}");
    }
}

#[test]
fn select_decides_which_epoch_goes_on() {
    let workspace = Workspace::new();
    // A learning rate that makes the metric go up and down.
    let sets = [
        "train.epochs=10",
        "train.optimizer={ name = 'adamw', learning-rate = 0.5 }",
        "train.schedule={ name = 'constant' }",
    ];
    for select in ["best", "last"] {
        let chosen = format!("train.select={select}");
        workspace.train(LSTM, select, &[&sets[..], &[&chosen]].concat()).success();
    }
    assert_eq!(workspace.history("best", "float"), workspace.history("last", "float"));
    let mut differ = false;
    for stage in ["float", "quantized"] {
        let is_metric = |run: &str, expected: f64| {
            let found = &workspace.json(&format!("{run}/summary.json"))["metric"][stage];
            let found = found.as_f64().unwrap();
            assert!((found - expected).abs() < 1e-12, "{run}, {stage}: {found}, not {expected}");
        };
        let history = workspace.history("best", stage);
        let best = history.iter().copied().fold(0.0, f64::max);
        is_metric("best", best);
        is_metric("last", *workspace.history("last", stage).last().unwrap());
        differ |= best != history[9];
    }
    assert!(differ, "the last epochs are the best, which shows nothing");
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run_and_says_what_to_do() {
    let workspace = Workspace::new();
    let sets = ["model.bert.initializer-range=1e30", "train.epochs=3"];
    workspace.train(BERT, "run", &sets).code(1).says([
        "float stage, epoch 1: the training loss became",
        "lower the learning rate",
        "gradient-clip-norm",
    ]);
    assert!(!workspace.path("run/float.bpk").exists(), "a useless model was kept");
}

#[test]
fn a_folder_that_holds_something_is_left_alone() {
    let workspace = Workspace::new();
    workspace.write("taken/note.txt", "mine");
    workspace.write("file", "mine too");
    for out in ["taken", "file"] {
        workspace.train(LSTM, out, &[]).code(2).says([
            &format!("{out}: is in the way"),
            "--out",
            "--resume",
        ]);
    }
    assert_eq!(
        workspace.files("taken").into_iter().collect::<Vec<_>>(),
        [("note.txt".to_string(), b"mine".to_vec())]
    );
    assert_eq!(workspace.read("file"), "mine too");
    std::fs::create_dir(workspace.path("empty")).unwrap();
    workspace.train(LSTM, "empty", &["train.epochs=0"]).success();
}

#[test]
fn runs_are_numbered_where_no_folder_is_named() {
    let workspace = Workspace::new();
    workspace.write("tiny.toml", LSTM);
    for expected in ["runs/tiny-001", "runs/tiny-002"] {
        workspace
            .ausn(["train", "tiny.toml", "--set", "train.epochs=0"])
            .success()
            .prints([format!("run folder: {expected}")]);
        assert!(workspace.path(expected).join("summary.json").is_file());
    }
}

#[test]
fn a_run_goes_on_where_nobody_reads_its_messages() {
    let workspace = Workspace::new();
    workspace.write("tiny.toml", LSTM);
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = workspace.process(BINARY);
    command.args(["train", "tiny.toml", "--out", "run", "--set", "train.epochs=0"]);
    command.env("AUSN_LOG", "debug").stdout(closed.try_clone().unwrap()).stderr(closed);
    assert!(command.status().unwrap().success());
    assert!(workspace.path("run/summary.json").is_file());
}

#[test]
fn ranges_that_train_and_weights_that_are_normalized_are_those_of_log_codes_and_evaluation() {
    let workspace = Workspace::new();
    let sets = [
        "quant.weight={ coding = 'apot', bits = 4, granularity = 'per-channel', learn-range = 'lsq', normalize = true }",
        "quant.activation={ coding = 'int', bits = 8, learn-range = 'tqt', scale = 'free', range = 'mse' }",
        "train.float.epochs=0",
        "train.quantized.epochs=1",
        "train.quantized.optimizer={ name = 'adamw', learning-rate = 0.02 }",
    ];
    let config = format!(
        "{LSTM}\n[[quant.layer]]\nmatch = \"classifier\"\nweight = {{ coding = \"affine\", bits = 6, learn-range = \"none\" }}\n"
    );
    let left_out = ["not in codes.safetensors: `", " and 2 more, whose levels are not superposed"];
    workspace.train(&config, "run", &sets).success().says(left_out);
    assert!(workspace.read("run/plan.json").contains("\"deviation\""));
    let log = workspace.read("run/layers.csv");
    let mut log = csv::Reader::from_reader(log.as_bytes());
    let header = log.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = log.records().map(Result::unwrap).collect();
    let field = |row: &csv::StringRecord, name: &str| {
        row[header.iter().position(|h| h == name).unwrap()].to_string()
    };
    let (before, after) = rows.split_at(rows.len() / 2);
    for (before, after) in before.iter().zip(after) {
        let coding = field(before, "coding");
        let is_empty = |name: &&str| field(before, name).is_empty();
        assert!(["exponent_bits", "superposition_bits", "underflow"].iter().all(is_empty));
        // The affine weight alone has power-of-two scales.
        let (power, free) = (["range_min", "range_max"], ["scale_min", "scale_max"]);
        let absent = if coding == "affine" { free } else { power };
        assert!(absent.iter().all(is_empty), "{before:?}");
        let scale = |row| field(row, "scale_max").parse::<f32>().unwrap();
        match coding.as_str() {
            "affine" => {}
            _ => assert!(scale(before) != scale(after), "{before:?}: the range did not train"),
        }
    }
    let evaluated = workspace.ausn(["evaluate", "run", "--json"]).success().json();
    let evaluated = evaluated[0]["layers"].as_array().unwrap().clone();
    assert_eq!(evaluated.len(), after.len());
    for (layer, row) in evaluated.iter().zip(after) {
        let (scale, noise) = (field(row, "scale_max"), field(row, "sqnr_db"));
        let found = layer["scale_max"].as_f64().map(|scale| scale as f32);
        assert_eq!(found, scale.parse::<f32>().ok(), "{layer}");
        // Absent where nothing is lost.
        let (found, noise) = (layer["sqnr_db"].as_f64(), noise.parse::<f64>().ok());
        assert_eq!(found.is_some(), noise.is_some(), "{layer}");
        let difference = found.unwrap_or(0.0) - noise.unwrap_or(0.0);
        assert!(difference.abs() < 1e-9, "{layer}");
    }
}

/// A limit on the size of files stands in for a full disk: writing fails, if with another reason.
#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_written_is_named_and_the_run_goes_on_later() {
    let workspace = Workspace::new();
    let long =
        format!("# This is longer than a block of 512 bytes.{}\n{LSTM}", " Much.".repeat(99));
    let scales =
        "quant.weight={ coding = 'ausn', bits = 4, granularity = 'per-group', group-size = 1 }";
    for (file, blocks, config, sets) in [
        ("config.toml", 1, long.as_str(), &[][..]),
        ("metrics.jsonl", 4, LSTM, &[]),
        ("checkpoints/float/optimizer-1.bpk", 12, LSTM, &[]),
        ("float.bpk", 16, LSTM, &["model.lstm.hidden-size=40", "train.epochs=0"]),
        ("plan.json", 16, LSTM, &[scales]),
    ] {
        let [run, whole] =
            ["run", "whole"].map(|name| format!("{name}-of-{file}").replace('/', "-"));
        workspace.train(config, &whole, sets).success();
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let mut command = workspace.process("sh");
        command
            .args(["-c", &script, BINARY, "train", "config.toml", "--quiet", "--out", &run])
            .args(sets.iter().flat_map(|set| ["--set", set]));
        crate::support::run(command).code(1).says([&format!("{run}/{file}"), "File too large"]);
        assert_eq!(workspace.temporary_files(&run), [""; 0], "{file}");

        if file != "config.toml" {
            workspace.resume(&run).success();
            assert!(workspace.result(&run) == workspace.result(&whole), "{file}: another result");
        }
    }
}
