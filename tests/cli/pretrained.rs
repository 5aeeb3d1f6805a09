//! Training from pretrained models: a tiny BERT made here, on 40 sentences of each task of GLUE and on
//! requests of SNIPS, and a tiny ResNet-18 under torchvision's names on a folder of images.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use predicates::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use crate::support::{Said, Workspace, png};

const CONFIG: &str = r#"[task]
name = "sst2"

[task.sst2]
max-length = 12

[model]
arch = "bert"
pretrained = "pretrained/tiny"

[quant]
weight     = { coding = "ausn", bits = 4, granularity = "per-channel" }
activation = { coding = "ausn", bits = 8, range = "mse" }

[train]
epochs = 1
batch-size = 8
"#;

const HIDDEN: usize = 16;
const INNER: usize = 32;
const POSITIONS: usize = 16;
const WORDS: [&str; 12] =
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "the", "good", "bad", "film", "plot", "##s", "and"];

/// A weight under its published name.
const QUERY: &str = "encoder.layer.0.attention.self.query.weight";

/// Tensors of a file by name: shape and values.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The tensors of a published BERT with one layer, under their published names.
fn tensors() -> Tensors {
    let (h, i) = (HIDDEN, INNER);
    let mut shapes = vec![
        ("embeddings.word_embeddings.weight".to_string(), vec![WORDS.len(), h]),
        ("embeddings.position_embeddings.weight".to_string(), vec![POSITIONS, h]),
        ("embeddings.token_type_embeddings.weight".to_string(), vec![2, h]),
    ];
    let layer = "encoder.layer.0";
    let linear = [
        (format!("{layer}.attention.self.query"), h, h),
        (format!("{layer}.attention.self.key"), h, h),
        (format!("{layer}.attention.self.value"), h, h),
        (format!("{layer}.attention.output.dense"), h, h),
        (format!("{layer}.intermediate.dense"), i, h),
        (format!("{layer}.output.dense"), h, i),
        ("pooler.dense".to_string(), h, h),
    ];
    for (name, to, from) in linear {
        shapes.push((format!("{name}.weight"), vec![to, from]));
        shapes.push((format!("{name}.bias"), vec![to]));
    }
    let norms = [
        "embeddings.LayerNorm".to_string(),
        format!("{layer}.attention.output.LayerNorm"),
        format!("{layer}.output.LayerNorm"),
    ];
    for norm in norms {
        shapes.push((format!("{norm}.weight"), vec![h]));
        shapes.push((format!("{norm}.bias"), vec![h]));
    }
    let values = |count: usize| (0..count).map(|i| (i as f32 * 0.7).sin() * 0.3).collect();
    let filled = |shape: Vec<usize>| (shape.clone(), values(shape.iter().product()));
    shapes.into_iter().map(|(name, shape)| (name, filled(shape))).collect()
}

fn safetensors(tensors: &Tensors) -> Vec<u8> {
    let bytes: Vec<(&str, &[usize], Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| {
            (name.as_str(), shape.as_slice(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, data)| {
        (*name, TensorView::new(Dtype::F32, shape.to_vec(), data).expect("shape and data agree"))
    });
    safetensors::serialize(views, None).unwrap()
}

fn bert_config() -> Value {
    json!({
        "model_type": "bert", "hidden_act": "gelu", "hidden_size": HIDDEN,
        "intermediate_size": INNER, "num_hidden_layers": 1, "num_attention_heads": 2,
        "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "vocab_size": WORDS.len(),
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
        "layer_norm_eps": 1e-12, "initializer_range": 0.02,
    })
}

fn tokenizer() -> Value {
    let id = |word: &str| WORDS.iter().position(|known| *known == word).unwrap();
    let special = |word: &str| {
        json!({"id": id(word), "content": word, "special": true, "single_word": false,
               "lstrip": false, "rstrip": false, "normalized": false})
    };
    let frame = |word: &str| json!({"SpecialToken": {"id": word, "type_id": 0}});
    let token = |word: &str| json!({"id": word, "ids": [id(word)], "tokens": [word]});
    let vocabulary: BTreeMap<&str, usize> =
        WORDS.iter().enumerate().map(|(id, word)| (*word, id)).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": WORDS[..4].iter().map(|word| special(word)).collect::<Vec<_>>(),
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [frame("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, frame("[SEP]")],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": token("[CLS]"), "[SEP]": token("[SEP]")},
        },
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocabulary},
    })
}

/// `count` different sentences, every second one positive.
fn sentences(count: usize) -> String {
    let mut text = String::from("sentence\tlabel\n");
    for i in 0..count {
        let (word, noun) = (["bad", "good"][i % 2], ["film", "plots", "plot"][i % 3]);
        text.push_str(&format!(
            "{i} {} the {word} {noun} \t{}\n",
            "a film and ".repeat(i % 4),
            i % 2
        ));
    }
    text
}

/// A workspace with the pretrained folder and the data, all of it in order.
fn workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace.write("pretrained/tiny/config.json", bert_config().to_string());
    workspace.write("pretrained/tiny/tokenizer.json", tokenizer().to_string());
    workspace.write("pretrained/tiny/model.safetensors", safetensors(&tensors()));
    workspace.write("data/sst2/train.tsv", sentences(40));
    workspace.write("data/sst2/dev.tsv", sentences(12));
    workspace
}

fn train(workspace: &Workspace, sets: &[&str]) -> assert_cmd::assert::Assert {
    let data = ["--data-dir", "data"];
    workspace.write("config.toml", CONFIG);
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let args = ["train", "config.toml", "--out", "run", "--quiet"];
    workspace.ausn(args.into_iter().chain(data).chain(sets))
}

fn gzipped(content: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_pretrained_model_is_trained_and_quantized_on_sentences() {
    let workspace = workspace();
    // Edited data are used, with a warning: figures on them compare with nobody's.
    train(&workspace, &[])
        .success()
        .says(["train.tsv is not the published file"])
        .stderr(predicate::str::contains("\u{1b}").not());
    let summary = workspace.json("run/summary.json");
    assert_eq!((&summary["task"], &summary["train_examples"]), (&"sst2".into(), &40.into()));
    let splits = &summary["splits"]["quantized"];
    assert_eq!((&splits[0]["split"], &splits[0]["examples"]), (&"dev".into(), &12.into()));

    let evaluate = ["evaluate", "run", "--json", "--data-dir", "data"];
    let found = workspace.ausn(evaluate).success().json();
    assert_eq!(found[0]["splits"][0]["value"], summary["metric"]["quantized"]);
}

#[test]
fn published_weights_arrive_in_the_model() {
    let workspace = workspace();
    let none = ["quant.weight={ coding = 'ausn', bits = 16 }", "train.epochs=0"];
    train(&workspace, &none).success();
    let found = workspace.tensors("run/model.safetensors");
    let published = tensors();
    let (shape, values) = &published["encoder.layer.0.intermediate.dense.weight"];
    let ours = &found["encoder.layers.0.intermediate.layer.weight"];
    // PyTorch stores `[output, input]`, Burn `[input, output]`.
    for (i, &value) in values.iter().enumerate() {
        let (to, from) = (i / shape[1], i % shape[1]);
        let here = ours[from * shape[0] + to];
        assert!((here - value).abs() < 1e-3, "[{to}, {from}]: {value} became {here}");
    }
    let bias = &published["pooler.dense.bias"].1;
    assert_eq!(&found["encoder.pooler.layer.bias"], bias);
}

#[test]
fn whole_sentences_can_be_held_out() {
    let workspace = workspace();
    train(&workspace, &["task.sst2.held-out=3"]).success();
    let summary = workspace.json("run/summary.json");
    let splits = summary["splits"]["quantized"].as_array().unwrap();
    // Training watches the first one.
    assert_eq!((&splits[0]["split"], &splits[1]["split"]), (&"held-out".into(), &"dev".into()));
    let held_out = splits[0]["examples"].as_u64().unwrap();
    assert!(held_out >= 3);
    assert_eq!(summary["train_examples"].as_u64().unwrap() + held_out, 40);
    assert_eq!(summary["metric"]["quantized"], splits[0]["value"]);
}

#[test]
fn tasks_of_glue_are_learned_with_a_part_of_them_held_out() {
    // The header and the rows of the files, the answers to a good and to a bad film, and what is
    // measured.
    for (task, folder, header, row, labels, metrics) in [
        (
            "cola",
            "CoLA",
            "",
            "gj04\tLABEL\t\tTEXT\n",
            ["1", "0"],
            &["Matthews correlation", "accuracy"][..],
        ),
        (
            "mrpc",
            "MRPC",
            "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n",
            "LABEL\t1\t2\tTEXT\tthe plot\n",
            ["1", "0"],
            &["F1", "accuracy"],
        ),
        (
            "rte",
            "RTE",
            "index\tsentence1\tsentence2\tlabel\n",
            "1\tTEXT\tthe plot\tLABEL\n",
            ["entailment", "not_entailment"],
            &["accuracy"],
        ),
        (
            "stsb",
            "STS-B",
            "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n",
            "1\tg\tf\t2012\t1\ts\tt\tthe plot\tTEXT\tLABEL\n",
            ["4.800", "0.25"],
            &["Spearman correlation", "Pearson correlation"],
        ),
    ] {
        let workspace = workspace();
        for (part, count) in [("train", 40), ("dev", 6)] {
            let row = |i: usize| {
                let text = format!("{}the {} film", "a ".repeat(i % 3), ["good", "bad"][i % 2]);
                row.replace("TEXT", &text).replace("LABEL", labels[i % 2])
            };
            let content = (0..count).map(row).fold(header.to_string(), |text, row| text + &row);
            workspace.write(&format!("data/glue/{folder}/{part}.tsv"), content);
        }
        let task = format!("task.name={task}");
        let whole = [task.as_str(), "task.glue.valid-fraction=1"];
        train(&workspace, &whole).code(2).says(["task.glue.valid-fraction is 1", "below 1"]);
        let optimizer = "train.optimizer={ name = 'adamw', learning-rate = 1e-2 }";
        let sets = [
            &task,
            "task.glue.max-length=16",
            "task.glue.valid-fraction=0.25",
            "model.bert.pooling=mean",
            "train.epochs=20",
            optimizer,
        ];
        train(&workspace, &sets).success();
        let summary = workspace.json("run/summary.json");
        assert_eq!(summary["train_examples"], 30, "{task}");
        let splits = &summary["splits"]["quantized"];
        let found = [0, 1].map(|i| (&splits[i]["split"], &splits[i]["examples"]));
        assert_eq!(found, [(&"valid".into(), &10.into()), (&"dev".into(), &6.into())], "{task}");
        assert_eq!(summary["metric"]["name"], metrics[0]);
        let others = splits[1]["others"].as_array().into_iter().flatten();
        assert_eq!(others.map(|other| &other["name"]).collect::<Vec<_>>(), metrics[1..]);
        // One word tells the answer. Where there are two answers alone, not all ranks can agree.
        let found = splits[1]["value"].as_f64().expect("a number");
        assert!(found > 0.8, "{task}: {splits}");
    }
}

#[test]
fn a_weights_file_that_does_not_fit_is_refused_with_the_tensor() {
    let workspace = workspace();
    let file = "pretrained/tiny/model.safetensors";
    let whole = safetensors(&tensors());
    let changed = |change: fn(&mut Tensors)| {
        let mut tensors = tensors();
        change(&mut tensors);
        safetensors(&tensors)
    };
    let lacking = changed(|t| drop(t.remove(QUERY).unwrap()));
    let extra = changed(|t| {
        t.insert("encoder.layer.1.output.dense.bias".into(), (vec![HIDDEN], vec![0.0; HIDDEN]));
    });
    let narrow = changed(|t| {
        let (shape, values) = t.get_mut(QUERY).unwrap();
        shape[0] -= 1;
        values.truncate(shape[0] * shape[1]);
    });
    let query_here = "layers.0.attention.query.weight";
    for (content, expected) in [
        (&whole[..whole.len() / 2], &["is not a complete safetensors file"][..]),
        (&whole[..5], &["is not a complete safetensors file"]),
        (b"<html>404</html>", &["is not a complete safetensors file"]),
        (&lacking, &[query_here, "is missing from the file"]),
        (&extra, &["layers.1.output", "has no place in the model"]),
        (&narrow, &[query_here]),
    ] {
        workspace.write(file, content);
        train(&workspace, &[]).code(1).says([file]).says(expected).stdout("");
        assert!(!workspace.path("run").exists(), "{expected:?}: something was left behind");
    }
    workspace.remove(file);
    train(&workspace, &[]).code(1).says([file, "No such file"]);
}

#[test]
fn a_pretrained_folder_that_is_missing_or_of_another_kind_is_refused() {
    let workspace = workspace();
    train(&workspace, &["model.pretrained=absent"]).code(2).says([
        "model.pretrained: there is no `absent`",
        "data/pretrained/absent",
        "AUSN_PRETRAINED_DIR",
    ]);
    train(&workspace, &["model.bert.hidden-size=32"]).code(2).says([
        "model.bert",
        "sets more than `pooling`",
        "leave the other keys out",
    ]);
    let mut gpt = bert_config();
    gpt["model_type"] = "gpt2".into();
    let mut relu = bert_config();
    relu["hidden_act"] = "relu".into();
    let mut heads = bert_config();
    heads["num_attention_heads"] = 3.into();
    for (config, expected) in [
        (gpt.to_string(), "model_type is `gpt2`; only `bert` is supported"),
        (relu.to_string(), "hidden_act is `relu`"),
        (heads.to_string(), "num_attention_heads 3 does not divide hidden_size 16"),
        ("{".to_string(), "does not describe a model"),
    ] {
        workspace.write("pretrained/tiny/config.json", config);
        train(&workspace, &[]).code(1).says(["pretrained/tiny/config.json", expected]);
    }
    workspace.write("pretrained/tiny/config.json", bert_config().to_string());
    workspace.write("pretrained/tiny/tokenizer.json", "{}");
    train(&workspace, &[]).code(1).says(["pretrained/tiny/tokenizer.json", "not a tokenizer.json"]);
    train(&workspace, &["task.sst2.max-length=17"])
        .code(2)
        .says(["task.sst2.max-length is 17; the model has 16 positions"]);
}

#[test]
fn a_tokenizer_with_more_tokens_than_the_model_is_refused() {
    let workspace = workspace();
    let mut tokenizer = tokenizer();
    tokenizer["model"]["vocab"]["good"] = 99.into();
    workspace.write("pretrained/tiny/tokenizer.json", tokenizer.to_string());
    train(&workspace, &[]).code(1).says(["pretrained/tiny/tokenizer.json", "12"]).stdout("");
}

#[test]
fn damaged_data_are_refused_with_file_and_line() {
    let packed = gzipped(&sentences(40));
    let (train_file, dev) = ("data/sst2/train.tsv", "data/sst2/dev.tsv");
    for (file, content, expected) in [
        (
            train_file,
            &b"sentence\tlabel\nfine\t1\npoor\t2\n"[..],
            "line 3: the label is `2`, expected `0` or `1`",
        ),
        (train_file, b"sentence\tlabel\n", "the file is empty"),
        (train_file, b"", "the file is empty"),
        (dev, b"sentence\tlabel\n", "the file is empty"),
        (train_file, b"fine\t1\n", "line 1: the header is missing"),
        (dev, b"sentence\tlabel\nfine\n", "line 2: found 1 columns, expected 2"),
        (train_file, b"sentence\tlabel\nf\xffne\t1\n", "line 2: not UTF-8"),
        (train_file, &packed[..packed.len() / 2], "gzip data is damaged or cut short"),
    ] {
        let workspace = workspace();
        workspace.write(file, content);
        train(&workspace, &[]).code(1).says([file, expected]).stdout("");
        assert!(!workspace.path("run").exists(), "{expected}: something was left behind");
    }

    let workspace = workspace();
    workspace.remove(train_file);
    workspace.write("data/sst2/train.tsv.gz", &packed[..packed.len() / 2]);
    train(&workspace, &[]).code(1).says(["data/sst2/train.tsv.gz", "gzip data is damaged"]);
    workspace.write("data/sst2/train.tsv.gz", &packed);
    train(&workspace, &["train.epochs=0"]).success();
}

#[test]
fn data_that_are_not_there_are_named_with_where_they_were_looked_for() {
    let workspace = workspace();
    workspace.remove("data/sst2/dev.tsv");
    train(&workspace, &[]).code(1).says(["sst2/dev.tsv", "Looked in", "offline", "data"]);
    workspace.write("config.toml", CONFIG);
    workspace
        .ausn(["train", "config.toml", "--data-dir", "absent"])
        .code(2)
        .says(["data-dir = absent", "there is no such folder"]);
}

#[test]
fn settings_that_the_data_cannot_meet_are_refused() {
    let workspace = workspace();
    for (set, expected) in [
        ("task.sst2.max-length=2", "task.sst2.max-length is 2; must be at least 3"),
        ("task.sst2.train-examples=0", "task.sst2.train-examples is 0; must be at least 1"),
        ("task.sst2.held-out=1000", "held-out = 1000 is not possible"),
    ] {
        train(&workspace, &[set]).code(2).says([expected]);
        assert!(!workspace.path("run").exists(), "{set}: something was left behind");
    }
}

/// Requests for a film or a plot, with the noun as their slot.
fn requests(workspace: &Workspace, part: &str, count: usize) {
    let (mut words, mut tags, mut intents) = (String::new(), String::new(), String::new());
    for i in 0..count {
        let (noun, intent) = [("films", "watch"), ("plot", "read")][i % 2];
        words.push_str(&format!("{}a good {noun}\n", "the bad ".repeat(i % 3)));
        tags.push_str(&format!("{}O O B-{intent}\n", "O O ".repeat(i % 3)));
        intents.push_str(&format!("{intent}\n"));
    }
    workspace.write(&format!("data/snips/{part}/seq.in"), words);
    workspace.write(&format!("data/snips/{part}/seq.out"), tags);
    workspace.write(&format!("data/snips/{part}/label"), intents);
}

#[test]
fn a_pretrained_model_learns_intents_and_slots() {
    let workspace = workspace();
    for (part, count) in [("train", 48), ("valid", 12), ("test", 12)] {
        requests(&workspace, part, count);
    }
    let optimizer = "train.optimizer={ name = 'adamw', learning-rate = 1e-2 }";
    let tokens = "task.intents.max-tokens=16";
    train(&workspace, &["task.name=snips", tokens, "train.epochs=60", optimizer]).success();
    let summary = workspace.json("run/summary.json");
    let quantized = &summary["splits"]["quantized"];
    assert_eq!((&quantized[1]["split"], &quantized[1]["examples"]), (&"test".into(), &12.into()));
    // The noun tells slot and intent; sub-words of `films` do not move the slots behind it.
    assert!(summary["metric"]["quantized"].as_f64().unwrap() > 0.9, "{summary}");
    let evaluate = ["evaluate", "run", "--json", "--data-dir", "data"];
    let found = workspace.ausn(evaluate).success().json();
    assert_eq!(found[0]["splits"][0]["value"], summary["metric"]["quantized"]);

    let sets = ["task.name=snips", "task.intents.max-tokens=17"];
    std::fs::remove_dir_all(workspace.path("run")).unwrap();
    train(&workspace, &sets)
        .code(2)
        .says(["task.intents.max-tokens", "is 17; the model has 16 positions"]);
}

const IMAGES: &str = r#"[task]
name = "image-folder"

[task.images]
folder = "images"
side = 32
normalization = "imagenet"

[model]
arch = "imagenet-resnet"
pretrained = "resnet18.safetensors"

[model.imagenet-resnet]
depth = 18
width = 2

[quant]
weight = { coding = "ausn", bits = 16 }

[train]
epochs = 0
"#;

/// The tensors of torchvision's ResNet-18, a 32nd as wide: those of `torchvision/resnet18.pt`, with
/// numbers that 16 bits hold.
fn narrow_resnet_18() -> Tensors {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/published/torchvision.json");
    let fixture: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let shapes = fixture["models"]["resnet18"]["tensors"].as_object().unwrap();
    let narrow = |size: &Value| match size.as_u64().unwrap() as usize {
        1000 => 10,
        wide @ 64.. => wide / 32,
        small => small,
    };
    let tensor = |(name, shape): (&String, &Value)| {
        let shape: Vec<usize> = shape.as_array().unwrap().iter().map(narrow).collect();
        let values = (0..shape.iter().product()).map(|i| 0.5 + (i % 13) as f32 / 64.0);
        (name.clone(), (shape.clone(), values.collect()))
    };
    shapes.iter().map(tensor).collect()
}

#[test]
fn published_weights_for_images_are_loaded_from_a_file() {
    let workspace = Workspace::new();
    for file in ["train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dog/1.png"] {
        workspace.write(&format!("images/{file}"), png(40, 36, [200, 30, 90]));
    }
    let missing = workspace.train(IMAGES, "run", &[]);
    missing
        .code(2)
        .says(["model.pretrained: there is no `resnet18.safetensors`", "AUSN_PRETRAINED_DIR"]);

    workspace.write("resnet18.safetensors", safetensors(&narrow_resnet_18()));
    workspace.train(IMAGES, "run", &[]).success();
    let found = workspace.tensors("run/model.safetensors");
    let (_, stem) = &narrow_resnet_18()["conv1.weight"];
    for (here, there) in found["stem.layer.weight"].iter().zip(stem) {
        assert!((here - there).abs() < 1e-3, "{there} became {here}");
    }
    assert_eq!(found["classifier.layer.bias"].len(), 2, "a fresh head for two classes");
    // The same numbers as PyTorch writes them, in 16 bits.
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/published/torchvision/resnet18.pt");
    workspace.train(IMAGES, "pytorch", &[&format!("model.pretrained={file}")]).success();
    assert!(workspace.tensors("pytorch/model.safetensors") == found, "another model");
    // The file's own head has its classes, not those of the folder.
    workspace
        .train(IMAGES, "published", &["model.head=published"])
        .code(1)
        .says(["resnet18.safetensors", "classifier"]);
}
