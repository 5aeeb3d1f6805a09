//! `ausn analyze`

use serde_json::Value;

use crate::support::{Said, Workspace};

fn codings(analysis: &Value) -> &Vec<Value> {
    analysis["codings"].as_array().unwrap()
}

fn best(coding: &Value, scale: &str) -> f64 {
    coding[format!("best_{scale}")]["sqnr_db"].as_f64().unwrap()
}

#[test]
fn json_ranks_the_codings_of_every_density() {
    let shown = Workspace::new().ausn(["analyze", "--bits", "4", "--json"]).success().json();
    let analyses = shown.as_array().unwrap();
    let densities: Vec<&Value> = analyses.iter().map(|analysis| &analysis["density"]).collect();
    assert_eq!(densities, ["normal", "laplace", "uniform"]);
    for analysis in analyses {
        let codings = codings(analysis);
        assert_eq!(codings.len(), 6);
        assert!(codings.iter().any(|coding| coding["grid"]["name"] == "apot4"));
        assert!(codings.is_sorted_by_key(|coding| -best(coding, "power_of_two")));
        for coding in codings {
            assert!(best(coding, "free") >= best(coding, "power_of_two"), "{coding}");
        }
    }
    // 15 equal cells over a uniform density: 20 log10 15.
    let uniform = &codings(&analyses[2])[0];
    assert_eq!(uniform["grid"]["name"], "ausn4 E1S2 (uniform)");
    assert!((best(uniform, "free") - 20.0 * 15.0_f64.log10()).abs() < 1e-9, "{uniform}");
}

#[test]
fn scale_decides_the_ranking_and_sigma_the_ranges() {
    let workspace = Workspace::new();
    let args = ["analyze", "--density", "laplace", "--bits", "5", "--json", "--scale", "free"];
    let unit = workspace.ausn(args).success().json();
    assert!(codings(&unit[0]).is_sorted_by_key(|coding| -best(coding, "free")));
    let wide = workspace.ausn(args.iter().chain(&["--sigma", "4"])).success().json();
    let exponent = |analysis: &Value| {
        codings(analysis)[0]["best_power_of_two"]["range_exponent"].as_i64().unwrap()
    };
    assert_eq!(exponent(&wide[0]), exponent(&unit[0]) + 2);
    assert_eq!(best(&codings(&wide[0])[0], "free"), best(&codings(&unit[0])[0], "free"));
}

#[test]
fn text_shows_ranking_ranges_and_optimum() {
    let workspace = Workspace::new();
    workspace
        .ausn(["analyze", "--density", "normal", "--bits", "4", "--unsigned"])
        .success()
        .prints([
            "4 bits on magnitudes of a normal density, standard deviation 1",
            "ausn4u E1S3 (uniform)",
            "ausn4u E4S0 (power of two)",
            "with a free scale",
            "SQNR in dB over the range exponent r",
            "best power-of-two range: r = ",
            "in the mean over an octave of sigma: ausn4u E",
            "best free scale: ",
        ]);
}

#[test]
fn svg_holds_a_panel_for_each_density() {
    let workspace = Workspace::new();
    let args = ["--density", "laplace", "--density", "normal", "--bits", "3", "--svg", "c.svg"];
    workspace.ausn(["analyze"].iter().chain(&args)).success();
    let svg = workspace.read("c.svg");
    for text in
        ["<svg", "numbers of a laplace density", "numbers of a normal density", "ausn3 E2S0"]
    {
        assert!(svg.contains(text), "{text}");
    }
    assert!(!svg.contains("uniform density"));
    workspace
        .ausn(["analyze", "--bits", "3", "--svg", "no/such/folder/c.svg"])
        .code(1)
        .says(["cannot write no/such/folder/c.svg"])
        .stdout("");
}

#[test]
fn impossible_questions_are_refused() {
    let workspace = Workspace::new();
    for (args, expected) in [
        (&["--bits", "1"][..], "--bits 1: 2 to 16 bits are possible"),
        (&["--bits", "17"], "--bits 17: 2 to 16 bits are possible"),
        (&["--bits", "16", "--unsigned"], "--bits 16 --unsigned: 1 to 15 bits are possible"),
        (&["--bits", "4", "--sigma", "0"], "a standard deviation of 0 is not possible"),
        (&["--bits", "4", "--sigma", "-1"], "a standard deviation of -1 is not possible"),
        (&["--bits", "4", "--density", "cauchy"], "\"normal\", \"laplace\" or \"uniform\""),
        (&["--bits", "4", "--scale", "log"], "possible values: power-of-two, free"),
        (&[], "--bits"),
    ] {
        workspace.ausn(["analyze"].iter().chain(args)).code(2).says([expected]).stdout("");
    }
}
