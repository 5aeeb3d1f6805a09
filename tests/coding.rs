//! The AUSN number format from outside: golden vectors, properties, and the known formats in the family.

use ausn::coding::{Ausn, AusnFormat, CodeWord, QuantizationError, Underflow, pack, unpack};
use proptest::prelude::*;

/// Made by an independent implementation in exact fractions: every line a coding with its levels, and the code of
/// numbers on, between and beyond them.
const VECTORS: &str = include_str!("data/ausn_vectors.jsonl");

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    exponent_bits: u32,
    superposition_bits: u32,
    range_exponent: i32,
    signed: bool,
    underflow: Underflow,
    max: f32,
    unit_exponent: i32,
    levels: Vec<f32>,
    /// Input, sign, code, value.
    cases: Vec<(f32, u8, u16, f32)>,
}

#[test]
fn golden_vectors() {
    let mut rows = 0;
    let mut cases = 0;
    for line in VECTORS.lines() {
        let row: Row = serde_json::from_str(line).unwrap();
        let coding = coding(
            row.exponent_bits,
            row.superposition_bits,
            row.signed,
            row.underflow,
            row.range_exponent,
        );
        let format = coding.format();
        let quantizer = coding.quantizer();
        assert_eq!(coding.max(), row.max);
        assert_eq!(quantizer.max(), row.max);
        assert_eq!(coding.unit_exponent(), row.unit_exponent);
        assert_eq!(coding.levels(), row.levels);
        for (x, sign, code, value) in row.cases {
            let word = CodeWord { negative: sign == 1, code };
            assert_eq!(coding.encode(x).unwrap(), word, "{format}: {x}");
            assert_eq!(coding.decode(word).unwrap(), value, "{format}: {x}");
            assert_eq!(quantizer.quantize(x), value, "{format}: {x}");
            assert_eq!(CodeWord::from_bits(word.to_bits(format), format).unwrap(), word);
            cases += 1;
        }
        rows += 1;
    }
    assert_eq!(rows, 120);
    assert!(cases > 8_000, "{cases} cases");
}

fn coding(e: u32, s: u32, signed: bool, underflow: Underflow, r: i32) -> Ausn {
    AusnFormat::new(e, s, signed, underflow).unwrap().with_range(r).unwrap()
}

fn gradual_levels(e: u32, s: u32, r: i32) -> Vec<f32> {
    coding(e, s, true, Underflow::Gradual, r).levels()
}

#[test]
fn no_superposition_is_powers_of_two() {
    for e in 1..=5 {
        for underflow in [Underflow::Gradual, Underflow::ZeroCode] {
            let coding = coding(e, 0, true, underflow, 3);
            let powers = (0..coding.format().codes() as i32 - 1).map(|i| 2.0_f32.powi(3 - i));
            let mut expected: Vec<f32> = powers.collect();
            expected.push(0.0);
            expected.reverse();
            assert_eq!(coding.levels(), expected);
        }
    }
}

#[test]
fn at_most_one_exponent_bit_is_the_uniform_grid() {
    for steps in 1..=10 {
        let uniform: Vec<f32> =
            (0..1_u32 << steps).map(|n| n as f32 * 2.0_f32.powi(4 - steps as i32)).collect();
        assert_eq!(gradual_levels(0, steps, 3), uniform);
        assert_eq!(gradual_levels(1, steps - 1, 3), uniform);
    }
}

#[test]
fn e2_s1_is_fp4_e2m1() {
    assert_eq!(gradual_levels(2, 1, 2), [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]);
}

/// The magnitudes of an IEEE-like float with subnormals in which every code is a number, by exponent and mantissa
/// fields, as the OCP specifications define their elements.
fn float_levels(exponent_bits: u32, mantissa_bits: u32, bias: i32) -> Vec<f32> {
    (0..1_u32 << (exponent_bits + mantissa_bits))
        .map(|code| {
            let exponent = (code >> mantissa_bits) as i32;
            let mantissa = (code & ((1 << mantissa_bits) - 1)) as f32 / (1 << mantissa_bits) as f32;
            if exponent == 0 {
                2.0_f32.powi(1 - bias) * mantissa
            } else {
                2.0_f32.powi(exponent - bias) * (1.0 + mantissa)
            }
        })
        .collect()
}

#[test]
fn the_mxfp6_elements() {
    let e2m3 = gradual_levels(2, 3, 2);
    assert_eq!(e2m3, float_levels(2, 3, 1));
    assert_eq!(e2m3.last(), Some(&7.5));
    let e3m2 = gradual_levels(3, 2, 4);
    assert_eq!(e3m2, float_levels(3, 2, 3));
    assert_eq!(e3m2.last(), Some(&28.0));
}

/// E4M3 keeps its highest code for NaN and so ends at 448. AUSN has a number for every code: 480 there.
#[test]
fn e4_s3_is_fp8_e4m3_but_for_its_nan_code() {
    let levels = gradual_levels(4, 3, 8);
    assert_eq!(levels, float_levels(4, 3, 7));
    assert_eq!(levels[126..], [448.0, 480.0]);
    assert_eq!(levels[1], 2.0_f32.powi(-9));
}

/// A format, a legal range exponent for it, and so a coding.
fn any_coding() -> impl Strategy<Value = Ausn> {
    (0..=5_u32, 0..=10_u32, any::<bool>(), any::<bool>())
        .prop_filter_map("outside the family", |(e, s, signed, zero_code)| {
            let underflow = if zero_code { Underflow::ZeroCode } else { Underflow::Gradual };
            AusnFormat::new(e, s, signed, underflow).ok()
        })
        .prop_flat_map(|format| {
            let ends = prop_oneof![
                Just(*format.range_exponents().start()),
                Just(*format.range_exponents().end())
            ];
            let range = prop_oneof![2 => format.range_exponents(), 4 => -10..=10, 1 => ends];
            range.prop_map(move |r| format.with_range(r).unwrap())
        })
}

/// A coding and `N` numbers: some of any bits but NaN, some about as large as the levels, some on levels, ties
/// and their neighbours.
fn coding_and_numbers<const N: usize>() -> impl Strategy<Value = (Ausn, [f32; N])> {
    any_coding().prop_flat_map(|coding| {
        let any_bits = any::<u32>().prop_map(f32::from_bits);
        let max = coding.max();
        let within = (-1.3..1.3_f32).prop_map(move |t| t * max);
        let subnormal = (0..1_u32 << 23, any::<bool>())
            .prop_map(|(bits, negative)| f32::from_bits(bits | u32::from(negative) << 31));
        let special =
            prop_oneof![Just(f32::INFINITY), Just(f32::NEG_INFINITY), Just(0.0), Just(-0.0)];
        let near_a_level =
            (0..coding.format().codes() - 1, any::<bool>(), -1..=1_i32, any::<bool>()).prop_map(
                move |(code, tie, ulps, negative)| {
                    let level = coding.level(code);
                    let x =
                        if tie { midpoint(level, coding.level(code + 1)) as f32 } else { level };
                    let x = f32::from_bits(x.to_bits().saturating_add_signed(ulps));
                    if negative { -x } else { x }
                },
            );
        let number = prop_oneof![
            2 => any_bits,
            4 => within,
            1 => subnormal,
            1 => special,
            4 => near_a_level,
        ]
        .prop_filter("a number", |x| !x.is_nan());
        (Just(coding), std::array::from_fn(|_| number.clone().boxed()))
    })
}

fn midpoint(a: f32, b: f32) -> f64 {
    f64::from(a).midpoint(f64::from(b))
}

/// The nearest level by trying all, as the definition has it, with the sign put back.
fn nearest_by_search(coding: &Ausn, x: f32) -> f32 {
    let signed = coding.format().signed();
    let target = f64::from(x).abs().min(f64::from(coding.max()));
    if x < 0.0 && !signed {
        return 0.0;
    }
    let mut best = (f64::INFINITY, true, 0.0);
    for (code, level) in coding.levels().into_iter().enumerate() {
        let distance = (f64::from(level) - target).abs();
        let odd = code % 2 == 1;
        if (distance, odd) < (best.0, best.1) {
            best = (distance, odd, level);
        }
    }
    let level = best.2;
    if x < 0.0 && level != 0.0 { -level } else { level }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn quantizer_is_decode_of_encode((coding, [x]) in coding_and_numbers()) {
        let exact = coding.decode(coding.encode(x).unwrap()).unwrap();
        prop_assert_eq!(coding.quantizer().quantize(x).to_bits(), exact.to_bits(), "{:e}", x);
    }

    #[test]
    fn result_is_the_nearest_level((coding, [x]) in coding_and_numbers()) {
        let q = coding.quantizer().quantize(x);
        prop_assert_eq!(q.to_bits(), nearest_by_search(&coding, x).to_bits(), "{:e} gives {:e}", x, q);
    }

    #[test]
    fn result_is_on_the_grid_and_stays((coding, [x]) in coding_and_numbers()) {
        let quantizer = coding.quantizer();
        let q = quantizer.quantize(x);
        prop_assert!(coding.levels().contains(&q.abs()));
        prop_assert!(coding.format().signed() || q >= 0.0);
        prop_assert!(quantizer.in_range(q));
        prop_assert_eq!(quantizer.quantize(q).to_bits(), q.to_bits());
        let steps = f64::from(q) / 2.0_f64.powi(coding.unit_exponent());
        prop_assert_eq!(steps.fract(), 0.0);
    }

    #[test]
    fn quantizing_is_monotone((coding, [x, y]) in coding_and_numbers()) {
        let quantizer = coding.quantizer();
        let (low, high) = (x.min(y), x.max(y));
        prop_assert!(quantizer.quantize(low) <= quantizer.quantize(high), "{:e} and {:e}", low, high);
    }

    #[test]
    fn a_signed_coding_is_odd_symmetric((coding, [x]) in coding_and_numbers()) {
        if !coding.format().signed() {
            return Ok(());
        }
        let quantizer = coding.quantizer();
        prop_assert_eq!(quantizer.quantize(-x), -quantizer.quantize(x));
        prop_assert_eq!(quantizer.in_range(-x), quantizer.in_range(x));
    }

    #[test]
    fn in_range_is_within_the_levels((coding, [x]) in coding_and_numbers()) {
        let within = x.abs() <= coding.max() && (coding.format().signed() || x >= 0.0);
        prop_assert_eq!(coding.quantizer().in_range(x), within);
    }

    #[test]
    fn scaling_by_a_power_of_two_moves_the_range((coding, [x]) in coding_and_numbers(), shift in -20..=20) {
        let range = coding.range_exponent() + shift;
        let Ok(moved) = coding.format().with_range(range) else { return Ok(()) };
        let scaled = x * 2.0_f32.powi(shift);
        let exact = x == 0.0 || (x.is_normal() && scaled.is_normal());
        if !exact { return Ok(()) }
        let expected = coding.quantizer().quantize(x) * 2.0_f32.powi(shift);
        prop_assert_eq!(moved.quantizer().quantize(scaled), expected);
    }

    #[test]
    fn nan_is_seen(coding in any_coding(), payload in 1..1_u32 << 23, negative in any::<bool>()) {
        let nan = f32::from_bits(0x7f80_0000 | payload | u32::from(negative) << 31);
        prop_assert!(coding.quantizer().quantize(nan).is_nan());
        prop_assert!(!coding.quantizer().in_range(nan));
        prop_assert!(coding.encode(nan).is_err());
    }

    #[test]
    fn authors_rule_gives_the_same_range(e in 1..=5_u32, s in 0..=10_u32, max_abs in 1e-6..1e6_f32) {
        let format = AusnFormat::new(e, s, true, Underflow::Gradual).unwrap();
        let max_abs = f64::from(max_abs);
        let authors = (max_abs / (2.0 - 2.0_f64.powi(-(s as i32)))).log2().ceil() as i32;
        prop_assert_eq!(format.range_for_max(max_abs), authors);
    }

    #[test]
    fn error_of_parts_adds_up((coding, values) in coding_and_numbers::<21>()) {
        let values = values.map(|x| if x.is_finite() { x } else { 0.0 });
        let whole = coding.error(&values);
        let outside = |x: &&f32| x.abs() > coding.max() || (**x < 0.0 && !coding.format().signed());
        prop_assert_eq!(whole.count, 21);
        prop_assert_eq!(whole.clipped, values.iter().filter(outside).count() as u64);
        let squared = |x: &f32| (f64::from(*x) - f64::from(coding.quantizer().quantize(*x))).powi(2);
        let total: f64 = values.iter().map(squared).sum();
        prop_assert!((whole.total() - total).abs() <= 1e-12 * total);
        let mut one_by_one = QuantizationError::default();
        let quantizer = coding.quantizer();
        for x in values {
            one_by_one.record(x, quantizer.quantize(x), quantizer.in_range(x));
        }
        prop_assert!((whole.clipping - one_by_one.clipping).abs() <= 1e-12 * total);
        prop_assert!((whole.rounding - one_by_one.rounding).abs() <= 1e-12 * total);
        prop_assert!((whole.energy - one_by_one.energy).abs() <= 1e-12 * whole.energy);
        let mut parts = QuantizationError::default();
        for part in values.chunks(9) {
            parts.merge(&coding.error(part));
        }
        prop_assert!((parts.total() - total).abs() <= 1e-12 * total);
        prop_assert_eq!((parts.count, parts.clipped), (whole.count, whole.clipped));
    }

    #[test]
    fn packing_round_trips(bits in 2..=8_u32, words in prop::collection::vec(any::<u16>(), 0..200)) {
        let words: Vec<u16> = words.into_iter().map(|word| word & ((1 << bits) - 1)).collect();
        let bytes = pack(&words, bits).unwrap();
        prop_assert_eq!(bytes.len(), (words.len() * bits as usize).div_ceil(8));
        prop_assert_eq!(unpack(&bytes, bits, words.len()).unwrap(), words);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn every_code_word_round_trips(coding in any_coding()) {
        let format = coding.format();
        let negative_zero = 1_u32 << (format.bits() - 1);
        for bits in 0..1_u32 << format.bits() {
            if format.signed() && bits == negative_zero {
                continue;
            }
            let bits = bits as u16;
            let word = CodeWord::from_bits(bits, format).unwrap();
            prop_assert_eq!(word.to_bits(format), bits);
            let value = coding.decode(word).unwrap();
            prop_assert_eq!(value.abs(), coding.level(u32::from(word.code)));
            prop_assert_eq!(coding.encode(value).unwrap(), word);
        }
    }
}

#[test]
fn authors_rule_slips_where_the_logarithm_rounds() {
    let format = AusnFormat::new(3, 0, true, Underflow::ZeroCode).unwrap();
    let max_abs = 1.0_f64.next_up();
    assert_eq!(max_abs.log2().ceil(), 1.0);
    let beyond = 2.0_f64.powi(30).next_up();
    assert_eq!(beyond.log2().ceil(), 30.0, "the logarithm loses the last bit");
    assert_eq!(format.range_for_max(beyond), 31);
}
