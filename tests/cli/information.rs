//! Commands that only tell: `plan`, `devices`, `datasets`, and the help.

use std::path::PathBuf;

use serde_json::Value;

use crate::common;
use crate::support::{LSTM, Said, Workspace};

fn configs() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/configs");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    files.sort();
    files
}

#[test]
fn plan_lists_every_tensor_of_the_configurations_that_come_with_the_project() {
    let workspace = Workspace::new();
    let mut checked = 0;
    for config in configs() {
        // Data and pretrained folders are not part of the project; comments name what is needed.
        if std::fs::read_to_string(&config).unwrap().contains("\n# Needs ") {
            continue;
        }
        let config = config.to_str().unwrap();
        let rows = workspace.ausn(["plan", config, "--json"]).success().stderr("").json();
        let rows = rows.as_array().unwrap();
        let weights: Vec<&Value> = rows.iter().filter(|row| row["tensor"] == "weight").collect();
        assert!(!weights.is_empty(), "{config}");
        for row in rows {
            assert!(row["layer"].is_string(), "{config}: {row}");
            assert_eq!(row["bits"].is_u64(), row["coding"] == "ausn", "{config}: {row}");
            assert_eq!(row["shape"].is_array(), row["tensor"] == "weight", "{config}: {row}");
        }
        let quantized = rows.iter().filter(|row| row["coding"] == "ausn").count();
        workspace
            .ausn(["plan", config])
            .success()
            .prints([format!("{quantized} of {} tensors are quantized", rows.len())])
            .prints(weights.iter().map(|row| row["layer"].as_str().unwrap()));
        checked += 1;
    }
    assert!(checked >= 8, "{checked} configurations");
}

#[test]
fn plan_shows_what_rules_and_settings_give_each_tensor() {
    let workspace = Workspace::new();
    let rule = "\n[[quant.layer]]\nmatch = \"classifier\"\nweight = { coding = \"float\" }\n";
    workspace.write("config.toml", format!("{LSTM}{rule}"));
    let set = "quant.weight={ coding = 'ausn', exponent-bits = 2, superposition-bits = 1, \
               granularity = 'per-group', group-size = 32 }";
    let rows = workspace.ausn(["plan", "config.toml", "--json", "--set", set]).success().json();
    let row = |layer: &str, tensor: &str| {
        let found = rows
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["layer"] == layer && row["tensor"] == tensor);
        found.unwrap_or_else(|| panic!("{layer}, {tensor} is not in {rows}")).clone()
    };
    let weight = row("lstm.recurrent", "weight");
    assert_eq!(weight["shape"], serde_json::json!([8, 32]));
    assert_eq!((&weight["bits"], &weight["exponent_bits"]), (&4.into(), &2.into()));
    assert_eq!((&weight["granularity"], &weight["range"]), (&"group of 32".into(), &"mse".into()));
    assert_eq!(row("classifier", "weight")["coding"], "float");
    let shown = |set: &str| {
        let args = ["plan", "config.toml", "--set", set];
        workspace.ausn(args).success()
    };
    shown("quant.weight={ coding = 'mxfp6-e2m3' }").prints(["mxfp6-e2m3", "group of 32"]);
    shown("quant.weight={ coding = 'int', bits = 4, learn-range = 'lsq' }").prints(["free, lsq"]);
    shown("quant.weight={ coding = 'apot', bits = 4, range = 'max', normalize = true }")
        .prints(["max, normalized"]);
    let input = row("classifier", "input");
    assert_eq!((&input["bits"], &input["granularity"]), (&8.into(), &"tensor".into()));
}

#[test]
fn plan_works_for_a_pretrained_model() {
    let (Some(data), Some(pretrained)) =
        (common::data_dir("sst2"), common::pretrained("all-MiniLM-L6-v2"))
    else {
        return;
    };
    let pretrained = std::fs::canonicalize(pretrained).unwrap();
    let set = format!("model.pretrained={}", pretrained.display());
    let config = configs().into_iter().find(|c| c.ends_with("sst2_minilm_ausn4.toml")).unwrap();
    let args = ["plan", config.to_str().unwrap(), "--data-dir", data.to_str().unwrap()];
    Workspace::new()
        .ausn(args.into_iter().chain(["--set", &set]))
        .success()
        .prints(["encoder.layers.5.attention.query", "384 x 384"]);
}

#[test]
fn devices_lists_the_backends_of_this_build_and_others_are_refused() {
    let workspace = Workspace::new();
    let listed = workspace.ausn(["devices", "--json"]).success().json();
    let listed = listed.as_array().unwrap();
    let names: Vec<&str> = listed.iter().map(|d| d["name"].as_str().unwrap()).collect();
    assert_eq!(listed.iter().filter(|d| d["default"] == true).count(), 1);
    workspace.ausn(["devices"]).success().prints(&names).prints(["(default)"]);

    workspace.write("config.toml", LSTM);
    let refused = |device: &str, expected: &[&str]| {
        for command in ["plan", "train", "evaluate"] {
            let args = [command, "config.toml", "--device", device];
            workspace.ausn(args).code(2).says(expected).says(&names);
        }
    };
    refused("abacus", &["--device abacus: no such backend"]);
    let known = ["flex", "ndarray", "wgpu", "vulkan", "metal", "cuda", "rocm"];
    for absent in known.into_iter().filter(|name| !names.contains(name)) {
        refused(absent, &[&format!("rebuild with `--features {absent}`")]);
    }
    for (device, expected) in
        [("flex:1", "flex has one device only"), ("flex:first", "`first` is no device number")]
    {
        workspace.ausn(["plan", "config.toml", "--device", device]).code(2).says([expected]);
    }
    workspace.ausn(["plan", "config.toml", "--device", names[0]]).success();
}

#[test]
fn datasets_list_tells_which_are_at_hand() {
    let workspace = Workspace::new();
    let listed = workspace.ausn(["datasets", "list", "--json"]).success().json();
    let status = |name: &str| {
        listed.as_array().unwrap().iter().find(|d| d["name"] == name).unwrap()["status"].clone()
    };
    assert_eq!(status("optdigits"), "built in");
    assert_eq!(status("listops"), "built in");
    assert_eq!(status("sst2"), "not at hand");
    assert_eq!(status("scan"), "built in");
    assert_eq!(status("cifar-10"), "not at hand");
    workspace.ausn(["datasets", "list"]).success().prints(["optdigits", "sst2", "not at hand"]);
}

#[test]
fn datasets_can_be_at_hand_in_part_or_unpacked() {
    let workspace = Workspace::new();
    for file in ["data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"] {
        workspace.write(&format!("data/cifar-10/{file}"), "");
    }
    workspace.write("data/fsdd/recordings/7_theo_4.wav", "");
    let list = ["datasets", "list", "--json", "--data-dir", "data"];
    let listed = workspace.ausn(list).success().json();
    let status = |name: &str| {
        listed.as_array().unwrap().iter().find(|d| d["name"] == name).unwrap()["status"].clone()
    };
    assert_eq!(status("cifar-10"), "at hand in part");
    assert_eq!(status("fsdd"), "at hand");
    workspace
        .ausn(["datasets", "verify", "fsdd", "--data-dir", "data"])
        .success()
        .prints(["fsdd  fsdd/recordings.tar: unpacked: a folder has no checksum"]);
    workspace
        .ausn(["datasets", "verify", "cifar-10", "--data-dir", "data"])
        .code(1)
        .prints(["data_batch_3.bin: missing, not needed", "test_batch.bin: not the published file"])
        .says(["3 of 6 files are missing or damaged"]);
}

#[test]
fn datasets_verify_tells_missing_and_damaged_files_from_good_ones() {
    let workspace = Workspace::new();
    workspace
        .ausn(["datasets", "verify", "optdigits"])
        .success()
        .prints(["optdigits  optdigits/digits.csv: ok"]);
    workspace.write("data/sst2/train.tsv", "sentence\tlabel\nfine\t1\n");
    let verify = ["datasets", "verify", "sst2", "--data-dir", "data"];
    workspace
        .ausn(verify)
        .code(1)
        .prints(["sst2/train.tsv: not the published file", "sst2/dev.tsv: missing; looked in data"])
        .says(["2 of 2 files are missing or damaged"]);
    let rows = workspace.ausn(verify.into_iter().chain(["--json"])).code(1).json();
    assert_eq!(rows[0]["ok"], false);
    assert_eq!(rows[0]["path"], "data/sst2/train.tsv");
    assert_eq!(rows[1]["path"], Value::Null);
    // Without names it is all data sets.
    workspace.ausn(["datasets", "verify"]).code(1).prints(["digits.csv: ok", "train.tsv: missing"]);
}

#[test]
fn datasets_fetch_offline_says_where_to_put_the_files() {
    let workspace = Workspace::new();
    workspace
        .ausn(["datasets", "fetch", "sst2"])
        .code(1)
        .says(["sst2/train.tsv", "offline", "AUSN_DATA_DIR", "--data-dir"])
        .stdout("");
    workspace.ausn(["datasets", "fetch", "listops"]).success().prints(["listops is built in"]);
    let fetched = workspace.ausn(["datasets", "fetch", "optdigits", "--json"]).success().json();
    assert_eq!(fetched, serde_json::json!({"name": "optdigits", "files": []}));
}

#[test]
fn names_of_data_sets_that_do_not_exist_are_refused() {
    let workspace = Workspace::new();
    for command in ["fetch", "verify"] {
        workspace.ausn(["datasets", command, "sst"]).code(2).says([
            "no data set is called `sst` (did you mean `sst2`?)",
            "optdigits, sst2, listops",
        ]);
        workspace
            .ausn(["datasets", command, "imagenet"])
            .code(2)
            .says(["no data set is called `imagenet`. Known"]);
    }
    workspace.ausn(["datasets", "list", "--data-dir", "absent"]).code(2).says(["absent"]);
}

#[test]
fn the_help_of_every_command_names_its_options() {
    let workspace = Workspace::new();
    let overrides = ["--set", "--seed", "--device"];
    for (command, options) in [
        (
            &[][..],
            &["train", "evaluate", "report", "plan", "datasets", "devices", "coding", "Exit codes"]
                [..],
        ),
        (&["train"], &[&overrides[..], &["--resume", "--out", "CONFIG"]].concat()),
        (&["evaluate"], &[&overrides[..], &["RUN_OR_CONFIG"]].concat()),
        (&["report"], &["RUN", "--out", "--svg", "--png"]),
        (&["plan"], &[&overrides[..], &["CONFIG"]].concat()),
        (&["datasets"], &["list", "fetch", "verify"]),
        (&["datasets", "list"], &[]),
        (&["datasets", "fetch"], &["NAME"]),
        (&["datasets", "verify"], &["NAMES"]),
        (&["devices"], &[]),
        (
            &["coding"],
            &[
                "--exponent-bits",
                "--superposition-bits",
                "--range",
                "--unsigned",
                "--underflow",
                "--encode",
            ],
        ),
    ] {
        let args = command.iter().chain(&["--help"]);
        let global = ["--json", "--quiet", "--data-dir", "--help"];
        workspace.ausn(args).success().prints(global).prints(options).stderr("");
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused_with_the_usage() {
    let workspace = Workspace::new();
    for (args, expected) in [
        (&[][..], "Usage: ausn"),
        (&["trian"], "a similar subcommand exists: 'train'"),
        (&["train"], "<CONFIG>"),
        (&["train", "config.toml", "--resume", "run"], "cannot be used with"),
        (&["train", "--resume", "run", "--seed", "1"], "cannot be used with"),
        (&["evaluate"], "<RUN_OR_CONFIG>"),
        (&["datasets"], "Usage: ausn datasets"),
        (&["plan", "config.toml", "--verbose"], "unexpected argument '--verbose'"),
    ] {
        workspace.ausn(args).code(2).says([expected]).stdout("");
    }
}
