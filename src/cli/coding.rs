//! `ausn coding`

use clap::Args;
use serde::Serialize;

use super::{Failure, Global};
use crate::coding::{
    CodingError, Family, Format, RawFormat, Reserved, Rounding, Underflow, power_of_two,
};

/// Show a coding.
#[derive(Args)]
pub(super) struct CodingArgs {
    /// The family: `ausn`, `int`, `power-of-two`, `apot`, `affine`, `minifloat`, `mxfp4`,
    /// `mxfp6-e2m3`, `mxfp6-e3m2`, `mxfp8-e4m3` or `mxfp8-e5m2`.
    #[arg(long, value_name = "NAME", default_value_t)]
    coding: Family,
    /// Bits of a code word, with the sign bit (int, power-of-two, apot, affine).
    #[arg(long)]
    bits: Option<u32>,
    /// Exponent bits E (ausn: 0 to 5; minifloat).
    #[arg(long, value_name = "E")]
    exponent_bits: Option<u32>,
    /// Superposition bits S (ausn: 0 to 10).
    #[arg(long, value_name = "S")]
    superposition_bits: Option<u32>,
    /// Mantissa bits (minifloat).
    #[arg(long, value_name = "M")]
    mantissa_bits: Option<u32>,
    /// Which of the highest codes are no numbers (minifloat): `none`, `nan` or `ieee`.
    #[arg(long)]
    reserved: Option<Reserved>,
    /// Range exponent r: the scale is 2^r, and the largest level of AUSN 2^r * (2 - 2^-S).
    #[arg(long, value_name = "R", default_value_t = 0, allow_negative_numbers = true)]
    range: i32,
    /// The code that stands for 0 (affine).
    #[arg(long, value_name = "Z", default_value_t = 0)]
    zero_point: i32,
    /// No sign bit: negative numbers become 0.
    #[arg(long)]
    unsigned: bool,
    /// What the lowest exponent means (ausn): `gradual`, the default, or `zero-code`.
    #[arg(long)]
    underflow: Option<Underflow>,
    /// Numbers to encode.
    #[arg(long, value_name = "X", num_args = 1.., allow_negative_numbers = true)]
    encode: Vec<f32>,
}

#[derive(Serialize)]
struct Coding {
    levels: Vec<f32>,
    max: f32,
    unit_exponent: i32,
    encoded: Vec<Encoded>,
}

#[derive(Serialize)]
struct Encoded {
    /// JSON has no infinities; they stand here as `null` and keep their sign in `sign`.
    input: f32,
    sign: u8,
    code: u16,
    value: f32,
}

/// Levels by their code words, from low to high.
struct Table {
    levels: Vec<f32>,
    /// Whether code words are a sign and a magnitude.
    sign: bool,
    /// Bits of a word, without the sign.
    digits: usize,
}

pub(super) fn run(args: CodingArgs, global: &Global) -> Result<(), Failure> {
    let family = args.coding;
    // What has no key for the sign has one of its own.
    let fixed_sign = family == Family::Affine || family.is_microscaling();
    let format = Format::try_from(RawFormat {
        coding: family,
        bits: args.bits,
        exponent_bits: args.exponent_bits,
        superposition_bits: args.superposition_bits,
        mantissa_bits: args.mantissa_bits,
        signed: (!fixed_sign || args.unsigned).then_some(!args.unsigned),
        underflow: args.underflow,
        reserved: args.reserved,
    })?;
    let allowed = format.range_exponents();
    if !allowed.contains(&args.range) {
        let (lowest, highest) = (*allowed.start(), *allowed.end());
        return Err(
            CodingError::RangeExponent { format, given: args.range, lowest, highest }.into()
        );
    }
    let codes = if format.has_zero_point() { format.max() as i32 } else { 0 };
    if !(0..=codes).contains(&args.zero_point) {
        let given = args.zero_point;
        let message = format!("--zero-point is {given}; {format} has the codes 0 to {codes}");
        return Err(Failure::refused(message));
    }
    let scale = power_of_two(args.range);
    let level = |level: f32| (level - args.zero_point as f32) * scale;
    let table = Table {
        levels: format.levels().into_iter().map(level).collect(),
        sign: format.signed() && !format.has_zero_point(),
        digits: (format.levels().len() - 1).ilog2() as usize + 1,
    };
    let rounder = format.rounder(args.zero_point);
    let encode = |&input: &f32| -> Result<Encoded, Failure> {
        if input.is_nan() {
            return Err(CodingError::NotANumber { format }.into());
        }
        let value = rounder.quantize(input * (1.0 / scale)) * scale;
        let magnitude = if table.sign { value.abs() } else { value };
        let code = table.levels.iter().position(|&level| level == magnitude);
        let code = code.expect("rounding gives a level") as u16;
        Ok(Encoded { input, sign: u8::from(table.sign && value < 0.0), code, value })
    };
    let shown = Coding {
        max: table.levels[table.levels.len() - 1],
        unit_exponent: match format.with_range(args.range) {
            Some(coding) => coding?.unit_exponent(),
            None => unit_exponent(&table.levels),
        },
        encoded: args.encode.iter().map(encode).collect::<Result<_, Failure>>()?,
        levels: table.levels.clone(),
    };
    let title = format!(
        "{format}, range exponent {}: {} bits, largest level {}, every level a multiple of 2^{}",
        args.range,
        format.bits(),
        shown.max,
        shown.unit_exponent,
    );
    global.print(&shown, || text(&title, &table, &shown))
}

/// The largest `u` such that every level is a multiple of `2^u`.
fn unit_exponent(levels: &[f32]) -> i32 {
    let lowest_bit = |&level: &f32| {
        // Levels are normal numbers.
        let bits = level.to_bits();
        let fraction =
            bits & ((1 << (f32::MANTISSA_DIGITS - 1)) - 1) | 1 << (f32::MANTISSA_DIGITS - 1);
        let exponent = (bits << 1 >> f32::MANTISSA_DIGITS) as i32 - (f32::MAX_EXP - 1);
        exponent - (f32::MANTISSA_DIGITS - 1) as i32 + fraction.trailing_zeros() as i32
    };
    levels.iter().filter(|&&level| level != 0.0).map(lowest_bit).min().unwrap_or(0)
}

fn text(title: &str, table: &Table, shown: &Coding) -> String {
    let digits = table.digits;
    let mut text = format!("{title}\n\n");
    let width = shown.levels.iter().map(|level| level.to_string().len()).max().unwrap_or(0);
    for (code, &level) in shown.levels.iter().enumerate() {
        let powers = if table.sign || level > 0.0 {
            powers(level, shown.unit_exponent)
        } else {
            String::new()
        };
        text.push_str(format!("  {code:0digits$b}  {level:<width$}  {powers}").trim_end());
        text.push('\n');
    }
    if !shown.encoded.is_empty() {
        text.push_str("\nencoded (sign, code, value):\n");
    }
    for e in &shown.encoded {
        text.push_str(&format!(
            "  {}  ->  {} {:0digits$b}  {}\n",
            e.input, e.sign, e.code, e.value
        ));
    }
    text
}

/// A level as the sum of powers of two that it superposes.
fn powers(level: f32, unit_exponent: i32) -> String {
    let multiple = (f64::from(level) / 2f64.powi(unit_exponent)) as u64;
    let set = (0..u64::BITS).rev().filter(|bit| multiple >> bit & 1 == 1);
    let powers: Vec<String> = set.map(|bit| format!("2^{}", bit as i32 + unit_exponent)).collect();
    match powers.is_empty() {
        true => String::new(),
        false => format!("= {}", powers.join(" + ")),
    }
}
