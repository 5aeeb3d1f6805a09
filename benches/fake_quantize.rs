//! The fake-quantize operation: fused against composed, and against a plain copy of the same bytes.
//!
//! `cargo bench --bench fake_quantize`; the last lines give the ratios of the medians of this run.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ausn::coding::{AusnFormat, Underflow};
use ausn::quant::{Estimator, FakeQuantize, Granularity, fake_quantize, fake_quantize_composed};
use burn::tensor::{Device, Distribution, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: ausn::allocator::MiMalloc = ausn::allocator::MiMalloc;

/// 16 M elements, 64 MB.
const ELEMENTS: usize = 1 << 24;
const ROWS: usize = 1 << 12;

fn operation(granularity: Granularity) -> FakeQuantize {
    let format = AusnFormat::new(2, 1, true, Underflow::Gradual).expect("E2 S1 exists");
    FakeQuantize { format, granularity, estimator: Estimator::Clipped }
}

fn input(device: &Device) -> Tensor<2> {
    let x = Tensor::random([ROWS, ELEMENTS / ROWS], Distribution::Normal(0.0, 1.0), device);
    // Drawn now, not in the first measurement.
    let _ = x.clone().sum().into_scalar::<f32>();
    x
}

fn forward(criterion: &mut Criterion) {
    let device = Device::flex();
    let x = input(&device);
    let mut group = criterion.benchmark_group("fake_quantize forward, 16M f32");
    group.throughput(Throughput::Bytes(4 * ELEMENTS as u64)).sample_size(20);
    for granularity in [
        Granularity::Tensor,
        Granularity::Channel { axis: 0 },
        Granularity::Channel { axis: 1 },
        Granularity::Group { axis: 0, size: 32 },
        Granularity::Group { axis: 1, size: 32 },
    ] {
        let operation = operation(granularity);
        let scale = Tensor::<1>::ones([granularity.count(&x.dims())], &device);
        let name = format!("{granularity:?}");
        group.bench_function(BenchmarkId::new("fused", &name), |b| {
            b.iter(|| black_box(fake_quantize(x.clone(), scale.clone(), operation)));
        });
        if granularity == Granularity::Tensor {
            group.bench_function(BenchmarkId::new("composed", &name), |b| {
                b.iter(|| black_box(fake_quantize_composed(x.clone(), scale.clone(), operation)));
            });
        }
    }
    let bytes = vec![1f32; ELEMENTS];
    group.bench_function("copy into fresh memory", |b| b.iter(|| black_box(bytes.clone())));
    group.finish();
}

fn forward_and_backward(criterion: &mut Criterion) {
    let device = Device::flex().autodiff();
    let x = input(&device).require_grad();
    let scale = Tensor::<1>::ones([1], &device);
    let operation = operation(Granularity::Tensor);
    let mut group = criterion.benchmark_group("fake_quantize forward and backward, 16M f32");
    group.throughput(Throughput::Bytes(4 * ELEMENTS as u64)).sample_size(10);
    type Operation = fn(Tensor<2>, Tensor<1>, FakeQuantize) -> Tensor<2>;
    let variants: [(&str, Operation); 2] =
        [("fused", fake_quantize), ("composed", fake_quantize_composed)];
    for (name, run) in variants {
        group.bench_function(name, |b| {
            b.iter(|| black_box(run(x.clone(), scale.clone(), operation).sum().backward()));
        });
    }
    group.finish();
}

/// Medians of alternating runs, so that a busy moment hits all alike.
fn ratios(_: &mut Criterion) {
    let device = Device::flex();
    let x = input(&device);
    let scale = Tensor::<1>::ones([1], &device);
    let operation = operation(Granularity::Tensor);
    let bytes = vec![1f32; ELEMENTS];
    let time = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..15 {
        times[0].push(time(&mut || {
            drop(black_box(fake_quantize(x.clone(), scale.clone(), operation)))
        }));
        times[1].push(time(&mut || {
            drop(black_box(fake_quantize_composed(x.clone(), scale.clone(), operation)));
        }));
        times[2].push(time(&mut || drop(black_box(bytes.clone()))));
    }
    let [fused, composed, copy] = times.map(|mut t| {
        t.sort_unstable();
        t[t.len() / 2].as_secs_f64()
    });
    println!("16M f32, medians of 15 alternating runs:");
    println!("  fused     {:8.2} ms", 1e3 * fused);
    println!("  composed  {:8.2} ms   {:.1} times the fused", 1e3 * composed, composed / fused);
    println!("  copy      {:8.2} ms   {:.2} times the fused", 1e3 * copy, copy / fused);
}

criterion_group!(benches, forward, forward_and_backward, ratios);
criterion_main!(benches);
