"""Measures our training steps beside PyTorch's and Brevitas's, in one run, and writes README's table.

    python -m venv /tmp/peers && /tmp/peers/bin/pip install -r benches/peers/requirements.txt
    /tmp/peers/bin/python benches/peers/compare.py [--rounds 15] [--models bert lstm] [--scaling]
    /tmp/peers/bin/python benches/peers/compare.py --features cuda [--precision bf16]

For each model four processes stay up (ours and theirs, float and quantized) and take turns, a step
each, so that a busy moment hits all alike. The first steps are not counted. Medians go to
`results.json` beside this file and into README between its markers; `--scaling` measures the
quantized step against batch size and number of layers too, and draws `scaling.svg`.

With `--features` (cuda) both run on the GPU: BERT-base, ResNet-18 and the fake-quantize operation
beside a copy on the device. These go to `results-cuda.json` and are printed; README keeps the CPU's.
"""

import argparse
import json
import pathlib
import platform
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MODELS = ["bert", "resnet20", "lstm", "mobilenetv2"]
LARGE_MODELS = ["bert_base", "resnet18"]
TITLES = {
    "bert_base": "BERT-base, 32 x 128 tokens",
    "resnet18": "ResNet-18, 64 x 3 x 224 x 224",
    "bert": "BERT, 4 layers, 256 wide, 32 x 64 tokens",
    "resnet20": "ResNet-20, 128 x 3 x 32 x 32",
    "lstm": "LSTM language model, 300 wide, 20 x 35 words",
    "mobilenetv2": "MobileNetV2, 32 x 3 x 96 x 96",
}
MARKERS = ("<!-- performance: begin -->", "<!-- performance: end -->")


class Worker:
    """A process that runs a step whenever it is told to."""

    def __init__(self, command):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )

    def step(self):
        """(milliseconds, loss, peak megabytes)"""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"a worker stopped: {' '.join(map(str, self.process.args))}")
        return tuple(map(float, line.split()))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def build(features):
    """Builds our worker and gives the path of its program."""
    command = ["cargo", "bench", "--locked", "--bench", "training_step", "--no-run", "--message-format=json"]
    command += ["--no-default-features", "--features", features] if features else []
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = [json.loads(line) for line in lines.splitlines() if line.startswith("{")]
    programs = [m["executable"] for m in messages if m.get("target", {}).get("name") == "training_step"]
    return programs[-1]


def alternate(workers, rounds, warmup):
    """Medians of steps that take turns: {name: (milliseconds, peak megabytes)}."""
    times, peaks = {name: [] for name in workers}, {}
    for round in range(warmup + rounds):
        for name, worker in workers.items():
            milliseconds, _, peaks[name] = worker.step()
            if round >= warmup:
                times[name].append(milliseconds)
    for worker in workers.values():
        worker.close()
    return {name: (statistics.median(times[name]), peaks[name]) for name in workers}


def compare(program, model, rounds, warmup, options):
    """`options`: arguments of our worker and of the peer's."""
    ours = [program, "worker", model]
    peer = [sys.executable, HERE / "worker.py", model]
    found = alternate(
        {
            f"{side}_{variant}": Worker(command + [variant] + options[side])
            for side, command in [("ours", ours), ("peer", peer)]
            for variant in ["float", "quantized"]
        },
        rounds,
        warmup,
    )
    row = {}
    for name, (milliseconds, peak) in found.items():
        row[f"{name}_ms"] = round(milliseconds, 1)
        # As the issue names them: ours_peak_mb is that of the quantized step.
        row[f"{name.replace('_quantized', '')}_peak_mb"] = round(peak, 1)
    return row


def fake_quantize(program, rounds, warmup, options):
    model = "fake_quantize_16m"
    found = alternate(
        {
            "ours_ms": Worker([program, "worker", model, "quantized"]),
            "copy_ms": Worker([program, "worker", model, "float"]),
            "peer_ms": Worker([sys.executable, HERE / "worker.py", model, "quantized"] + options["peer"]),
        },
        rounds,
        warmup,
    )
    return {name: round(milliseconds, 2) for name, (milliseconds, _) in found.items()}


def scaling(program, rounds, warmup):
    """Milliseconds of our steps against batch size and against layers."""
    curves = {}
    for model, name, sizes in [
        ("bert", "batch", [8, 16, 32, 64, 128]),
        ("bert", "layers", [1, 2, 4, 8]),
        ("resnet20", "batch", [8, 16, 32, 64, 128]),
        ("resnet20", "layers", [1, 2, 3, 5]),
    ]:
        workers = {
            (variant, size): Worker([program, "worker", model, variant, f"{name}={size}"])
            for size in sizes
            for variant in ["float", "quantized"]
        }
        for (variant, size), (milliseconds, _) in alternate(workers, rounds, warmup).items():
            points = curves.setdefault(f"{model} {name} {variant}", [])
            points.append((size, round(milliseconds, 1)))
    return curves


def draw(curves, path):
    """One panel for each model and size, float and quantized, as SVG."""
    panels = {}
    for name, points in curves.items():
        model, size, variant = name.split()
        panels.setdefault((model, size), {})[variant] = points
    width, height, margin = 300, 220, 50
    colours = {"float": "#888888", "quantized": "#0b6bcb"}
    parts = []
    for index, ((model, size), lines) in enumerate(panels.items()):
        right = max(x for points in lines.values() for x, _ in points)
        top = max(y for points in lines.values() for _, y in points)
        left, bottom = index * width + margin, height - margin
        place = lambda x, y: (left + x / right * (width - margin - 20), bottom - y / top * (bottom - 30))
        parts.append(f'<text x="{left}" y="18">{model}: ms a step against {size}</text>')
        parts.append(f'<path d="M{left} 30V{bottom}H{left + width - margin - 20}" fill="none" stroke="#444"/>')
        parts.append(f'<text x="{left - 6}" y="36" text-anchor="end">{top:.0f}</text>')
        parts.append(f'<text x="{left - 6}" y="{bottom + 4}" text-anchor="end">0</text>')
        for variant, points in lines.items():
            spots = [place(x, y) for x, y in points]
            path_data = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
            parts.append(f'<path d="{path_data}" fill="none" stroke="{colours[variant]}" stroke-width="2"/>')
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colours[variant]}"/>' for x, y in spots]
            line = 50 if variant == "float" else 66
            parts.append(f'<text x="{left + 12}" y="{line}" fill="{colours[variant]}">{variant}</text>')
        for x, _ in points:
            parts.append(f'<text x="{place(x, 0)[0]:.1f}" y="{bottom + 16}" text-anchor="middle">{x}</text>')
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * len(panels)}" height="{height}" font-family="sans-serif" font-size="12">'
    path.write_text(svg + '<rect width="100%" height="100%" fill="white"/>' + "".join(parts) + "</svg>\n")


def table(results):
    """The results as Markdown."""
    lines = [
        f"Medians in milliseconds of alternating steps in one run on {results['machine']}. "
        "Quantized is 4-bit weights and 8-bit activations in every layer; the peer is "
        f"PyTorch {results['versions']['torch']} with Brevitas {results['versions']['brevitas']}.",
        "",
        "| training step | ours, float | ours, quantized | over float | peak memory over float | PyTorch, float | Brevitas, quantized | ours over Brevitas |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for model in MODELS + LARGE_MODELS:
        if row := results.get(model):
            times = [row[f"{name}_ms"] for name in ["ours_float", "ours_quantized", "peer_float", "peer_quantized"]]
            memory = row["ours_peak_mb"] / row["ours_float_peak_mb"]
            lines.append(
                f"| {TITLES[model]} | {times[0]:.0f} | {times[1]:.0f} | {times[1] / times[0]:.2f} | {memory:.2f} "
                f"| {times[2]:.0f} | {times[3]:.0f} | {times[1] / times[3]:.2f} |"
            )
    if row := results.get("fake_quantize_16m"):
        ours, peer, copy = row["ours_ms"], row["peer_ms"], row["copy_ms"]
        lines += [
            "",
            f"Fake quantization of 16M floats: {ours:.1f} ms; PyTorch's `fake_quantize_per_tensor_affine` {peer:.1f} ms "
            f"({peer / ours:.1f} times as long); a plain copy into fresh memory {copy:.1f} ms "
            f"({copy / ours:.2f} of ours).",
        ]
    return "\n".join(lines)


def write_readme(text):
    readme = ROOT / "README.md"
    before, rest = readme.read_text().split(MARKERS[0])
    _, after = rest.split(MARKERS[1])
    readme.write_text(f"{before}{MARKERS[0]}\n{text}\n{MARKERS[1]}{after}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="steps that count")
    parser.add_argument("--warmup", type=int, default=4, help="steps before them")
    parser.add_argument("--models", nargs="*", help="models, fake_quantize_16m among them; none for the scaling alone [default: all]")
    parser.add_argument("--scaling", action="store_true", help="measure and draw the scaling too")
    parser.add_argument("--features", help="cargo feature of the GPU backend to measure, such as cuda")
    parser.add_argument("--precision", choices=["bf16", "f16"], help="of products, on a GPU")
    options = parser.parse_args()

    from importlib.metadata import version

    gpu = options.features
    path = HERE / (f"results-{gpu}.json" if gpu else "results.json")
    precision = [f"precision={options.precision}"] if options.precision else []
    arguments = {"ours": precision, "peer": (["device=cuda"] if gpu else []) + precision}
    program = build(gpu)
    results = json.loads(path.read_text()) if path.exists() else {}
    results["machine"] = machine(gpu)
    results["versions"] = {name: version(name) for name in ["torch", "brevitas"]}
    every_model = (LARGE_MODELS if gpu else MODELS) + ["fake_quantize_16m"]
    for model in every_model if options.models is None else options.models:
        if model == "fake_quantize_16m":
            results[model] = fake_quantize(program, options.rounds, options.warmup, arguments)
        else:
            results[model] = compare(program, model, options.rounds, options.warmup, arguments)
        print(model, results[model], flush=True)
    if options.scaling:
        results["scaling"] = scaling(program, 5, 2)
        draw(results["scaling"], HERE / "scaling.svg")
    path.write_text(json.dumps(results, indent=1) + "\n")
    if not gpu:
        write_readme(table(results))
    print(table(results))


def machine(gpu):
    if gpu:
        import torch

        return torch.cuda.get_device_name()
    names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return f"{len(names)} cores of {names[0]}, all of them" if names else platform.processor()


if __name__ == "__main__":
    main()
