//! `ausn coding`

use serde::Deserialize;
use serde_json::Value;

use crate::support::{Said, Workspace};

const VECTORS: &str = include_str!("../data/ausn_vectors.jsonl");

/// A line of the vectors: a coding, its levels, and how it encodes some numbers.
#[derive(Deserialize)]
struct Vector {
    exponent_bits: u32,
    superposition_bits: u32,
    range_exponent: i32,
    signed: bool,
    underflow: String,
    max: f32,
    unit_exponent: i32,
    levels: Vec<f32>,
    /// Input, sign, code, value.
    cases: Vec<(f32, u64, u64, f32)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shown {
    levels: Vec<f32>,
    max: f32,
    unit_exponent: i32,
    encoded: Vec<Encoded>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Encoded {
    input: f32,
    sign: u64,
    code: u64,
    value: f32,
}

fn coding<'a>(e: &'a str, s: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["coding", "--exponent-bits", e, "--superposition-bits", s];
    args.extend(more);
    args
}

#[test]
fn json_agrees_with_the_vectors_of_an_independent_implementation() {
    let workspace = Workspace::new();
    for line in VECTORS.lines().step_by(9) {
        let vector: Vector = serde_json::from_str(line).unwrap();
        let (e, s) = (vector.exponent_bits.to_string(), vector.superposition_bits.to_string());
        let range = vector.range_exponent.to_string();
        let inputs: Vec<String> = vector.cases.iter().map(|(x, ..)| x.to_string()).collect();
        let mut args =
            coding(&e, &s, &["--json", "--range", &range, "--underflow", &vector.underflow]);
        args.extend((!vector.signed).then_some("--unsigned"));
        args.push("--encode");
        args.extend(inputs.iter().map(String::as_str));

        let shown: Shown = serde_json::from_value(workspace.ausn(args).success().json()).unwrap();
        assert_eq!(shown.levels, vector.levels, "{line}");
        assert_eq!(shown.max, vector.max, "{line}");
        assert_eq!(shown.unit_exponent, vector.unit_exponent, "{line}");
        assert_eq!(shown.encoded.len(), vector.cases.len(), "{line}");
        for (shown, (input, sign, code, value)) in shown.encoded.iter().zip(vector.cases) {
            assert_eq!(shown.input.to_bits(), input.to_bits());
            assert_eq!((shown.sign, shown.code, shown.value), (sign, code, value), "{input}");
        }
    }
}

#[test]
fn text_shows_levels_as_sums_of_powers_and_the_encoded_numbers() {
    Workspace::new()
        .ausn(coding("2", "1", &["--range", "2", "--encode", "-2.4", "0.07"]))
        .success()
        .prints([
            "ausn4 E2S1, range exponent 2: 4 bits, largest level 6, every level a multiple of 2^-1",
            "  000  0\n",
            "  001  0.5  = 2^-1\n",
            "  010  1    = 2^0\n",
            "  111  6    = 2^2 + 2^1\n",
            "  -2.4  ->  1 100  -2\n",
            "  0.07  ->  0 000  0",
        ]);
}

#[test]
fn codings_of_other_families_are_shown_too() {
    let workspace = Workspace::new();
    let shown = |args: &[&str]| {
        let args = ["coding", "--json", "--coding"].iter().chain(args).copied();
        serde_json::from_value::<Shown>(workspace.ausn(args).success().json()).unwrap()
    };
    let int = shown(&["int", "--bits", "3", "--range", "1", "--encode", "-2.4"]);
    assert_eq!(int.levels, [0.0, 1.0, 2.0, 3.0]);
    assert_eq!((int.encoded[0].sign, int.encoded[0].code, int.encoded[0].value), (1, 2, -2.0));
    let apot = shown(&["apot", "--bits", "4"]);
    assert_eq!(apot.levels, [0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0, 1.25]);
    assert_eq!((apot.max, apot.unit_exponent), (1.25, -3));
    let float = shown(&["mxfp8-e4m3", "--range", "8", "--encode", "500"]);
    assert_eq!((float.max, float.encoded[0].value, float.encoded[0].code), (448.0, 448.0, 126));
    let affine = shown(&["affine", "--bits", "2", "--zero-point", "1", "--encode", "-7"]);
    assert_eq!(affine.levels, [-1.0, 0.0, 1.0, 2.0]);
    assert_eq!((affine.encoded[0].sign, affine.encoded[0].code), (0, 0));
    workspace
        .ausn(["coding", "--coding", "power-of-two", "--bits", "3"])
        .success()
        .prints(["pot3, range exponent 0: 3 bits", "  01  0.25  = 2^-2\n"]);
}

#[test]
fn an_unsigned_coding_sends_negative_numbers_to_zero() {
    let args = coding("2", "1", &["--json", "--unsigned", "--encode", "-1", "1"]);
    let shown = Workspace::new().ausn(args).success().json();
    let values: Vec<&Value> =
        shown["encoded"].as_array().unwrap().iter().map(|e| &e["value"]).collect();
    assert_eq!(values, [0.0, 1.0]);
}

#[test]
fn a_zero_code_coding_has_no_evenly_spaced_levels() {
    let shown =
        Workspace::new().ausn(coding("2", "1", &["--json", "--underflow", "zero-code"])).json();
    let levels: Vec<f64> = serde_json::from_value(shown["levels"].clone()).unwrap();
    assert_eq!(levels, [0.0, 0.1875, 0.25, 0.375, 0.5, 0.75, 1.0, 1.5]);
    assert_eq!(shown["unit_exponent"], -4);
}

#[test]
fn infinities_saturate_and_numbers_may_have_exponents() {
    let args = coding(
        "2",
        "1",
        &["--json", "--encode", "inf", "2.5e-1", "--encode=-5e-1", "--encode=-inf"],
    );
    let shown = Workspace::new().ausn(args).success().json();
    let field = |name| shown["encoded"].as_array().unwrap().iter().map(move |e| e[name].clone());
    assert_eq!(field("value").collect::<Vec<_>>(), [1.5, 0.25, -0.5, -1.5]);
    assert_eq!(field("sign").collect::<Vec<_>>(), [0, 0, 1, 1]);
    assert!(field("input").next().unwrap().is_null(), "JSON has no infinity");
}

#[test]
fn impossible_codings_and_numbers_are_refused() {
    let workspace = Workspace::new();
    for (args, expected) in [
        (coding("2", "1", &["--encode", "NaN"]), "NaN has no code in ausn4 E2S1"),
        (coding("6", "1", &[]), "6 exponent bits are too many: at most 5 are allowed"),
        (coding("1", "11", &[]), "11 superposition bits are too many: at most 10"),
        (coding("0", "0", &[]), "at least 1 bit is needed"),
        (coding("0", "2", &["--underflow", "zero-code"]), "at least 1 exponent bit or gradual"),
        (coding("2", "1", &["--underflow", "none"]), "\"gradual\" or \"zero-code\""),
        (coding("2", "1", &["--range", "200"]), "range exponent 200 is not allowed"),
        (coding("2", "1", &["--encode", "five"]), "invalid value 'five'"),
        (vec!["coding", "--exponent-bits", "2"], "`superposition-bits` is missing"),
        (vec!["coding", "--coding", "int"], "`bits` is missing in a format of the coding int"),
        (vec!["coding", "--coding", "int4"], "unknown coding \"int4\""),
        (vec!["coding", "--coding", "apot", "--bits", "7"], "apot has 2 to 6 bits, not 7"),
        (vec!["coding", "--coding", "mxfp4", "--bits", "4"], "does not belong to mxfp4"),
        (vec!["coding", "--coding", "mxfp4", "--unsigned"], "does not belong to mxfp4"),
        (
            vec!["coding", "--coding", "affine", "--bits", "2", "--zero-point", "4"],
            "--zero-point is 4; affine2 has the codes 0 to 3",
        ),
    ] {
        workspace.ausn(args).code(2).says([expected]).stdout("");
    }
}
