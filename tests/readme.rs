//! What README shows is so.

use std::path::Path;

use ausn::config::Config;
use ausn::models::resnet::ResNetConfig;
use ausn::quant::sites;
use burn::tensor::Device;

const README: &str = include_str!("../README.md");

#[test]
fn the_configuration_in_the_readme_is_valid_and_its_patterns_match() {
    let (_, after) = README.split_once("```toml\n").expect("README shows a configuration");
    let (text, _) = after.split_once("```").expect("the block ends");
    let config = Config::parse(text, Path::new("README.md"), &[]).unwrap();

    let model = ResNetConfig::default().init(1, 10, &Device::default());
    let plan = config.quant.plan(&sites(&model)).unwrap();
    let bits = |layer: &str, tensor: &str| {
        let is = |s: &ausn::quant::Site| s.layer == layer && s.tensor == tensor;
        plan.entries.iter().find(|entry| is(&entry.site)).map(|entry| entry.spec.coding.bits)
    };
    assert_eq!(bits("stages.0.1.conv1", "weight"), Some(4));
    assert_eq!(bits("classifier", "weight"), Some(8));
    assert_eq!(bits("classifier", "input"), None);
    assert_eq!(bits("stages.1.0.conv1", "input"), Some(8));
}

#[test]
fn every_file_that_the_readme_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = README
        .split('`')
        .filter(|word| word.starts_with("configs/") || word.starts_with("datasets/"));
    for path in named {
        assert!(root.join(path).exists(), "README names {path}");
    }
}
