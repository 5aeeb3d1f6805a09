//! What README shows is so.

use std::path::Path;

use ausn::config::Config;
use ausn::models::resnet::ResNetConfig;
use ausn::quant::sites;
use ausn::suite::{Suite, Table, groups, marked};
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
        plan.entries
            .iter()
            .find(|entry| is(&entry.site))
            .map(|entry| entry.spec.coding.bits(true).unwrap())
    };
    assert_eq!(bits("stages.0.1.conv1", "weight"), Some(4));
    assert_eq!(bits("classifier", "weight"), Some(8));
    assert_eq!(bits("classifier", "input"), None);
    assert_eq!(bits("stages.1.0.conv1", "input"), Some(8));
}

#[test]
fn every_file_that_the_readme_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = README.split('`').filter(|word| {
        ["configs/", "datasets/", "experiments/"].iter().any(|folder| word.starts_with(folder))
    });
    for path in named {
        assert!(root.join(path).exists(), "README names {path}");
    }
}

#[test]
fn the_performance_table_shows_the_results_that_are_committed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let results = std::fs::read_to_string(root.join("benches/peers/results.json")).unwrap();
    let results: serde_json::Value = serde_json::from_str(&results).unwrap();
    let (_, table) = README.split_once("<!-- performance: begin -->").expect("a table begins");
    let (table, _) = table.split_once("<!-- performance: end -->").expect("the table ends");
    let names = [
        ("BERT", "bert"),
        ("ResNet-20", "resnet20"),
        ("LSTM", "lstm"),
        ("MobileNetV2", "mobilenetv2"),
    ];
    for (title, name) in names {
        let row = table.lines().find(|line| line.starts_with(&format!("| {title}"))).expect(title);
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let times = [
            (2, "ours_float_ms"),
            (3, "ours_quantized_ms"),
            (6, "peer_float_ms"),
            (7, "peer_quantized_ms"),
        ];
        for (column, key) in times {
            let shown: f64 = cells[column].parse().unwrap();
            let measured = results[name][key].as_f64().expect(key);
            assert!((shown - measured).abs() <= 0.5, "{title}, {key}: {shown} but {measured}");
        }
    }
}

#[test]
fn committed_tables_are_made_of_the_results_that_are_committed() {
    // Tests run in the package's folder, from which the paths of suites are meant.
    for entry in std::fs::read_dir("experiments").unwrap() {
        let path = entry.unwrap().path();
        let results = Path::new("experiments/results").join(path.file_stem().unwrap_or_default());
        let Ok(committed) = std::fs::read_to_string(results.join("table.md")) else { continue };
        let suite = Suite::load(&path).unwrap_or_else(|error| panic!("{error}"));
        let groups = groups(&suite, Path::new("runs")).unwrap_or_else(|error| panic!("{error}"));
        let table = Table::gather(&suite, &groups).unwrap_or_else(|error| panic!("{error}"));
        let command = format!("ausn table {} --tables-only", path.display());
        assert!(
            table.markdown() == committed,
            "bring {} up to date with: {command}",
            results.display()
        );
        let shown = marked(README, &suite.name).expect("README has a place for the table");
        let up_to_date = shown == table.overview().trim();
        assert!(up_to_date, "bring README up to date with: {command} --readme README.md");
    }
}
