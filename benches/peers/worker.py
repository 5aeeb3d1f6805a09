"""The PyTorch and Brevitas twins of `benches/training_step.rs`.

`worker.py MODEL float|quantized [batch=N] [layers=N] [device=cuda] [precision=bf16|f16]` runs one
training step (forward pass, backward pass, AdamW) for every line on its input and answers with a line
`milliseconds loss peak-megabytes`, of the process's memory.

The float variant is plain PyTorch; the quantized one has Brevitas's modules in the same places as
ours: 4-bit weights and 8-bit activations, one scale a tensor, scales learned from the first step on
(Brevitas's percentile statistics, which cost more, are collected in that step only).
"""

import resource
import sys
import time

import brevitas.nn as qnn
import torch
import torch.nn.functional as F
from brevitas.quant import Int8ActPerTensorFloat, Uint8ActPerTensorFloat
from torch import nn


class Signed(Int8ActPerTensorFloat):
    collect_stats_steps = 1


class Unsigned(Uint8ActPerTensorFloat):
    collect_stats_steps = 1


class Layers:
    """Layers of one variant."""

    def __init__(self, quantized):
        self.quantized = quantized

    def signed(self):
        return qnn.QuantIdentity(act_quant=Signed) if self.quantized else nn.Identity()

    def unsigned(self):
        return qnn.QuantIdentity(act_quant=Unsigned) if self.quantized else nn.Identity()

    def relu(self):
        return qnn.QuantReLU(act_quant=Unsigned) if self.quantized else nn.ReLU()

    def relu6(self):
        return nn.Sequential(nn.ReLU6(), self.unsigned())

    def linear(self, *args, **kwargs):
        if self.quantized:
            return qnn.QuantLinear(*args, weight_bit_width=4, **kwargs)
        return nn.Linear(*args, **kwargs)

    def conv(self, *args, **kwargs):
        kwargs["bias"] = False
        if self.quantized:
            return qnn.QuantConv2d(*args, weight_bit_width=4, **kwargs)
        return nn.Conv2d(*args, **kwargs)

    def embedding(self, *args):
        if self.quantized:
            return qnn.QuantEmbedding(*args, weight_bit_width=4)
        return nn.Embedding(*args)

    def lstm(self, size, layers):
        if self.quantized:
            # Gates and cell stay float, as ours do.
            return qnn.QuantLSTM(
                size, size, num_layers=layers, batch_first=True, weight_bit_width=4,
                io_quant=Signed, bias_quant=None, gate_acc_quant=None, sigmoid_quant=None,
                tanh_quant=None, cell_state_quant=None,
            )
        return nn.LSTM(size, size, num_layers=layers, batch_first=True)


class EncoderLayer(nn.Module):
    def __init__(self, make, width=256, inner=1024, heads=4, dropout=0.1):
        super().__init__()
        self.heads = heads
        self.input, self.output_input = make.signed(), make.signed()
        self.query, self.key, self.value, self.output = (make.linear(width, width) for _ in range(4))
        self.query_operand, self.key_operand, self.value_operand = (make.signed() for _ in range(3))
        self.probability_operand = make.unsigned()
        self.wide_input, self.narrow_input = make.signed(), make.signed()
        self.wide, self.narrow = make.linear(width, inner), make.linear(inner, width)
        self.attention_norm, self.output_norm = (nn.LayerNorm(width, eps=1e-12) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, padding):
        batch, length, width = x.shape
        split = lambda t: t.view(batch, length, self.heads, -1).transpose(1, 2)
        inputs = self.input(x)
        query = self.query_operand(split(self.query(inputs)))
        key = self.key_operand(split(self.key(inputs)))
        value = self.value_operand(split(self.value(inputs)))
        scores = query @ key.transpose(2, 3) / (width / self.heads) ** 0.5
        probabilities = F.softmax(scores.masked_fill(padding, float("-inf")), dim=3)
        context = self.probability_operand(self.dropout(probabilities)) @ value
        context = context.transpose(1, 2).reshape(batch, length, width)
        x = self.attention_norm(x + self.dropout(self.output(self.output_input(context))))
        inner = self.narrow(self.narrow_input(F.gelu(self.wide(self.wide_input(x)))))
        return self.output_norm(x + self.dropout(inner))


class Bert(nn.Module):
    def __init__(self, make, layers=4, width=256):
        super().__init__()
        heads = width // 64
        self.word = make.embedding(30522, width)
        self.position, self.token_type = make.embedding(512, width), make.embedding(2, width)
        self.norm, self.dropout = nn.LayerNorm(width, eps=1e-12), nn.Dropout(0.1)
        self.layers = nn.ModuleList(EncoderLayer(make, width, 4 * width, heads) for _ in range(layers))
        self.pooler_input, self.classifier_input = make.signed(), make.signed()
        self.pooler, self.classifier = make.linear(width, width), make.linear(width, 2)

    def forward(self, tokens):
        positions = torch.arange(tokens.shape[1])
        x = self.word(tokens) + self.position(positions) + self.token_type(torch.zeros(1, dtype=int))
        x = self.dropout(self.norm(x))
        padding = torch.zeros(tokens.shape[0], 1, 1, tokens.shape[1], dtype=torch.bool)
        for layer in self.layers:
            x = layer(x, padding)
        pooled = torch.tanh(self.pooler(self.pooler_input(x[:, 0])))
        return self.classifier(self.classifier_input(self.dropout(pooled)))


class BasicBlock(nn.Module):
    def __init__(self, make, before, width, stride):
        super().__init__()
        self.stride = stride
        self.conv1 = make.conv(before, width, 3, stride=stride, padding=1)
        self.conv2 = make.conv(width, width, 3, padding=1)
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.relu1, self.relu2 = make.relu(), make.relu()

    def forward(self, x):
        inner = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        if self.stride == 2:
            x = x[:, :, ::2, ::2]
            x = torch.cat([x, torch.zeros_like(x)], 1)
        return self.relu2(inner + x)


class ResNet20(nn.Module):
    def __init__(self, make, layers=3):
        super().__init__()
        self.input = make.signed()
        self.stem, self.norm, self.relu = make.conv(3, 16, 3, padding=1), nn.BatchNorm2d(16), make.relu()
        blocks, before = [], 16
        for stage, width in enumerate([16, 32, 64]):
            for block in range(layers):
                blocks.append(BasicBlock(make, before, width, 2 if stage and not block else 1))
                before = width
        self.blocks = nn.Sequential(*blocks)
        self.classifier_input, self.classifier = make.unsigned(), make.linear(64, 10)

    def forward(self, x):
        x = self.blocks(self.relu(self.norm(self.stem(self.input(x)))))
        return self.classifier(self.classifier_input(x.mean((2, 3))))


class ResNet18(nn.Module):
    """Torchvision's architecture, with quantizers in the same places as ours."""

    def __init__(self, make):
        super().__init__()
        self.input = make.signed()
        self.stem, self.norm = make.conv(3, 64, 7, stride=2, padding=3), nn.BatchNorm2d(64)
        self.relu, self.pool = make.relu(), nn.MaxPool2d(3, stride=2, padding=1)
        blocks, before = [], 64
        for width in [64, 128, 256, 512]:
            blocks += [ProjectedBlock(make, before, width), BasicBlock(make, width, width, 1)]
            before = width
        self.blocks = nn.Sequential(*blocks)
        self.classifier_input, self.classifier = make.unsigned(), make.linear(512, 1000)

    def forward(self, x):
        x = self.blocks(self.pool(self.relu(self.norm(self.stem(self.input(x))))))
        return self.classifier(self.classifier_input(x.mean((2, 3))))


class ProjectedBlock(nn.Module):
    """A block whose shortcut is a convolution where its width changes."""

    def __init__(self, make, before, width):
        super().__init__()
        stride = 1 if before == width else 2
        self.conv1 = make.conv(before, width, 3, stride=stride, padding=1)
        self.conv2 = make.conv(width, width, 3, padding=1)
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.relu1, self.relu2 = make.relu(), make.relu()
        shortcut = [make.conv(before, width, 1, stride=stride), nn.BatchNorm2d(width)]
        self.shortcut = nn.Sequential(*shortcut) if stride == 2 else nn.Identity()

    def forward(self, x):
        inner = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        return self.relu2(inner + self.shortcut(x))


class InvertedResidual(nn.Module):
    def __init__(self, make, before, width, expansion, stride):
        super().__init__()
        inner = before * expansion
        layers = [make.signed()] if expansion > 1 else []
        if expansion > 1:
            layers += [make.conv(before, inner, 1), nn.BatchNorm2d(inner), make.relu6()]
        layers += [make.conv(inner, inner, 3, stride=stride, padding=1, groups=inner)]
        layers += [nn.BatchNorm2d(inner), make.relu6(), make.conv(inner, width, 1), nn.BatchNorm2d(width)]
        self.layers, self.shortcut = nn.Sequential(*layers), stride == 1 and before == width

    def forward(self, x):
        return x + self.layers(x) if self.shortcut else self.layers(x)


class MobileNetV2(nn.Module):
    def __init__(self, make):
        super().__init__()
        layers = [make.signed(), make.conv(3, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), make.relu6()]
        before = 32
        table = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
        for expansion, width, count, stride in table:
            for index in range(count):
                layers.append(InvertedResidual(make, before, width, expansion, 1 if index else stride))
                before = width
        layers += [make.signed(), make.conv(before, 1280, 1), nn.BatchNorm2d(1280), nn.ReLU6()]
        self.features, self.dropout = nn.Sequential(*layers), nn.Dropout(0.2)
        self.classifier_input, self.classifier = make.unsigned(), make.linear(1280, 1000)

    def forward(self, x):
        x = self.features(x).mean((2, 3))
        return self.classifier(self.classifier_input(self.dropout(x)))


class LanguageModel(nn.Module):
    def __init__(self, make, layers=1, words=10000, size=300):
        super().__init__()
        self.embedding, self.lstm = make.embedding(words, size), make.lstm(size, layers)
        self.output_input, self.output = make.signed(), make.linear(size, words)
        self.dropout = nn.Dropout(0.5)

    def forward(self, words):
        states, _ = self.lstm(self.dropout(self.embedding(words)))
        return self.output(self.output_input(self.dropout(states))).flatten(0, 1)


def fake_quantize(variant):
    """The operation on 16M values: PyTorch's own affine one, or a plain copy of the same bytes."""
    x = torch.randn(1 << 24)

    def run():
        if variant == "quantized":
            torch.fake_quantize_per_tensor_affine(x, 0.05, 0, -128, 127)
        else:
            x.clone()
        if x.is_cuda:
            torch.cuda.synchronize()
        return 0.0

    return run


def step(name, variant, batch=None, layers=None, device="cpu", precision=None):
    torch.set_default_device(device)
    if name == "fake_quantize_16m":
        return fake_quantize(variant)
    batch, layers = (None if value is None else int(value) for value in (batch, layers))
    make = Layers(variant == "quantized")
    size = {} if layers is None else {"layers": layers}
    if name in ("bert", "bert_base"):
        batch = batch or 32
        length, shape = (64, {}) if name == "bert" else (128, {"width": 768, "layers": 12})
        model, inputs = Bert(make, **{**shape, **size}), torch.randint(30522, (batch, length))
        targets = torch.randint(2, (batch,))
    elif name == "resnet18":
        batch = batch or 64
        model, inputs = ResNet18(make), torch.rand(batch, 3, 224, 224)
        targets = torch.randint(1000, (batch,))
    elif name == "resnet20":
        batch = batch or 128
        model, inputs = ResNet20(make, **size), torch.rand(batch, 3, 32, 32)
        targets = torch.randint(10, (batch,))
    elif name == "mobilenetv2":
        batch = batch or 32
        model, inputs = MobileNetV2(make), torch.rand(batch, 3, 96, 96)
        targets = torch.randint(1000, (batch,))
    elif name == "lstm":
        batch = batch or 20
        model, inputs = LanguageModel(make, **size), torch.randint(10000, (batch, 35))
        targets = torch.randint(10000, (batch * 35,))
    else:
        sys.exit(f"no model {name}")
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    dtype = {None: torch.bfloat16, "bf16": torch.bfloat16, "f16": torch.float16}[precision]

    def run():
        optimizer.zero_grad()
        with torch.autocast(device, dtype=dtype, enabled=precision is not None):
            loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss.item()

    return run


def main():
    name, variant, *options = sys.argv[1:]
    torch.manual_seed(1)
    run = step(name, variant, **dict(option.split("=") for option in options))
    for _ in sys.stdin:
        start = time.perf_counter()
        loss = run()
        milliseconds = 1e3 * (time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(milliseconds, loss, peak, flush=True)


if __name__ == "__main__":
    main()
