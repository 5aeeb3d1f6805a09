//! Every task family, on built-in data where there are some, and the configurations that ship.

use std::fs;
use std::path::Path;

use ausn::config::Config;
use serde_json::{Value, json};

use crate::support::{Said, Workspace, png};

/// A configuration that ships, shortened so that it trains in seconds.
struct Short {
    config: &'static str,
    set: &'static [&'static str],
    /// Names of the metrics, the one that counts first.
    metrics: &'static [&'static str],
    /// The metric of the quantized model that even the short run reaches; an upper bound where lower
    /// is better.
    reached: f64,
    lower_is_better: bool,
}

const SHORT: [Short; 5] = [
    Short {
        config: "digit_scenes_detector_ausn4",
        set: &[
            "task.digit-scenes.train-examples=400",
            "task.digit-scenes.valid-examples=60",
            "train.float.epochs=3",
        ],
        metrics: &["mAP@0.5", "mAP@0.5:0.95"],
        reached: 0.05,
        lower_is_better: false,
    },
    Short {
        config: "word_chain_lstm_ausn4",
        set: &["train.float.epochs=2"],
        metrics: &["perplexity"],
        // Without the order of the words it is above 20.
        reached: 4.0,
        lower_is_better: true,
    },
    Short {
        config: "tone_digits_gru_ausn4",
        set: &["train.float.epochs=8"],
        metrics: &["accuracy", "top-5 accuracy"],
        reached: 0.5,
        lower_is_better: false,
    },
    Short {
        config: "requests_bilstm_ausn4",
        set: &["train.float.epochs=6"],
        metrics: &["slot F1", "intent accuracy", "exact match"],
        reached: 0.7,
        lower_is_better: false,
    },
    Short {
        config: "scan_transformer_ausn4",
        set: &[
            "task.scan.train-examples=1500",
            "task.scan.valid-examples=50",
            "train.batch-size=32",
            "train.float.epochs=2",
        ],
        metrics: &["BLEU", "exact match"],
        reached: 2.0,
        lower_is_better: false,
    },
];

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("configs/{name}.toml"));
    fs::read_to_string(path).expect("the configuration ships")
}

#[test]
fn every_task_family_trains_quantizes_and_evaluates_on_built_in_data() {
    for Short { config, set, metrics, reached, lower_is_better } in SHORT {
        let workspace = Workspace::new();
        let defaults = ["train.float.epochs=1", "train.quantized.epochs=1"];
        let sets: Vec<&str> = defaults.iter().chain(set).copied().collect();
        workspace.train(&shipped(config), "run", &sets).success();

        let summary = workspace.json("run/summary.json");
        let metric = &summary["metric"];
        assert_eq!(metric["name"], metrics[0], "{config}");
        let split = &summary["splits"]["quantized"][0];
        let others = split["others"].as_array().map_or(0, Vec::len);
        assert_eq!(others, metrics.len() - 1, "{config}: {split}");
        for (index, name) in metrics[1..].iter().enumerate() {
            assert_eq!(split["others"][index]["name"], *name, "{config}");
            assert!(split["others"][index]["value"].is_number(), "{config}: {split}");
        }
        let quantized = metric["quantized"].as_f64().unwrap();
        let reaches = match lower_is_better {
            true => quantized <= reached,
            false => quantized >= reached,
        };
        assert!(reaches, "{config}: {quantized} where {reached} is reached");
        let [logged] = workspace.history_of("run", "quantized", metrics[0])[..] else {
            panic!("{config}: one epoch")
        };
        assert!((logged - quantized).abs() < 1e-9, "{config}: {quantized}, logged {logged}");
        assert!(summary["layers"].as_u64().unwrap() > 0, "{config}");
        let layers = workspace.read("run/layers.csv");
        assert!(layers.lines().all(|line| !line.contains("NaN")), "{config}: {layers}");

        let found = workspace.ausn(["evaluate", "run", "--json"]).success().json();
        assert_eq!(found[0]["splits"][0]["value"], metric["quantized"], "{config}");
    }
}

/// Images of two classes, dark and bright, in the files of every data set of images.
fn write_images(workspace: &Workspace) {
    let shade = |i: u32| [40, 200][i as usize % 2] + i as u8;
    for (part, count) in [("train", 24), ("val", 8)] {
        for i in 0..count {
            let file = format!("images/{part}/{}/{i}.png", ["dark", "bright"][i as usize % 2]);
            workspace.write(&file, png(40, 36, [shade(i); 3]));
        }
    }
    for (part, count) in [("train", 24), ("t10k", 8)] {
        let idx = |shape: &[u32], values: Vec<u8>| {
            let magic = [0, 0, 8, shape.len() as u8].into_iter();
            let lengths = shape.iter().flat_map(|length| length.to_be_bytes());
            magic.chain(lengths).chain(values).collect::<Vec<u8>>()
        };
        let images = idx(&[count, 28, 28], (0..count).flat_map(|i| [shade(i); 28 * 28]).collect());
        let labels = idx(&[count], (0..count).map(|i| (i % 2) as u8).collect());
        workspace.write(&format!("data/fashion-mnist/{part}-images-idx3-ubyte"), images);
        workspace.write(&format!("data/fashion-mnist/{part}-labels-idx1-ubyte"), labels);
    }
    for (file, count) in [("data_batch_1", 24), ("test_batch", 8)] {
        let record = |i| [(i % 2) as u8].into_iter().chain([shade(i); 3 * 32 * 32]);
        let records: Vec<u8> = (0..count).flat_map(record).collect();
        workspace.write(&format!("data/cifar-10/{file}.bin"), records);
    }
}

#[test]
fn every_model_for_images_trains_on_every_kind_of_file() {
    let resnet = &["model.resnet.depth=8", "model.resnet.width=4"][..];
    let vit = [
        "model.vit.patch-size=8",
        "model.vit.hidden-size=12",
        "model.vit.intermediate-size=16",
        "model.vit.layers=1",
    ];
    let shallow = ["model.imagenet-resnet.depth=18", "model.imagenet-resnet.width=4"];
    let deep = ["model.imagenet-resnet.depth=50", "model.imagenet-resnet.width=4"];
    // With how many weights and activations are quantized. A Vision Transformer has a weight without
    // an input, that of its positions, and the operands of its products are activations.
    for (task, arch, sets, layers) in [
        ("fashion-mnist", "resnet", resnet, 8 + 8),
        ("cifar-10", "resnet", resnet, 8 + 8),
        ("image-folder", "resnet", resnet, 8 + 8),
        ("image-folder", "vgg", &["model.vgg.width=4"], 7 + 7),
        ("image-folder", "mobilenet-v2", &["model.mobilenet-v2.width-multiplier=0.1"], 53 + 53),
        ("image-folder", "imagenet-resnet", &shallow, 21 + 21),
        ("image-folder", "imagenet-resnet", &deep, 54 + 54),
        ("image-folder", "vit", &vit, 9 + 10),
    ] {
        let workspace = Workspace::new();
        write_images(&workspace);
        workspace.write("config.toml", shipped("cifar10_resnet_ausn4"));
        let common = [
            &format!("task.name={task}"),
            &format!("model.arch={arch}"),
            "task.images.folder=images",
            "task.images.side=32",
            "task.images.valid-fraction=0.25",
            "train.batch-size=8",
            "train.float.epochs=1",
            "train.quantized.epochs=1",
        ];
        let sets = common.iter().chain(sets).flat_map(|set| ["--set", set]);
        let args = ["train", "config.toml", "--quiet", "--data-dir", "data", "--out", "run"];
        workspace.ausn(args.into_iter().chain(sets)).success();

        let summary = workspace.json("run/summary.json");
        assert_eq!(summary["layers"], layers, "{task}, {arch}");
        let (examples, splits) = match task {
            "image-folder" => (24, json!([["valid", 8]])),
            _ => (18, json!([["valid", 6], ["test", 8]])),
        };
        assert_eq!(summary["train_examples"], examples, "{task}");
        let found = summary["splits"]["quantized"].as_array().expect("a list").iter();
        let found = found.map(|split| json!([split["split"], split["examples"]]));
        assert_eq!(Value::from_iter(found), splits, "{task}");
        let epochs =
            workspace.metrics("run").into_iter().filter(|entry| entry["split"].is_string());
        // A number that is not finite is null in the log.
        let losses = epochs.filter(|entry| entry["loss"].is_number()).count();
        assert_eq!(losses, 4, "{task}, {arch}: two stages, two splits");
    }
}

#[test]
fn an_image_folder_that_is_missing_is_refused() {
    let workspace = Workspace::new();
    workspace.write("config.toml", shipped("image_folder_resnet18_ausn4"));
    workspace
        .ausn(["train", "config.toml", "--set", "task.images.folder=absent"])
        .code(2)
        .says(["task.images.folder is absent, which is no folder", "train/CLASS/"]);
    workspace.train(&shipped("image_folder_resnet18_ausn4"), "run", &[]).code(2).says(["imagenet"]);
    assert!(!workspace.path("run").exists(), "something was left behind");
}

#[test]
fn every_configuration_that_ships_is_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut count = 0;
    for path in files {
        Config::load(&path, &[]).unwrap_or_else(|error| panic!("{error}"));
        count += 1;
    }
    assert!(count > 15, "{count}");
}

#[test]
fn a_model_that_does_not_serve_the_task_is_refused_with_those_that_do() {
    let workspace = Workspace::new();
    let sets = ["model.arch=resnet"];
    workspace.train(&shipped("ptb_lstm_ausn4"), "run", &sets).code(2).says([
        "model.arch",
        "\"resnet\", which does not serve this task; use lstm-language-model",
    ]);
    workspace
        .train(&shipped("scan_transformer_ausn4"), "run", &["task.translation.beam-search.width=0"])
        .code(2)
        .says(["task.translation.beam-search.width", "must be 1 to 1000000"]);
    workspace
        .train(&shipped("tone_digits_gru_ausn4"), "run", &["task.log-mel.fft-length=255"])
        .code(2)
        .says(["task.log-mel.fft-length"]);
    assert!(!workspace.path("run").exists());
}

/// A translator whose learned positions are as many as its settings need.
#[test]
fn sentences_that_are_too_long_are_cut_in_evaluation() {
    let workspace = Workspace::new();
    let config = shipped("scan_transformer_ausn4");
    let positions = "model.encoder-decoder.positions=learned";
    let tight = [
        "task.scan.train-examples=400",
        "task.scan.valid-examples=20",
        "task.translation.max-tokens=16",
        "task.translation.beam-search.max-length=17",
        "train.float.epochs=0",
        "train.quantized.epochs=0",
        positions,
        "model.encoder-decoder.max-positions=18",
    ];
    workspace.write("config.toml", &config);
    let sets = tight.iter().flat_map(|set| ["--set", set]);
    workspace
        .ausn(["train", "config.toml", "--out", "run"].into_iter().chain(sets))
        .success()
        .says(["training examples that are too long, left out", "texts that are too long, cut"]);
    let splits = &workspace.json("run/summary.json")["splits"]["float"];
    assert_eq!((&splits[0]["examples"], &splits[1]["examples"]), (&20.into(), &20.into()));

    for (set, expected) in [
        (
            "model.encoder-decoder.max-positions=33",
            "task.translation.max-tokens is 32, which takes 34 positions",
        ),
        (
            "model.encoder-decoder.max-positions=100",
            "task.translation.beam-search.max-length is 100, which takes 101 positions",
        ),
    ] {
        let refused = workspace.train(&config, "refused", &[positions, set]).code(2);
        refused.says([expected, "raise model.encoder-decoder.max-positions"]);
    }
    // Sines and cosines are there for any length.
    let few = "model.encoder-decoder.max-positions=33";
    workspace.ausn(["plan", "config.toml", "--set", few]).success();
}

#[test]
fn data_that_are_not_there_say_what_to_do() {
    let workspace = Workspace::new();
    for (config, says) in [
        ("fashion_mnist_resnet_ausn4", "fashion-mnist/train-images-idx3-ubyte"),
        ("ptb_lstm_ausn4", "ptb/ptb.train.txt"),
        ("snips_bilstm_ausn4", "snips/train/seq.in"),
        ("fsdd_gru_ausn4", "fsdd/recordings.tar"),
        ("bccd_detector_ausn4", "bccd/BCCD.tar"),
        ("multi30k_transformer_ausn4", "multi30k/train.en"),
    ] {
        workspace.train(&shipped(config), "run", &[]).code(1).says([says]);
        assert!(!workspace.path("run").exists(), "{config}");
    }
}
