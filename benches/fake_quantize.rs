//! The fake-quantize operation: fused against composed, and against a plain copy of the same bytes.
//!
//! `cargo bench --bench fake_quantize`; the last lines give the ratios of the medians of this run.
//! On a GPU (`--no-default-features --features cuda`) the copy is one element-wise operation, which
//! reads and writes the same bytes.

mod copy;

use std::time::{Duration, Instant};

use ausn::coding::{AusnFormat, Underflow};
use ausn::quant::{Estimator, FakeQuantize, Granularity, fake_quantize, fake_quantize_composed};
use burn::tensor::{Device, Distribution, Tensor};
use copy::{copy, finish};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: ausn::allocator::MiMalloc = ausn::allocator::MiMalloc;

/// 16 M elements, 64 MB.
const ELEMENTS: usize = 1 << 24;
const COLUMNS: usize = 1 << 12;

fn operation(granularity: Granularity) -> FakeQuantize {
    let format = AusnFormat::new(2, 1, true, Underflow::Gradual).expect("E2 S1 exists");
    FakeQuantize::new(format, granularity, Estimator::Clipped)
}

/// A matrix of `elements` normal numbers, 2^12 of them a row.
fn input(elements: usize, device: &Device) -> Tensor<2> {
    let shape = [elements / COLUMNS, COLUMNS];
    let x = Tensor::random(shape, Distribution::Normal(0.0, 1.0), device);
    // Drawn now, not in the first measurement.
    let _ = x.clone().sum().into_scalar::<f32>();
    x
}

const GRANULARITIES: [(&str, Granularity); 3] = [
    ("per tensor", Granularity::Tensor),
    ("per channel", Granularity::Channel { axis: 1 }),
    ("per group of 32", Granularity::Group { axis: 0, size: 32 }),
];

/// Forward, and forward with backward, from 2^12 to 2^26 elements; a copy of the same bytes beside.
fn sizes(criterion: &mut Criterion) {
    for exponent in [12, 16, 20, 24, 26] {
        let elements = 1 << exponent;
        let device = Device::default();
        let x = input(elements, &device);
        let tracked = input(elements, &device.clone().autodiff()).require_grad();
        let mut group = criterion.benchmark_group(format!("fake_quantize, 2^{exponent} f32"));
        group.throughput(Throughput::Bytes(4 * elements as u64)).sample_size(10);
        for (name, granularity) in GRANULARITIES {
            let operation = operation(granularity);
            let scale = Tensor::<1>::ones([granularity.count(&x.dims())], &device);
            group.bench_function(BenchmarkId::new("forward", name), |b| {
                b.iter(|| finish(fake_quantize(x.clone(), scale.clone(), operation), &device));
            });
            group.bench_function(BenchmarkId::new("forward and backward", name), |b| {
                b.iter(|| {
                    let y = fake_quantize(tracked.clone(), scale.clone(), operation);
                    finish(y.sum().backward(), &device);
                });
            });
        }
        group.bench_function("copy into fresh memory", |b| b.iter(|| copy(&x)));
        group.finish();
    }
}

/// Medians of alternating runs, so that a busy moment hits all alike.
fn ratios(_: &mut Criterion) {
    let device = Device::default();
    let x = input(ELEMENTS, &device);
    let scale = Tensor::<1>::ones([1], &device);
    let operation = operation(Granularity::Tensor);
    let time = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..15 {
        times[0].push(time(&mut || {
            finish(fake_quantize(x.clone(), scale.clone(), operation), &device);
        }));
        times[1].push(time(&mut || {
            finish(fake_quantize_composed(x.clone(), scale.clone(), operation), &device);
        }));
        times[2].push(time(&mut || copy(&x)));
    }
    let [fused, composed, copy] = times.map(|mut t| {
        t.sort_unstable();
        t[t.len() / 2].as_secs_f64()
    });
    println!("16M f32, medians of 15 alternating runs on {device:?}:");
    println!("  fused     {:8.2} ms", 1e3 * fused);
    println!("  composed  {:8.2} ms   {:.1} times the fused", 1e3 * composed, composed / fused);
    println!("  copy      {:8.2} ms   {:.2} times the fused", 1e3 * copy, copy / fused);
}

criterion_group!(benches, sizes, ratios);
criterion_main!(benches);
