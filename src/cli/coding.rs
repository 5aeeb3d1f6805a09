//! `ausn coding`

use clap::Args;
use serde::Serialize;

use super::{Failure, Global};
use crate::coding::{Ausn, AusnFormat, Underflow};

/// Show a coding.
#[derive(Args)]
pub(super) struct CodingArgs {
    /// Exponent bits E (0 to 5).
    #[arg(long, value_name = "E")]
    exponent_bits: u32,
    /// Superposition bits S (0 to 10).
    #[arg(long, value_name = "S")]
    superposition_bits: u32,
    /// Range exponent r: the largest level is 2^r * (2 - 2^-S).
    #[arg(long, value_name = "R", default_value_t = 0, allow_negative_numbers = true)]
    range: i32,
    /// No sign bit: negative numbers become 0.
    #[arg(long)]
    unsigned: bool,
    /// What the lowest exponent means: `gradual` or `zero-code`.
    #[arg(long, default_value_t)]
    underflow: Underflow,
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

pub(super) fn run(args: CodingArgs, global: &Global) -> Result<(), Failure> {
    let format = AusnFormat::new(
        args.exponent_bits,
        args.superposition_bits,
        !args.unsigned,
        args.underflow,
    )?;
    let coding = format.with_range(args.range)?;
    let encode = |&input: &f32| -> Result<Encoded, Failure> {
        let word = coding.encode(input)?;
        let value = coding.decode(word)?;
        Ok(Encoded { input, sign: u8::from(word.negative), code: word.code, value })
    };
    let shown = Coding {
        levels: coding.levels(),
        max: coding.max(),
        unit_exponent: coding.unit_exponent(),
        encoded: args.encode.iter().map(encode).collect::<Result<_, Failure>>()?,
    };
    global.print(&shown, || text(&coding, &shown))
}

fn text(coding: &Ausn, shown: &Coding) -> String {
    let format = coding.format();
    let digits = (format.exponent_bits() + format.superposition_bits()) as usize;
    let mut text = format!(
        "{format}, range exponent {}: {} bits, largest level {}, every level a multiple of 2^{}\n\n",
        coding.range_exponent(),
        format.bits(),
        shown.max,
        shown.unit_exponent,
    );
    let width = shown.levels.iter().map(|level| level.to_string().len()).max().unwrap_or(0);
    for (code, &level) in shown.levels.iter().enumerate() {
        let powers = powers(level, shown.unit_exponent);
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
