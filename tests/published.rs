//! Published checkpoints: models of torchvision and transformers give here what they give there.
//! The fixtures are those of `data/published/make.py`.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ausn::models::bert::{Bert, BertOutput, TokenBatch};
use ausn::models::mobilenet::{MobileNetV2, MobileNetV2Config};
use ausn::models::resnet_imagenet::{Depth, ImageNetResNetConfig};
use ausn::models::vit::VitConfig;
use ausn::models::{CheckpointError, Classifier, Head, Naming, load_checkpoint};
use ausn::nn::FoldBatchNorm;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use safetensors::{Dtype, tensor::TensorView};
use serde::Deserialize;
use tempfile::TempDir;

/// Classes of the fixtures' models.
const CLASSES: usize = 1000;

#[derive(Deserialize)]
struct Torchvision {
    models: BTreeMap<String, Published>,
}

#[derive(Deserialize)]
struct Published {
    /// Names and shapes of a state dictionary that no file holds.
    #[serde(default)]
    tensors: BTreeMap<String, Vec<usize>>,
    /// The logits of ten classes of two images.
    logits: Vec<Vec<f32>>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/published")
}

fn torchvision(model: &str) -> Published {
    let text = fs::read_to_string(folder().join("torchvision.json")).unwrap();
    let mut fixture: Torchvision = serde_json::from_str(&text).unwrap();
    fixture.models.remove(model).unwrap()
}

/// The same numbers as `values` of `make.py`.
fn values(name: &str, shape: &[usize]) -> Vec<f32> {
    let count = shape.iter().product::<usize>();
    let (centre, width) = match shape {
        [_, rest @ ..] if !rest.is_empty() => {
            (0.0, (3.0 / rest.iter().product::<usize>() as f64).sqrt())
        }
        _ if name.ends_with("running_var") => (0.75, 0.5),
        _ if name.ends_with("weight") => (1.0, 0.2),
        _ => (0.0, 0.1),
    };
    let fnv = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let seed = name.bytes().fold(0x811C_9DC5, fnv);
    let value = |index: usize| {
        let x = seed.wrapping_add((index as u32).wrapping_mul(0x9E37_79B9));
        let x = (x ^ (x >> 16)).wrapping_mul(0x85EB_CA6B);
        let x = (x ^ (x >> 13)).wrapping_mul(0xC2B2_AE35);
        let x = x ^ (x >> 16);
        (centre + width * (f64::from(x >> 8) / 8_388_608.0 - 1.0)) as f32
    };
    (0..count).map(value).collect()
}

/// Writes a state dictionary with the formula's values.
fn write(tensors: &BTreeMap<String, Vec<usize>>, path: &Path) {
    let filled = tensors.iter().map(|(name, shape)| match name.ends_with("num_batches_tracked") {
        true => (name.clone(), Dtype::I64, shape.clone(), vec![0; 8]),
        false => (name.clone(), Dtype::F32, shape.clone(), bytes(&values(name, shape))),
    });
    write_tensors(filled.collect(), path);
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn write_tensors(tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)>, path: &Path) {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// Loads a checkpoint as one of the models, for a number of classes.
type Load = fn(&Path, usize, Head) -> Result<Box<dyn Fn(Tensor<4>) -> Tensor<2>>, CheckpointError>;

fn resnet(
    depth: Depth,
    path: &Path,
    classes: usize,
    head: Head,
) -> Result<Box<dyn Fn(Tensor<4>) -> Tensor<2>>, CheckpointError> {
    let config = ImageNetResNetConfig { depth, ..ImageNetResNetConfig::default() };
    let model = config.from_published(path, classes, head, &Device::default())?;
    Ok(Box::new(move |images| model.forward(images)))
}

const MODELS: [(&str, Load); 3] = [
    ("resnet18", |path, classes, head| resnet(Depth::D18, path, classes, head)),
    ("resnet50", |path, classes, head| resnet(Depth::D50, path, classes, head)),
    ("mobilenet_v2", |path, classes, head| {
        let config = MobileNetV2Config::default();
        let model = config.from_published(path, classes, head, &Device::default())?;
        Ok(Box::new(move |images| model.forward(images)))
    }),
];

fn images(size: usize) -> Tensor<4> {
    let shape = [2, 3, size, size];
    Tensor::from_data(TensorData::new(values("input", &shape), shape), &Device::default())
}

/// The logits are those of torchvision, to 1e-4.
fn check_logits(name: &str, logits: Tensor<2>, expected: &[Vec<f32>]) {
    let step = logits.dims()[1] / 10;
    let found: Vec<f32> = logits.into_data().try_to_vec().unwrap();
    assert_eq!(found.len(), 20 * step);
    for (found, expected) in found.iter().step_by(step).zip(expected.iter().flatten()) {
        assert!((found - expected).abs() < 1e-4, "{name}: {found} instead of {expected}");
    }
}

#[test]
fn torchvision_models_give_torchvisions_logits() {
    let dir = TempDir::new().unwrap();
    for (name, load) in MODELS {
        let published = torchvision(name);
        let path = dir.path().join(format!("{name}.safetensors"));
        write(&published.tensors, &path);
        let model = load(&path, CLASSES, Head::Published).unwrap();
        check_logits(name, model(images(64)), &published.logits);
    }
}

/// The same files as PyTorch writes them: those of `make.py FOLDER`.
#[test]
fn pytorch_files_of_torchvision_models_give_the_same() {
    let Some(folder) = common::pretrained("torchvision") else { return };
    for (name, load) in MODELS {
        let model = load(&folder.join(format!("{name}.pth")), CLASSES, Head::Published).unwrap();
        check_logits(name, model(images(64)), &torchvision(name).logits);
    }
}

/// A MobileNetV2 so narrow that its file is kept here, as PyTorch writes it, in 16 bits.
#[test]
fn a_pytorch_file_in_16_bits_gives_torchvisions_logits_with_its_own_head() {
    let file = |name: &str| folder().join("torchvision").join(name);
    let text = fs::read_to_string(file("mobilenet_v2.json")).unwrap();
    let published: Published = serde_json::from_str(&text).unwrap();
    let config = MobileNetV2Config { width_multiplier: 0.1, ..MobileNetV2Config::default() };
    let load = |classes, head| {
        config.from_published(&file("mobilenet_v2.pth"), classes, head, &Device::default()).unwrap()
    };
    let model = load(10, Head::Published);
    check_logits("mobilenet_v2", model.forward(images(64)), &published.logits);

    let fresh = load(7, Head::Fresh);
    assert_eq!(fresh.forward(images(64)).dims(), [2, 7]);
    // The rest is the file's.
    let whole = MobileNetV2 { classifier: model.classifier, ..fresh };
    check_logits("mobilenet_v2", whole.forward(images(64)), &published.logits);
}

/// Torchvision's Vision Transformer: names differ, queries, keys and values are one matrix there,
/// and class token and positions have more dimensions.
#[test]
fn vit_gives_torchvisions_logits() {
    let published = torchvision("vit");
    let mut tensors = Vec::new();
    let mut add = |name: &str, shape: &[usize], values: &[f32]| {
        tensors.push((name.to_string(), Dtype::F32, shape.to_vec(), bytes(values)));
    };
    for (name, shape) in &published.tensors {
        let values = values(name, shape);
        let here = [
            ("conv_proj.", "patches."),
            ("encoder.layers.encoder_layer_", "layers."),
            ("encoder.pos_embedding", "position.weight"),
            ("encoder.ln.", "norm."),
            ("heads.head.", "classifier."),
            (".ln_1.", ".attention_norm."),
            (".ln_2.", ".output_norm."),
            (".mlp.0.", ".intermediate."),
            (".mlp.3.", ".output."),
            (".self_attention.out_proj.", ".attention.output."),
            (".self_attention.in_proj_", ".attention."),
        ]
        .iter()
        .fold(name.clone(), |name, (from, to)| name.replace(from, to));
        match here.strip_suffix("weight").or(here.strip_suffix("bias")) {
            Some(layer) if layer.ends_with(".attention.") => {
                let tensor = &here[layer.len()..];
                let shape = [&[shape[0] / 3], &shape[1..]].concat();
                for (part, values) in
                    ["query", "key", "value"].iter().zip(values.chunks(values.len() / 3))
                {
                    add(&format!("{layer}{part}.{tensor}"), &shape, values);
                }
            }
            Some("position.") => add(&here, &shape[1..], &values),
            Some(_) => add(&here, shape, &values),
            None => add(&here, &shape[2..], &values),
        }
    }
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("vit.safetensors");
    write_tensors(tensors, &path);

    let config = VitConfig {
        patch_size: 4,
        hidden_size: 12,
        intermediate_size: 20,
        layers: 2,
        heads: 3,
        ..VitConfig::default()
    };
    let wrapped = [
        (r"^(patches|classifier)\.", "$1.layer."),
        (r"\.intermediate\.", ".intermediate.layer."),
        (r"\.output\.", ".output.layer."),
    ];
    let names = wrapped.map(|(from, to)| (from.to_string(), to.to_string()));
    let naming = Naming { names: names.into(), unneeded: |_| false };
    let model = config.init([3, 16, 16], 10, &Device::default());
    let model = load_checkpoint(model, &path, &naming, None).unwrap();
    check_logits("vit", model.forward(images(16)), &published.logits);
}

#[test]
fn folded_batch_norm_gives_torchvisions_logits() {
    let dir = TempDir::new().unwrap();
    let published = torchvision("resnet18");
    let path = dir.path().join("resnet18.safetensors");
    write(&published.tensors, &path);
    let device = Device::default();
    let config = ImageNetResNetConfig::default();
    let model = config.from_published(&path, CLASSES, Head::Published, &device).unwrap();
    let folded = model.fold_batch_norm().unwrap();
    check_logits("resnet18", folded.forward(images(64)), &published.logits);
}

#[test]
fn fresh_head_serves_other_classes() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("resnet18.safetensors");
    write(&torchvision("resnet18").tensors, &path);
    let device = Device::default();
    let config = ImageNetResNetConfig::default();
    let model = config.from_published(&path, 7, Head::Fresh, &device).unwrap();
    assert_eq!(model.forward(images(64)).dims(), [2, 7]);
    let stem: Vec<f32> = model.stem.layer.weight.val().into_data().try_to_vec().unwrap();
    assert_eq!(stem, values("conv1.weight", &[64, 3, 7, 7]), "the rest is the file's");

    let error = config.from_published(&path, 7, Head::Published, &device).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("classifier.layer.weight"), "{message}");
}

#[test]
fn files_that_do_not_fit_say_what_is_wrong() {
    let dir = TempDir::new().unwrap();
    let load = |path: &Path| {
        let config = ImageNetResNetConfig::default();
        let device = Device::default();
        config.from_published(path, CLASSES, Head::Published, &device).unwrap_err().to_string()
    };
    let path = dir.path().join("resnet18.safetensors");
    let mut tensors = torchvision("resnet18").tensors;
    tensors.remove("layer3.0.downsample.1.running_var").unwrap();
    tensors.insert("layer5.weight".to_string(), vec![2]);
    tensors.insert("bn1.bias".to_string(), vec![32]);
    write(&tensors, &path);
    let message = load(&path);
    for part in [
        "tensor `stages.2.0.projection.norm.running_var` is missing",
        "tensor `layer5.weight` of the file has no place",
        "stem.norm.beta",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }

    let missing = load(&dir.path().join("no.pth"));
    assert!(missing.starts_with("cannot read "), "{missing}");
    let other = dir.path().join("resnet18.h5");
    fs::write(&other, "x").unwrap();
    assert!(load(&other).contains("of no known kind"), "{}", load(&other));
    for name in ["damaged.pth", "damaged.safetensors"] {
        let damaged = dir.path().join(name);
        fs::write(&damaged, [0x80, 2, 40, 5]).unwrap();
        assert!(load(&damaged).contains("is not a complete"), "{}", load(&damaged));
    }
}

#[derive(Deserialize)]
struct ExpectedBert {
    tokens: Vec<Vec<i64>>,
    attention_mask: Vec<Vec<i64>>,
    first_hidden: Vec<Vec<f32>>,
    pooled: Vec<Vec<f32>>,
}

/// A published folder with the fixture's configuration and one file of weights.
fn bert(weights: &str, name: &str) -> Result<(BertOutput, ExpectedBert), CheckpointError> {
    let (source, dir) = (folder().join("bert"), TempDir::new().unwrap());
    fs::copy(source.join("config.json"), dir.path().join("config.json")).unwrap();
    fs::copy(source.join(weights), dir.path().join(name)).unwrap();
    let device = Device::default();
    let (bert, _) = Bert::from_published(dir.path(), &device)?;

    let text = fs::read_to_string(source.join("expected.json")).unwrap();
    let expected: ExpectedBert = serde_json::from_str(&text).unwrap();
    let shape = [expected.tokens.len(), expected.tokens[0].len()];
    let flat = |rows: &[Vec<i64>]| TensorData::new(rows.concat(), shape);
    let mask: Tensor<2, Int> = Tensor::from_data(flat(&expected.attention_mask), &device);
    let padding: Tensor<2, Bool> = mask.equal_scalar(0);
    let tokens = Tensor::from_data(flat(&expected.tokens), &device);
    Ok((bert.forward(TokenBatch { tokens, padding, types: None }), expected))
}

#[test]
fn bert_files_of_every_kind_give_transformers_outputs() {
    for (weights, name, tolerance) in [
        ("model.safetensors", "model.safetensors", 1e-4),
        ("pytorch_model.bin", "pytorch_model.bin", 1e-4),
        // The format before zip, old names, and the heads of pretraining.
        ("legacy.bin", "pytorch_model.bin", 1e-4),
        // Weights in 16 bits beside an optimizer's state.
        ("training.pt", "pytorch_model.bin", 1e-2),
    ] {
        let (output, expected) = bert(weights, name).unwrap();
        let first = output.hidden.narrow(1, 0, 1).squeeze_dim::<2>(1);
        for (found, expected) in [(first, expected.first_hidden), (output.pooled, expected.pooled)]
        {
            let found: Vec<f32> = found.into_data().try_to_vec().unwrap();
            let expected = expected.concat();
            assert_eq!(found.len(), expected.len());
            for (f, e) in found.iter().zip(&expected) {
                assert!((f - e).abs() < tolerance, "{weights}: {f} instead of {e}");
            }
        }
    }
}

#[test]
fn damaged_pytorch_file_is_an_error_that_names_it() {
    let (source, dir) = (folder().join("bert"), TempDir::new().unwrap());
    fs::copy(source.join("config.json"), dir.path().join("config.json")).unwrap();
    let whole = fs::read(source.join("pytorch_model.bin")).unwrap();
    let path = dir.path().join("pytorch_model.bin");
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let message = Bert::from_published(dir.path(), &Device::default()).unwrap_err().to_string();
    assert!(message.contains("pytorch_model.bin is not a complete PyTorch file"), "{message}");
}
