//! Training steps, float against quantized: BERT, ResNet-20, an LSTM language model, MobileNetV2;
//! on a GPU also BERT-base and ResNet-18.
//!
//! `cargo bench --bench training_step` measures them with criterion; on a GPU with
//! `--no-default-features --features cuda`.
//!
//! `training_step worker MODEL float|quantized [batch=N] [layers=N] [precision=bf16|f16]` (the built
//! program) serves another program that measures: for every line on its input it runs one step and
//! answers with a line `milliseconds loss peak-megabytes`, of the process's memory.
//! `benches/peers/compare.py` drives it.

mod copy;
mod steps;

use std::io::{BufRead, Write};
use std::time::Instant;

use ausn::allocator::{MiMalloc, keep_memory};
use ausn::kernels::Precision;
use burn::tensor::Device;
use criterion::Criterion;

use steps::{LARGE_MODELS, MODELS, Size, Variant, step};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() {
    keep_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["worker", model, variant, ref size @ ..] => {
            let variant = match variant {
                "float" => Variant::Float,
                "quantized" => Variant::Quantized,
                _ => panic!("the variant is float or quantized, not `{variant}`"),
            };
            worker(model, variant, size_of(size));
        }
        _ => benchmark(),
    }
}

/// The sizes among the arguments; a precision is set at once.
fn size_of(arguments: &[&str]) -> Size {
    let mut size = Size::default();
    for argument in arguments {
        let number = |value: &str| Some(value.parse().expect("a size is a number"));
        match argument.split_once('=') {
            Some(("batch", value)) => size.batch = number(value),
            Some(("layers", value)) => size.layers = number(value),
            Some(("precision", "bf16")) => Precision::Bf16.set(),
            Some(("precision", "f16")) => Precision::F16.set(),
            _ => panic!("batch=N, layers=N, precision=bf16 or precision=f16, not `{argument}`"),
        }
    }
    assert!(Precision::current().supported(&Device::default()), "the device has the precision");
    size
}

fn benchmark() {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let large = if cfg!(feature = "flex") { &[][..] } else { &LARGE_MODELS };
    for model in [&MODELS[..], large].concat() {
        let mut group = criterion.benchmark_group(format!("training step, {model}"));
        for (name, variant) in [("float", Variant::Float), ("quantized", Variant::Quantized)] {
            let mut step = step(model, variant, Size::default(), &Device::default());
            group.bench_function(name, |b| b.iter(&mut step));
        }
        group.finish();
    }
    criterion.final_summary();
}

fn worker(model: &str, variant: Variant, size: Size) {
    let mut step = step(model, variant, size, &Device::default());
    let mut output = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        line.expect("standard input is readable");
        let start = Instant::now();
        let loss = step();
        let milliseconds = 1e3 * start.elapsed().as_secs_f64();
        writeln!(output, "{milliseconds} {loss} {}", peak_megabytes())
            .and_then(|()| output.flush())
            .expect("standard output is writable");
    }
}

/// Peak resident memory of this process, as Linux counts it; 0 elsewhere.
fn peak_megabytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes =
        line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) / 1024.0
}
