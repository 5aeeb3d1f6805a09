//! Configurations that are refused: exit code 2, and a message that names file, line and key.

use crate::support::{BERT, BINARY, LSTM, Said, Workspace, run};

/// The keys that stand in `LSTM`, each on a line of its own.
const TASK: &str = "name = \"digits\"";
const ARCH: &str = "arch = \"lstm\"";
const HIDDEN: &str = "hidden-size = 8";
const WEIGHT: &str =
    "weight     = { coding = \"ausn\", bits = 4, range = \"mse\", granularity = \"per-channel\" }";
const ACTIVATION: &str = "activation = { coding = \"ausn\", bits = 8, range = \"mse\" }";
const BATCH: &str = "batch-size = 32";
const OPTIMIZER: &str =
    "optimizer = { name = \"adamw\", learning-rate = 5e-3, weight-decay = 0.01 }";

/// Refuses `LSTM` with `old` replaced by `new`, naming the file and the line of the replacement.
#[track_caller]
fn refuses(old: &str, new: &str, expected: &[&str]) {
    let workspace = Workspace::new();
    let line = LSTM.lines().position(|line| line == old).expect("the configuration has the line");
    let place =
        [format!("config.toml, line {}: ", line + 1), format!("config.toml: line {}: ", line + 1)];
    let assert = workspace.train(&LSTM.replace(old, new), "run", &[]).code(2).says(expected);
    let message = String::from_utf8_lossy(&assert.get_output().stderr);
    assert!(place.iter().any(|place| message.contains(place)), "{place:?} is not in: {message}");
    assert!(!workspace.path("run").exists(), "a refused configuration leaves nothing behind");
}

#[test]
fn unknown_keys_and_names_are_refused_with_those_that_are_allowed() {
    for (old, new, expected) in [
        (BATCH, "batchsize = 32", ["unknown field `batchsize`", "`batch-size`"]),
        (HIDDEN, "hidden_size = 8", ["unknown field `hidden_size`", "`hidden-size`"]),
        (
            ARCH,
            "arch = \"lstn\"",
            ["unknown variant `lstn`", "`bert`, `resnet`, `imagenet-resnet`"],
        ),
        (TASK, "name = \"mnist\"", ["unknown variant `mnist`", "`listops`, `sst2`, `cola`"]),
        (WEIGHT, "weight = { coding = \"ausn\", bit = 4 }", ["unknown field `bit`", "`bits`"]),
        (
            WEIGHT,
            "weight = { coding = \"int4\", bits = 4 }",
            ["unknown coding \"int4\"", "\"int\", \"power-of-two\""],
        ),
        (
            OPTIMIZER,
            "optimizer = { name = \"adam\", learning-rate = 5e-3 }",
            ["unknown variant `adam`", "`adamw`"],
        ),
    ] {
        refuses(old, new, &expected);
    }
}

#[test]
fn values_of_the_wrong_type_are_refused() {
    for (old, new, expected) in [
        (BATCH, "batch-size = \"many\"", ["string \"many\"", "batch-size"]),
        (BATCH, "batch-size = -1", ["`-1`", "batch-size"]),
        (HIDDEN, "hidden-size = 8.5", ["`8.5`", "hidden-size"]),
        (TASK, "name = 3", ["name = 3", "wanted string"]),
        (ACTIVATION, "activation = \"ausn\"", ["string \"ausn\"", "activation"]),
        (BATCH, "batch-size = ", ["batch-size", "line"]),
    ] {
        refuses(old, new, &expected);
    }
}

#[test]
fn values_that_cannot_be_are_refused_with_those_that_can() {
    for (old, new, expected) in [
        (
            WEIGHT,
            "weight = { coding = \"ausn\", bits = 40 }",
            ["quant.weight.bits is 40", "must be 2 to 16"],
        ),
        (
            WEIGHT,
            "weight = { coding = \"ausn\", bits = 4, exponent-bits = 3, superposition-bits = 3 }",
            ["quant.weight.bits is 4", "3 exponent bits and 3 superposition bits are 7"],
        ),
        (
            WEIGHT,
            "weight = { coding = \"ausn\", exponent-bits = 9, superposition-bits = 1 }",
            ["quant.weight.exponent-bits", "9 exponent bits are too many"],
        ),
        (
            WEIGHT,
            "weight = { bits = 4 }",
            ["quant.weight.coding is missing", "\"ausn\", \"int\", \"power-of-two\", \"apot\""],
        ),
        (
            WEIGHT,
            "weight = { coding = \"int\", bits = 4, underflow = \"gradual\" }",
            ["quant.weight.underflow", "does not belong to coding = \"int\""],
        ),
        (
            WEIGHT,
            "weight = { coding = \"apot\", bits = 7 }",
            ["quant.weight.bits is 7", "must be 2 to 6"],
        ),
        (
            WEIGHT,
            "weight = { coding = \"power-of-two\" }",
            ["quant.weight.bits is missing", "must be 2 to 5"],
        ),
        (
            WEIGHT,
            "weight = { coding = \"mxfp4\", granularity = \"per-channel\" }",
            ["quant.weight.granularity", "coding = \"mxfp4\", which sets it itself"],
        ),
        (
            ACTIVATION,
            "activation = { coding = \"mxfp4\" }",
            ["quant.activation.coding is mxfp4", "\"minifloat\" has the same levels"],
        ),
        (
            WEIGHT,
            "weight = { coding = \"minifloat\", exponent-bits = 4 }",
            ["quant.weight.mantissa-bits", "is missing"],
        ),
        (
            WEIGHT,
            "weight = { coding = \"minifloat\", exponent-bits = 1, mantissa-bits = 2, reserved = \"ieee\" }",
            ["quant.weight.exponent-bits is refused", "no normal number"],
        ),
        (
            WEIGHT,
            "weight = { coding = \"affine\", bits = 4, learn-range = \"lsq\" }",
            ["quant.weight.learn-range", "does not belong to coding = \"affine\""],
        ),
        (
            WEIGHT,
            "weight = { coding = \"int\", bits = 4, learn-range = \"pact\" }",
            ["quant.weight.learn-range is \"pact\"", "for activations"],
        ),
        (
            WEIGHT,
            "weight = { coding = \"int\", bits = 4, learn-range = \"lsq\", scale = \"power-of-two\" }",
            ["quant.weight.scale is \"power-of-two\"", "\"tqt\" trains either"],
        ),
        (
            ACTIVATION,
            "activation = { coding = \"int\", bits = 8, normalize = true }",
            ["quant.activation.normalize", "is for weights"],
        ),
        (
            WEIGHT,
            "weight = { coding = \"apot\", bits = 4, normalize = true }\nchoose-again = [1]",
            ["quant.choose-again", "does not go with normalize = true"],
        ),
        (
            WEIGHT,
            "weight = { coding = \"apot\", bits = 4, normalize = true }\npost-training.rounding = \"learned\"",
            ["quant.post-training", "does not go with normalize = true"],
        ),
        (
            WEIGHT,
            "weight = { coding = \"ausn\", bits = 4, granularity = \"per-group\" }",
            ["quant.weight.group-size", "at least 1"],
        ),
        (
            WEIGHT,
            "weight = { coding = \"ausn\", bits = 4, range = \"ema-max\" }",
            ["quant.weight.range", "a weight has none"],
        ),
        (
            WEIGHT,
            "weight = { coding = \"ausn\", bits = 4, range = \"fixed\" }",
            ["quant.weight.range-exponent", "is missing"],
        ),
        (
            ACTIVATION,
            "activation = { coding = \"ausn\", bits = 8, granularity = \"per-channel\" }",
            ["quant.activation.granularity", "an activation has one scale for the tensor"],
        ),
        (
            ACTIVATION,
            "activation = { coding = \"ausn\", bits = 8, range = \"percentile\", percentile = 0.0 }",
            ["quant.activation.percentile is 0", "above 0 and at most 100"],
        ),
        (
            OPTIMIZER,
            "optimizer = { name = \"adamw\", learning-rate = -1 }",
            ["train.optimizer.learning-rate is -1", "above 0 and at most 1"],
        ),
        (
            OPTIMIZER,
            "optimizer = { name = \"adamw\", learning-rate = nan }",
            ["train.optimizer.learning-rate is NaN", "above 0 and at most 1"],
        ),
        (
            OPTIMIZER,
            "optimizer = { name = \"adamw\", learning-rate = 5e-3 }\nrange-learning-rate = 2",
            ["train.range-learning-rate is 2", "above 0 and at most 1"],
        ),
        (
            OPTIMIZER,
            "optimizer = { name = \"adamw\", learning-rate = 5e-3 }\nrange-weight-decay = 1",
            ["train.range-weight-decay is 1", "at least 0 and below 1"],
        ),
        (
            OPTIMIZER,
            "optimizer = { name = \"adamw\", learning-rate = 0.1, momentum = 0.9 }",
            ["train.optimizer.momentum", "belongs to `sgd`"],
        ),
        (BATCH, "batch-size = 0", ["train.batch-size is 0", "at least 1"]),
        (BATCH, "calibration-batches = 0", ["train.calibration-batches is 0", "at least 1"]),
        (BATCH, "schedule = { name = \"step\" }", ["train.schedule", "`step` needs every"]),
        (
            BATCH,
            "early-stopping = { patience = 0 }",
            ["train.early-stopping.patience is 0", "at least 1"],
        ),
        (HIDDEN, "hidden-size = 0", ["model.lstm.hidden-size is 0", "must be 1 to 1000000"]),
        (ARCH, "arch = \"bert\"", ["model.arch is \"bert\"", "use resnet, lstm"]),
        (TASK, "name = \"sst2\"", ["model.arch is \"lstm\"", "use bert"]),
        (
            ARCH,
            "arch = \"lstm\"\npretrained = \"folder\"",
            ["model.pretrained", "leave the key out"],
        ),
    ] {
        // The problem may stand in another line than the one that was replaced.
        let workspace = Workspace::new();
        workspace
            .train(&LSTM.replace(old, new), "run", &[])
            .code(2)
            .says(["config.toml, line "])
            .says(expected);
        assert!(!workspace.path("run").exists(), "{new}: something was left behind");
    }
    // Where it is one value, the line is that of the value.
    refuses(BATCH, "batch-size = 0", &["train.batch-size"]);
    refuses(WEIGHT, "weight = { coding = \"ausn\", bits = 40 }", &["quant.weight.bits"]);
    refuses(
        OPTIMIZER,
        "optimizer = { name = \"adamw\", learning-rate = -1 }",
        &["train.optimizer.learning-rate"],
    );
}

#[test]
fn overrides_that_cannot_be_applied_are_refused() {
    let workspace = Workspace::new();
    for (set, expected) in [
        ("train.batchsize=64", ["unknown field `batchsize`", "--set train.batchsize=64"]),
        ("train.batch-size", ["--set train.batch-size: expected key=value", "train.batch-size=64"]),
        ("train..seed=1", ["--set train..seed=1", "the key has an empty part"]),
        ("train.seed.low=1", ["--set train.seed.low=1", "a value that is not a table"]),
        ("quant.layer.0.match=*", ["--set quant.layer.0.match=*", "no such list entry"]),
        (
            "quant.weight.bits=40",
            [
                "config.toml with --set quant.weight.bits=40: quant.weight.bits is 40",
                "must be 2 to 16",
            ],
        ),
        (
            "train.optimizer={ name = 'sgd', learning-rate = -1 }",
            ["config.toml with --set ", "is -1"],
        ),
        (
            "task.sst2.held-out=9",
            ["task.sst2 is not a table of the task \"digits\"", "leave it out"],
        ),
        ("model.bert.pooling=mean", ["model.bert is not a table of the model \"lstm\"", "leave"]),
        ("model.head=published", ["model.head", "model.pretrained does not name"]),
        ("train.seed=-1", ["`-1`", "--set train.seed=-1"]),
    ] {
        workspace.train(LSTM, "run", &[set]).code(2).says(expected);
        assert!(!workspace.path("run").exists(), "{set}: something was left behind");
    }
}

#[test]
fn overrides_reach_the_run_and_are_kept_with_it() {
    let workspace = Workspace::new();
    workspace
        .train(LSTM, "run", &["train.epochs=0", "train.seed=1", "model.lstm.hidden-size=3"])
        .success();
    let kept = workspace.read("run/config.toml");
    assert!(kept.contains("epochs = 0") && kept.contains("hidden-size = 3"), "{kept}");
    assert_eq!(workspace.json("run/summary.json")["seed"], 1);

    workspace.ausn(["train", "config.toml", "--out", "other", "--seed", "5"]).success();
    assert_eq!(workspace.json("other/summary.json")["seed"], 5);
    let large = ["train", "config.toml", "--out", "none", "--seed", "9223372036854775808"];
    workspace.ausn(large).code(2).says(["9223372036854775807"]);
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let workspace = Workspace::new();
    for command in ["train", "plan", "evaluate"] {
        workspace
            .ausn([command, "absent.toml"])
            .code(2)
            .says(["cannot read the configuration absent.toml", "No such file"]);
    }
    workspace.ausn(["evaluate", "absent"]).code(2).says(["absent: there is no such run folder"]);
    workspace
        .ausn(["train", "--resume", "absent"])
        .code(2)
        .says(["absent: there is no such run folder"]);
    workspace.write("empty/note.txt", "not a run");
    workspace.ausn(["evaluate", "empty"]).code(2).says(["empty: is no run folder"]);
}

#[test]
fn a_pattern_that_matches_no_layer_is_refused_before_training() {
    let workspace = Workspace::new();
    let rule = |pattern: &str| {
        format!("\n[[quant.layer]]\nmatch = \"{pattern}\"\nweight = {{ coding = \"float\" }}\n")
    };
    for (pattern, expected) in [
        ("clasifier", &["`clasifier` matches no layer", "did you mean `classifier`?"][..]),
        ("decoder.*", &["`decoder.*` matches no layer", "lstm.input, lstm.recurrent, classifier"]),
        ("a[", &["`a[` is not a valid glob"]),
    ] {
        let config = format!("{LSTM}{}", rule(pattern));
        workspace.train(&config, pattern, &[]).code(2).says(expected);
        assert!(!workspace.path(pattern).exists(), "{pattern}: something was left behind");
        workspace.ausn(["plan", "config.toml"]).code(2).says(expected).stdout("");
    }
}

#[test]
fn settings_that_no_model_can_have_are_refused() {
    let workspace = Workspace::new();
    workspace.write("config.toml", LSTM);
    let layers =
        ["resnet.width", "imagenet-resnet.width", "vgg.width", "vit.layers", "detector.width"];
    let sizes = [
        "lstm.",
        "lstm-language-model.",
        "gru-spotter.",
        "bi-lstm-tagger.",
        "encoder-decoder.",
        "vit.",
        "bert.",
    ];
    let zeros =
        layers.map(str::to_string).into_iter().chain(sizes.map(|m| format!("{m}hidden-size")));
    let zeros =
        zeros.map(|key| (format!("{key}=0"), format!("model.{key} is 0; must be 1 to 1000000")));
    let dropout = [
        "lstm-language-model",
        "gru-spotter",
        "bi-lstm-tagger",
        "encoder-decoder",
        "vit",
        "mobilenet-v2",
    ];
    let ones = dropout.map(|model| {
        (
            format!("{model}.dropout=1.0"),
            format!("model.{model}.dropout is 1; must be at least 0 and below 1"),
        )
    });
    let others = [
        ("lstm-language-model.layers=0", "layers is 0; must be 1 to 1000000"),
        ("encoder-decoder.intermediate-size=0", "intermediate-size is 0; must be 1 to 1000000"),
        ("bert.hidden-size=2000000", "hidden-size is 2000000; must be 1 to 1000000"),
        ("resnet.depth=12002", "depth is 12002; must be 6n + 2"),
        ("mobilenet-v2.width-multiplier=-1.0", "width-multiplier is -1; must be above 0"),
        ("detector.stride=65536", "stride is 65536; must be 2, 4, 8, 16, 32 or 64"),
        ("vit.heads=5", "must divide hidden-size"),
    ]
    .map(|(set, expected)| (set.to_string(), expected.to_string()));
    for (set, expected) in zeros.chain(ones).chain(others) {
        workspace
            .ausn(["plan", "config.toml", "--set", &format!("model.{set}")])
            .code(2)
            .says([expected]);
    }
    let beam = "task.translation.beam-search.max-length=0";
    workspace.ausn(["plan", "config.toml", "--set", beam]).code(2).says(["must be 1 to 1000000"]);
}

#[test]
fn more_than_any_machine_holds_is_refused() {
    let workspace = Workspace::new();
    workspace.write("config.toml", LSTM);
    for key in [
        "digit-scenes.train-examples",
        "word-chain.train-words",
        "tone-digits.valid-examples",
        "listops.train-examples",
        "requests.valid-examples",
        "images.shift",
    ] {
        let set = format!("task.{key}=9000000000000000000");
        workspace
            .ausn(["plan", "config.toml", "--set", &set])
            .code(2)
            .says([&format!("task.{key} is 9000000000000000000; must be at most")]);
    }
}

#[test]
fn a_log_filter_that_is_none_is_refused() {
    let workspace = Workspace::new();
    let mut command = workspace.process(BINARY);
    command.args(["devices"]).env("AUSN_LOG", "ausn=loud=1");
    run(command).code(2).says(["AUSN_LOG is `ausn=loud=1`, no log filter such as `debug`"]);
}

#[test]
fn layer_rules_without_effect_are_refused() {
    let workspace = Workspace::new();
    workspace.write("config.toml", LSTM);
    for (rule, expected) in [
        ("match = 'classifier'", "quant.layer.0 gives neither a weight nor an activation a coding"),
        (
            "match = 'classifier', tensor = 'input', weight = { bits = 3 }",
            "gives weights a coding, but is for none",
        ),
        (
            "match = 'classifier', tensor = 'weight', activation = { bits = 6 }",
            "gives activations a coding, but is for none",
        ),
        (
            "match = 'classifier', weight = { coding = 'float', bits = 9 }",
            "beside which other keys have no effect",
        ),
    ] {
        let set = format!("quant.layer=[{{{rule}}}]");
        workspace.ausn(["plan", "config.toml", "--set", &set]).code(2).says([expected]);
    }
}

#[test]
fn settings_that_the_data_contradict_are_refused() {
    for (set, expected) in [
        ("model.bert.max-position-embeddings=3", "model.bert.max-position-embeddings is 3"),
        ("model.bert.vocab-size=5", "model.bert.vocab-size is 5; ListOps has 17 tokens"),
        ("model.bert.num-attention-heads=3", "is 3; must divide hidden-size, 16"),
        ("model.bert.hidden-dropout-prob=1.0", "must be at least 0 and below 1"),
        ("task.text.train-words=1", "task.text.train-words is 1; must be at least 2"),
        ("task.listops.max-length=2", "task.listops.max-length is 2"),
        ("task.listops.train-examples=9000000", "ask for fewer examples"),
    ] {
        let workspace = Workspace::new();
        workspace.train(BERT, "run", &[set]).code(2).says([expected]);
        assert!(!workspace.path("run").exists(), "{set}: something was left behind");
    }
}
