"""Makes the fixtures of this folder: inputs, and what well-known libraries or the formulas of papers make of them.

Needs torch, torchao and brevitas; every file records their versions. Run it anywhere:
`python tests/data/codings/make.py`. The same versions write the same files.
"""

import json
import math
from importlib.metadata import version
from pathlib import Path

import torch
from brevitas.nn import QuantLinear
from brevitas.quant.fixed_point import Int8WeightPerChannelFixedPoint, Int8WeightPerTensorFixedPoint
from brevitas.quant.float_quant_ocp import (
    Fp8e4m3OCPWeightPerTensorFloat,
    Fp8e5m2OCPWeightPerTensorFloat,
)
from brevitas.quant.scaled_int import Int8WeightPerChannelFloat, Int8WeightPerTensorFloat
from brevitas.quant.shifted_scaled_int import (
    ShiftedUint8WeightPerChannelFloat,
    ShiftedUint8WeightPerTensorFloat,
)
from torchao.prototype.mx_formats.mx_tensor import to_dtype, to_mx

HERE = Path(__file__).parent


def numbers(tensor):
    return [float(x) for x in tensor.detach().flatten()]


def write(name, packages, content):
    versions = {package: version(package) for package in packages}
    lines = [f'"versions": {json.dumps(versions)}']
    for key, rows in content.items():
        lines.append(f'"{key}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]")
    (HERE / name).write_text("{\n" + ",\n".join(lines) + "\n}\n")


def weight():
    """[4, 64]: rows of different spread, one of them shifted, one with an outlier."""
    generator = torch.Generator().manual_seed(2007)
    x = torch.randn(4, 64, generator=generator)
    x *= torch.tensor([[0.02], [0.3], [1.0], [5.0]])
    x[2] += 1.5
    x[1, 7] = 4.0
    return x


def brevitas_weights():
    """What `QuantLinear` makes of a weight [out, in], with its scales and zero points."""
    rows = []
    for name, quantizer, bits, channel in [
        ("int", Int8WeightPerTensorFloat, 8, False),
        ("int", Int8WeightPerTensorFloat, 4, False),
        ("int", Int8WeightPerChannelFloat, 4, True),
        ("int", Int8WeightPerChannelFloat, 3, True),
        ("int-power-of-two", Int8WeightPerTensorFixedPoint, 4, False),
        ("int-power-of-two", Int8WeightPerChannelFixedPoint, 4, True),
        ("affine", ShiftedUint8WeightPerTensorFloat, 8, False),
        ("affine", ShiftedUint8WeightPerTensorFloat, 4, False),
        ("affine", ShiftedUint8WeightPerChannelFloat, 4, True),
        ("e4m3", Fp8e4m3OCPWeightPerTensorFloat, 8, False),
        ("e5m2", Fp8e5m2OCPWeightPerTensorFloat, 8, False),
    ]:
        settings = {} if name.startswith("e") else {"weight_bit_width": bits}
        x = weight()
        layer = QuantLinear(64, 4, bias=False, weight_quant=quantizer, **settings)
        layer.weight.data = x
        quantized = layer.quant_weight()
        rows.append(
            {
                "coding": name,
                "bits": bits,
                "per_channel": channel,
                "scales": numbers(quantized.scale),
                "zero_points": [] if name.startswith("e") else numbers(quantized.zero_point),
                "y": numbers(quantized.value),
            }
        )
    return rows


def microscaling():
    rows = []
    for name, dtype in [
        ("mxfp4", torch.float4_e2m1fn_x2),
        ("mxfp6-e2m3", "fp6_e2m3"),
        ("mxfp6-e3m2", "fp6_e3m2"),
        ("mxfp8-e4m3", torch.float8_e4m3fn),
        ("mxfp8-e5m2", torch.float8_e5m2),
    ]:
        scale, data = to_mx(weight(), dtype, 32)
        y = to_dtype(data, scale, dtype, 32, torch.float32)
        rows.append({"coding": name, "y": numbers(y)})
    return rows


def round_pass(x):
    """LSQ, appendix A: the rounding with the gradient of the identity."""
    return (x.round() - x).detach() + x


def lsq(v, step, lowest, highest, elements):
    """LSQ, appendix A."""
    factor = 1 / math.sqrt(elements * highest)
    step = (step - step * factor).detach() + step * factor
    v = (v / step).clamp(-lowest, highest)
    return round_pass(v) * step


def pact(x, alpha, bits):
    """PACT, equations 1 and 2; the rounding passes the gradient."""
    y = 0.5 * (x.abs() - (x - alpha).abs() + alpha)
    steps = 2**bits - 1
    scaled = y * steps / alpha.detach()
    rounded = (scaled.round() - scaled).detach() + scaled
    return rounded * alpha.detach() / steps


def tqt(x, log2_scale, lowest, highest):
    """TQT, equations 4 to 8, for a scale of `2^round(log2_scale)` between levels."""
    exponent = round_pass(log2_scale)
    scale = 2**exponent
    return round_pass((x / scale).clamp(-lowest, highest)) * scale


def learned():
    rows = []
    generator = torch.Generator().manual_seed(1902)
    for rule, bits, signed, parameter in [
        ("lsq", 4, True, 0.17),
        ("lsq", 3, True, 0.9),
        ("lsq", 8, False, 0.011),
        ("pact", 4, False, 1.3),
        ("pact", 8, False, 0.7),
        ("tqt", 4, True, -2.3),
        ("tqt", 3, True, -0.4),
        ("tqt", 8, False, -6.8),
    ]:
        x = torch.randn(2, 50, generator=generator)
        weights = torch.randn(2, 50, generator=generator)
        x.requires_grad_()
        theta = torch.tensor(parameter, requires_grad=True)
        highest = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
        lowest = highest if signed else 0
        if rule == "lsq":
            y = lsq(x, theta, lowest, highest, x.numel())
        elif rule == "pact":
            y = pact(x, theta, bits)
        else:
            y = tqt(x, theta, lowest, highest)
        (y * weights).sum().backward()
        rows.append(
            {
                "rule": rule,
                "bits": bits,
                "signed": signed,
                "parameter": float(theta.detach()),
                "x": numbers(x),
                "weights": numbers(weights),
                "y": numbers(y),
                "dx": numbers(x.grad),
                "dparameter": float(theta.grad),
            }
        )
    return rows


def apot():
    """APoT, equation 3 with k = 2, over its largest level; odd bits with one more power of two, as the paper's
    section 2.2 leaves to the implementation and its authors' has it."""
    rows = []
    for bits in [1, 2, 3, 4, 5, 6]:
        terms, odd = bits // 2, bits % 2
        if bits == 1:
            sets = [[0, 1]]
        elif not odd:
            sets = [[0] + [2.0 ** -(i + j * terms) for j in range(3)] for i in range(terms)]
        elif bits == 3:
            sets = [[0, 2**-1, 2**-2, 2**-4], [0, 2**-3]]
        else:
            sets = [[0, 2**-1, 2**-3, 2**-6], [0, 2**-2, 2**-4, 2**-7], [0, 2**-5]]
        levels = [0.0]
        for choices in sets:
            levels = [level + choice for level in levels for choice in choices]
        levels = sorted(levels)
        rows.append({"magnitude_bits": bits, "levels": [level / levels[-1] for level in levels]})
    return rows


if __name__ == "__main__":
    write(
        "peers.json",
        ["torch", "torchao", "brevitas"],
        {"x": [numbers(weight())], "brevitas": brevitas_weights(), "microscaling": microscaling()},
    )
    write("papers.json", ["torch"], {"learned": learned(), "apot": apot()})
