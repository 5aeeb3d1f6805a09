//! Reports of small runs, written by hand.

use std::fs;
use std::path::Path;

use roxmltree::{Document, Node};
use tempfile::TempDir;

use super::*;
use crate::coding::Family;

const CONFIG: &str = "[task]\nname = \"digits\" # <&>\n";

/// A layer that would be markup if it were not escaped.
const HOSTILE: &str = "<b>&\"'";

const SUMMARY: &str = r#"{
  "task": "digits", "seed": 7, "layers": 3, "parameters": 1100, "train_examples": 1000,
  "metric": {"name": "accuracy", "unit": "fraction", "higher_is_better": true, "float": 0.9, "calibrated": 0.7, "quantized": 0.85},
  "seconds": {"float": 12.5, "quantized": 700.0}, "epochs": {"float": 2, "quantized": 1},
  "splits": {
    "float": [{"split": "valid", "value": 0.9, "examples": 100, "others": [{"name": "top-5", "value": 0.99}]},
              {"split": "test", "value": 0.88, "examples": 50}],
    "calibrated": [{"split": "valid", "value": 0.7, "examples": 100}, {"split": "test", "value": 0.69, "examples": 50}],
    "quantized": [{"split": "valid", "value": 0.85, "standard_error": 0.0357, "examples": 100}, {"split": "test", "value": 0.86, "examples": 50}]
  },
  "first_layer": {"layer": "stem", "weight": 4, "activation": null},
  "last_layer": {"layer": "stem", "weight": 4, "activation": null}, "version": "0.1.0", "commit": null
}"#;

const METRICS: &str = r#"{"stage":"float","epoch":1,"step":1,"loss":4.0}
{"stage":"float","epoch":1,"step":2,"loss":2.0}
{"stage":"float","epoch":1,"split":"train","loss":3.0,"seconds":1.0}
{"stage":"float","epoch":1,"split":"valid","loss":2.5,"accuracy":0.5,"seconds":1.0}
{"stage":"float","epoch":2,"step":1,"loss":1.0}
{"stage":"float","epoch":2,"step":2,"loss":0.5}
{"stage":"float","epoch":2,"split":"train","loss":0.75,"seconds":1.0}
{"stage":"float","epoch":2,"split":"valid","loss":1.5,"accuracy":0.9,"seconds":1.0}
{"stage":"quantized","epoch":1,"step":1,"loss":0.6}
{"stage":"quantized","epoch":1,"split":"train","loss":0.6,"seconds":1.0}
{"stage":"quantized","epoch":1,"split":"valid","loss":1.6,"accuracy":0.85,"seconds":1.0}
"#;

/// Errors of 20 dB and 30 dB, all of them a half clipping; the hostile layer's activation loses nothing.
const LAYERS: &str = "\
stage,layer,tensor,kind,coding,bits,signed,exponent_bits,superposition_bits,underflow,scales,range_min,range_max,scale_min,scale_max,values,clipping_error,rounding_error,clipped_fraction,clipping_share,sqnr_db
calibrated,stem,weight,weight,ausn,4,true,2,1,gradual,10,-3,0,,,1000,1.0,1.0,0.02,0.5,20.0
calibrated,\"<b>&\"\"'\",weight,weight,ausn,4,true,2,1,gradual,1,-1,-1,,,60,1.0,1.0,0.02,0.5,30.0
calibrated,\"<b>&\"\"'\",input,activation,ausn,8,false,1,7,gradual,1,,,0.25,0.25,500,0.0,0.0,0.0,0.0,
quantized,stem,weight,weight,ausn,4,true,2,1,gradual,10,-3,0,,,1000,2.0,2.0,0.03,0.5,30.0
quantized,\"<b>&\"\"'\",weight,weight,ausn,4,true,2,1,gradual,1,-1,-1,,,60,2.0,2.0,0.03,0.5,30.0
quantized,\"<b>&\"\"'\",input,activation,ausn,8,false,1,7,gradual,1,,,0.25,0.25,500,0.0,0.0,0.0,0.0,
";

const PLAN: &str = r#"{"sites": [
  {"site": {"path": "stem.weight", "layer": "stem", "tensor": "weight",
            "kind": {"weight": {"shape": [10, 100], "channel-axis": 0, "input-axis": 1}}},
   "format": {"exponent-bits": 2, "superposition-bits": 1, "signed": true},
   "granularity": "per-channel", "estimator": "clipped", "range-exponents": [0]}
]}"#;

/// Five levels, of which the outermost are at 40 and 360 of 400 equal parts of the plot's width.
const HISTOGRAMS: &str = r#"{"tensors": [{
  "layer": "stem", "tensor": "weight", "weight": true, "coding": "ausn4 E2S1", "scales": [0.5, 0.5],
  "extent": [-1.25, 1.25], "counts": [1, 10, 100, 0, 10], "outside": [0, 1],
  "range": [-1.0, 1.0], "level-count": 5, "levels": [-1.0, -0.5, 0.0, 0.5, 1.0]
}]}"#;

const FILES: [(&str, &str); 6] = [
    ("config.toml", CONFIG),
    ("summary.json", SUMMARY),
    ("metrics.jsonl", METRICS),
    ("layers.csv", LAYERS),
    ("plan.json", PLAN),
    ("histograms.json", HISTOGRAMS),
];

fn write(folder: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(folder).unwrap();
    for (name, content) in files {
        fs::write(folder.join(name), content).unwrap();
    }
}

/// A finished run, with some files in the place of the usual ones.
fn run_with(files: &[(&str, &str)]) -> Result<Run, ReportError> {
    let folder = TempDir::new().unwrap();
    write(folder.path(), &FILES);
    write(folder.path(), files);
    Run::read(folder.path())
}

fn run() -> Run {
    run_with(&[]).unwrap()
}

fn plot(plots: &[Plot], name: &str) -> String {
    let names: Vec<&str> = plots.iter().map(|plot| plot.name.as_str()).collect();
    let plot = plots.iter().find(|plot| plot.name == name);
    plot.unwrap_or_else(|| panic!("{name} is not among {names:?}")).svg()
}

/// Elements of a kind whose attribute has a value.
fn with<'a>(svg: &'a Document, tag: &str, attribute: &str, value: &str) -> Vec<Node<'a, 'a>> {
    let is = |node: &Node| node.has_tag_name(("http://www.w3.org/2000/svg", tag));
    let elements = svg.descendants().filter(is);
    elements.filter(|node| node.attribute(attribute) == Some(value)).collect()
}

fn number(node: &Node, attribute: &str) -> f64 {
    node.attribute(attribute).unwrap().parse().unwrap()
}

const BLUE: &str = "#0072B2";
const VERMILLION: &str = "#D55E00";

#[test]
fn every_plot_is_there_and_shows_its_data() {
    let plots = plots(&run());
    let names: Vec<&str> = plots.iter().map(|plot| plot.name.as_str()).collect();
    assert_eq!(
        names,
        ["scores", "loss", "metric", "errors-weights", "errors-activations", "histogram-1"]
    );
    for plot in &plots {
        let svg = plot.svg();
        let svg = Document::parse(&svg).unwrap_or_else(|error| panic!("{}: {error}", plot.name));
        for tag in ["title", "desc"] {
            let text = svg.descendants().find(|node| node.tag_name().name() == tag).unwrap();
            assert!(text.text().is_some_and(|text| !text.is_empty()), "{}: no {tag}", plot.name);
        }
    }

    let loss = plot(&plots, "loss");
    let loss = Document::parse(&loss).unwrap();
    let points = |ink: &str| -> Vec<usize> {
        let lines = with(&loss, "polyline", "stroke", ink);
        lines
            .iter()
            .map(|line| line.attribute("points").unwrap().split_whitespace().count())
            .collect()
    };
    // Steps, training and validation of each stage.
    assert_eq!(points(BLUE), [4, 2, 2]);
    assert_eq!(points(VERMILLION), [1, 1, 1]);

    let metric = plot(&plots, "metric");
    let metric = Document::parse(&metric).unwrap();
    // Two epochs, and one in the legend.
    assert_eq!(with(&metric, "circle", "fill", BLUE).len(), 3);

    let scores = plot(&plots, "scores");
    let scores = Document::parse(&scores).unwrap();
    let circles: Vec<f64> =
        with(&scores, "circle", "fill", BLUE).iter().map(|circle| number(circle, "cx")).collect();
    // The legend's, 0.9 on valid, 0.88 on test.
    assert!(circles.len() == 3 && circles[1] > circles[2], "{circles:?}");
}

#[test]
fn bars_end_where_the_errors_are() {
    let plots = plots(&run());
    let svg = plot(&plots, "errors-weights");
    let svg = Document::parse(&svg).unwrap();
    // The axis goes from 1e-4 to 1e-2; both halves of a noise of 1e-3 are at 5e-4.
    let labels: Vec<&str> = svg.descendants().filter_map(|node| node.text()).collect();
    assert!(labels.contains(&"1e−4") && labels.contains(&"1e−2"), "{labels:?}");
    assert!(labels.contains(&"stem") && labels.contains(&HOSTILE), "{labels:?}");
    assert!(labels.contains(&"30.0 dB") && labels.contains(&"3.00 %"), "{labels:?}");
    for ink in [BLUE, VERMILLION] {
        let bars = with(&svg, "rect", "fill", ink);
        // The first is the legend's.
        let widths: Vec<f64> = bars[1..].iter().map(|bar| number(bar, "width")).collect();
        assert_eq!(widths.len(), 2);
        assert_eq!(widths[0], widths[1]);
        let is_end = |node: &Node| matches!(node.text(), Some("1e−4" | "1e−2"));
        let ticks = svg.descendants().filter(|node| node.is_element() && is_end(node));
        let ends: Vec<f64> = ticks.map(|tick| number(&tick, "x")).collect();
        let expected = (ends[1] - ends[0]) * (5e-4_f64.log10() + 4.0) / 2.0;
        assert!((widths[0] - expected).abs() <= 2.0, "{} instead of {expected}", widths[0]);
    }
    let svg = plot(&plots, "errors-activations");
    let svg = Document::parse(&svg).unwrap();
    assert_eq!(with(&svg, "rect", "fill", BLUE).len(), 1, "an error of 0 has a bar");
    assert!(svg.descendants().any(|node| node.text() == Some("exact")));
}

#[test]
fn levels_stand_over_the_histogram_where_they_are() {
    let svg = plot(&plots(&run()), "histogram-1");
    let svg = Document::parse(&svg).unwrap();
    let lines = with(&svg, "polyline", "stroke", VERMILLION);
    let x = |line: &Node| -> f64 {
        line.attribute("points").unwrap().split(',').next().unwrap().parse().unwrap()
    };
    let levels: Vec<f64> = lines[1..].iter().map(x).collect();
    assert_eq!(levels.len(), 5);
    let bars = with(&svg, "polygon", "fill", BLUE);
    let outline: Vec<(f64, f64)> = bars[0]
        .attribute("points")
        .unwrap()
        .split_whitespace()
        .map(|point| point.split_once(',').unwrap())
        .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
        .collect();
    let (left, right) = (outline[0].0, outline[outline.len() - 1].0);
    for (i, level) in levels.iter().enumerate() {
        let expected = left + (right - left) * (0.1 + 0.2 * i as f64);
        assert!((level - expected).abs() <= 2.0, "level {i} is at {level}, not {expected}");
    }
    // One to a hundred values are two decades, whatever their sum; no value reaches the ground.
    let ground = outline[0].1;
    let height = |bin: usize| ground - outline[1 + 2 * bin].1;
    assert!((height(1) - height(0) - (height(2) - height(1))).abs() <= 2.0);
    assert!(height(0) > 0.0 && height(3) == 0.0);
    let labels: Vec<&str> = svg.descendants().filter_map(|node| node.text()).collect();
    assert!(labels.contains(&"levels of ausn4 E2S1 (5)"), "{labels:?}");
    assert!(labels.contains(&"float values (122)"), "{labels:?}");
    // With one scale the axis shows values: levels of a half are at a quarter.
    assert!(labels.contains(&"value") && labels.contains(&"0.4"), "{labels:?}");
}

/// The page without its doctype, as XML: every tag is closed and every attribute quoted.
fn parse(page: &str) -> Document<'_> {
    let xml = page.strip_prefix("<!DOCTYPE html>").unwrap();
    Document::parse(xml).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn pages_are_well_formed_escaped_and_refer_to_nothing_outside() {
    let run = run();
    let mut other = run.clone();
    other.name = HOSTILE.into();
    let pages = [page(&run), comparison(&[run.clone(), other])];
    for page in &pages {
        let document = parse(page);
        assert!(!page.contains(HOSTILE), "a name is not escaped");
        assert!(document.descendants().any(|node| node.text() == Some(HOSTILE)));
        for outside in ["http:", "https:", "//", "url(", "@import", " src="] {
            let lines = page.lines().filter(|line| !line.trim_start().starts_with("//"));
            let found = lines.filter(|line| line.contains(outside)).collect::<Vec<_>>();
            assert!(found.is_empty(), "{outside} in {found:?}");
        }
        let mut ids: Vec<&str> = document.descendants().filter_map(|n| n.attribute("id")).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "an id stands twice");
        for node in document.descendants() {
            for attribute in ["aria-labelledby", "for"] {
                for id in node.attribute(attribute).unwrap_or_default().split_whitespace() {
                    assert!(ids.binary_search(&id).is_ok(), "nothing is called {id}");
                }
            }
            if let Some(target) = node.attribute("href").and_then(|href| href.strip_prefix('#')) {
                assert!(ids.binary_search(&target).is_ok(), "a link leads to {target}");
            }
        }
    }
    assert!(pages[0].contains("name = &quot;digits&quot; # &lt;&amp;&gt;"));
}

fn rows(page: &str, section: &str) -> Vec<Vec<String>> {
    let document = parse(page);
    let is = |node: &Node| node.attribute("aria-labelledby") == Some(section);
    let section = document.descendants().find(is).expect("there is such a section");
    let rows = section.descendants().filter(|node| node.has_tag_name("tr"));
    let cells =
        |row: Node| row.children().map(|cell| cell.text().unwrap_or("").to_string()).collect();
    rows.map(cells).collect()
}

#[test]
fn tables_hold_the_figures() {
    let page = page(&run());
    let metric = rows(&page, "metric");
    let quantized = "0.8500 ± 0.0357";
    assert_eq!(metric[1], ["valid", "accuracy", "100", "0.9000", "0.7000", quantized, "−0.0500"]);
    assert_eq!(metric[2], ["valid", "top-5", "100", "0.9900", "–", "–", "–"]);
    assert_eq!(metric[3], ["test", "accuracy", "50", "0.8800", "0.6900", "0.8600", "−0.0200"]);
    let plan = rows(&page, "plan");
    assert_eq!(
        plan[1],
        [
            "stem",
            "weight",
            "10 × 100",
            "ausn",
            "4",
            "2",
            "1",
            "gradual",
            "10 (per channel)",
            "−3 to 0"
        ]
    );
    assert_eq!(plan[3][4..], ["8 unsigned", "1", "7", "gradual", "1", "2.500e−1"]);
    let cost = rows(&page, "cost");
    let figures: Vec<&str> = cost[1..].iter().map(|row| row[1].as_str()).collect();
    // 1060 weights of 4 bits, 11 scales and 40 other parameters of 4 bytes: 734 of 4400 bytes.
    assert_eq!(
        figures,
        [
            "1\u{202f}100",
            "1\u{202f}060",
            "4.00",
            "4.4 kB",
            "734 B (6.0 times smaller)",
            "1\u{202f}000",
            "12 s (2 epochs)",
            "12 min (1 epoch)",
        ]
    );
}

#[test]
fn a_comparison_has_every_run_in_its_table_and_its_plots() {
    let mut runs = vec![run(), run(), run()];
    for (i, run) in runs.iter_mut().enumerate() {
        run.name = format!("run-{i}");
    }
    runs[2].summary = None;
    let page = comparison(&runs);
    let metric = rows(&page, "metric");
    assert_eq!(metric[1][..4], ["run-0", "digits", "7", "valid"]);
    assert_eq!(metric[1][7], "0.8500 ± 0.0357");
    assert_eq!(metric[7][..2], ["run-2", "not finished"]);
    let errors = rows(&page, "errors");
    assert_eq!(errors[0], ["layer", "tensor", "run-0", "run-1", "run-2"]);
    assert_eq!(errors[1], ["stem", "weight", "30.0 dB", "30.0 dB", "30.0 dB"]);
    assert_eq!(errors[3], [HOSTILE, "input", "exact", "exact", "exact"]);
    let plots = compared_plots(&runs);
    let names: Vec<&str> = plots.iter().map(|plot| plot.name.as_str()).collect();
    assert_eq!(names, ["metric-float", "metric-quantized", "errors-weights", "errors-activations"]);
    let svg = plot(&plots, "errors-weights");
    let svg = Document::parse(&svg).unwrap();
    for ink in [BLUE, VERMILLION, "#00805E"] {
        // Two tensors, clipping and rounding error of each.
        assert_eq!(with(&svg, "circle", "fill", ink).len(), 4);
    }
}

#[test]
fn a_comparison_tells_codings_epochs_and_what_the_runs_set_differently() {
    let config = "[task]\nname = \"digits\"\n[train]\nseed = 2\n\
                  [[quant.layer]]\nmatch = \"*\"\nweight = { bits = 3 }\n";
    let mut other = run_with(&[("config.toml", config)]).unwrap();
    other.name = "other".into();
    for line in &mut other.tensors[1].measured {
        (line.coding, line.exponent_bits) = (Family::Int, None);
    }
    let runs = [run(), other];
    let page = comparison(&runs);
    let name = runs[0].name.clone();
    let plan = rows(&page, "plan");
    let both = ["ausn 4 bits E2 S1 (2)", "ausn 8 bits E1 S7 (1)", "2", "1"];
    assert_eq!(plan[1][1..], both);
    assert_eq!(plan[2][0], "other");
    assert_eq!(plan[2][1], "ausn 4 bits E2 S1 (1), int 4 bits (1)");
    assert_eq!(
        rows(&page, "configuration"),
        [
            vec!["setting", &name, "other"],
            vec!["quant.layer[0].match", "not set", "*"],
            vec!["quant.layer[0].weight.bits", "not set", "3"],
            vec!["train.seed", "not set", "2"],
        ]
    );
    let same = comparison(&[run(), run()]);
    assert!(same.contains("The configurations of the runs are the same"));
    let error = run_with(&[("config.toml", "[task]\nname = \n")]).unwrap_err().to_string();
    assert!(error.contains("config.toml, line 2: ") && error.contains("damaged"), "{error}");
}

#[test]
fn runs_with_other_metrics_are_not_drawn_on_one_axis() {
    let other = run_with(&[
        ("summary.json", &SUMMARY.replace("accuracy", "perplexity")),
        ("metrics.jsonl", &METRICS.replace("accuracy", "perplexity")),
    ]);
    let plots = compared_plots(&[run(), other.unwrap()]);
    let titles: Vec<(&str, &str)> =
        plots[..4].iter().map(|plot| (plot.name.as_str(), plot.title.as_str())).collect();
    assert_eq!(
        titles,
        [
            ("metric-float", "Validation accuracy, float stage"),
            ("metric-quantized", "Validation accuracy, quantized stage"),
            ("metric-2-float", "Validation perplexity, float stage"),
            ("metric-2-quantized", "Validation perplexity, quantized stage"),
        ]
    );
    for (name, there, absent) in
        [("metric-float", BLUE, VERMILLION), ("metric-2-float", VERMILLION, BLUE)]
    {
        let svg = plot(&plots, name);
        assert!(svg.contains(there) && !svg.contains(absent), "{name}");
    }
}

#[test]
fn a_plot_is_a_picture_with_its_colours() {
    let plots = plots(&run());
    let plot = plots.iter().find(|plot| plot.name == "errors-weights").unwrap();
    let picture = image::load_from_memory(&plot.png().unwrap()).unwrap().to_rgb8();
    assert_eq!(picture.width(), 2880);
    for colour in [[0x00, 0x72, 0xB2], [0xD5, 0x5E, 0x00], [0xFF, 0xFF, 0xFF]] {
        let count = picture.pixels().filter(|pixel| pixel.0 == colour).count();
        assert!(count > 1000, "{count} pixels of {colour:?}");
    }
    // Text is drawn, in a font of the program's own.
    let dark =
        picture.pixels().filter(|pixel| pixel.0.iter().all(|channel| *channel < 0x60)).count();
    assert!(dark > 500, "{dark} dark pixels");
}

#[test]
fn a_run_that_is_not_finished_is_reported_so_far() {
    let folder = TempDir::new().unwrap();
    let (cut, _) = METRICS.split_at(METRICS.len() - 30);
    write(folder.path(), &[("config.toml", CONFIG), ("metrics.jsonl", cut)]);
    let run = Run::read(folder.path()).unwrap();
    let page = page(&run);
    parse(&page);
    assert!(page.contains("This run is not finished"));
    let names: Vec<String> = plots(&run).into_iter().map(|plot| plot.name).collect();
    assert_eq!(names, ["loss", "metric"]);

    fs::remove_file(folder.path().join("metrics.jsonl")).unwrap();
    let run = Run::read(folder.path()).unwrap();
    assert!(plots(&run).is_empty());
    assert!(super::page(&run).contains("No epoch was trained"));
    assert!(comparison(&[run.clone(), run]).contains("not finished"));
}

#[test]
fn runs_of_the_same_name_are_told_apart_by_their_paths() {
    let folder = TempDir::new().unwrap();
    let paths = ["a/run", "b/run", "b/other"].map(|name| folder.path().join(name));
    paths.iter().for_each(|path| write(path, &FILES));
    let names: Vec<String> =
        Run::read_all(&paths).unwrap().into_iter().map(|run| run.name).collect();
    assert_eq!(names, [&*paths[0].to_string_lossy(), &paths[1].to_string_lossy(), "other"]);
}

/// Other codings have no E and S, and ranges that are no powers of two.
#[test]
fn columns_are_found_by_name_and_may_be_empty() {
    let layers = "\
coding,layer,stage,tensor,kind,bits,signed,exponent_bits,scales,scale_min,scale_max,values,clipping_error,\
rounding_error,clipped_fraction,clipping_share,sqnr_db,new
int,stem,quantized,weight,weight,4,true,,1,0.25,0.25,1000,1.0,1.0,0.0,0.5,,x
";
    let run = run_with(&[("layers.csv", layers)]).unwrap();
    let plan = rows(&page(&run), "plan");
    assert_eq!(plan[1], ["stem", "weight", "10 × 100", "int", "4", "–", "–", "–", "1", "2.500e−1"]);
}

#[test]
fn what_is_no_run_and_what_is_damaged_is_told() {
    let missing = Run::read(Path::new("/nowhere/run")).unwrap_err();
    assert!(missing.is_user_error());
    assert!(missing.to_string().contains("/nowhere/run: there is no such run folder"), "{missing}");
    let folder = TempDir::new().unwrap();
    let empty = Run::read(folder.path()).unwrap_err();
    assert!(empty.is_user_error() && empty.to_string().contains("holds no config.toml"), "{empty}");

    let number = LAYERS
        .replace("quantized,stem,weight,weight,ausn,4", "quantized,stem,weight,weight,ausn,four");
    let column = LAYERS.replace("clipping_error", "clipping");
    let short = LAYERS.replace(",0.03,0.5,30.0\n", ",0.03\n");
    let nothing = LAYERS
        .replace("calibrated,stem,weight,weight,ausn,4", "calibrated,stem,weight,weight,ausn,");
    let line = METRICS.replacen("{\"stage\":\"float\",\"epoch\":1,\"step\":2", "{\"stage\"", 1);
    for (file, content, at, said) in [
        ("layers.csv", number.as_str(), "line 5", "under `bits`: invalid digit"),
        ("layers.csv", &column, "line 2", "missing field `clipping_error`"),
        ("layers.csv", &short, "line 5", "found record with 19 fields"),
        ("layers.csv", &nothing, "line 2", "under `bits`: cannot parse integer from empty string"),
        ("metrics.jsonl", &line, "line 2", "expected"),
        ("summary.json", "{\n\"task\": 1}", "line 2", "invalid type"),
        ("plan.json", "[]", "line 1", "invalid"),
        ("histograms.json", "{\"tensors\": [{}]}", "line 1", "missing field"),
    ] {
        let error = run_with(&[(file, content)]).unwrap_err();
        assert!(!error.is_user_error());
        let message = error.to_string();
        for part in [&format!("{file}, {at}"), said, "the file is damaged"] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    }
}

/// Names as long as they come, and as many layers, still have their place.
#[test]
fn many_layers_with_long_names_all_have_their_row() {
    let (header, _) = LAYERS.split_once('\n').unwrap();
    let mut layers = format!("{header}\n");
    for i in 0..80 {
        layers.push_str(&format!(
            "quantized,encoder.layers.{i}.attention.self.query_key_value_projection,weight,weight,ausn,4,true,2,1,\
             gradual,1,-1,-1,,,60,2.0,2.0,0.03,0.5,30.0\n"
        ));
    }
    let run = run_with(&[("layers.csv", &layers)]).unwrap();
    let is = |node: &Node| node.text().is_some_and(|text| text.starts_with("encoder.layers."));
    let mut found = 0;
    for i in 1..=2 {
        let svg = plot(&plots(&run), &format!("errors-weights-{i}"));
        let svg = Document::parse(&svg).unwrap();
        let names = svg.descendants().filter(|node| node.is_element() && is(node));
        let rows: Vec<f64> = names.map(|node| number(&node, "y")).collect();
        // From top to bottom, far enough from each other to be read.
        assert!(rows.windows(2).all(|pair| pair[1] - pair[0] >= 160.0), "{rows:?}");
        found += rows.len();
    }
    assert_eq!(found, 80);
}

#[test]
fn what_xml_has_no_characters_for_is_replaced() {
    assert_eq!(page::escape("a\u{c}b\u{b}c\u{1}d\te"), "a\u{fffd}b\u{fffd}c\u{fffd}d\te");
}
