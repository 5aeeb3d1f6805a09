"""Outputs of torchvision's and transformers' models, for tests/published.rs and tests/cli/pretrained.rs.

    pip install torch torchvision transformers safetensors
    python make.py

writes torchvision.json, torchvision/ and bert/ beside this file. The weights of the models in
torchvision.json are not stored: they follow from the names and shapes there by the formula of
`values`, which the test has too. With the name of a folder, the weights are written there as .pth
files as well: named `torchvision` and in AUSN_PRETRAINED_DIR, the test reads those too.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
import torchvision
import transformers

HERE = Path(__file__).parent
VERSIONS = {
    "torch": torch.__version__,
    "torchvision": torchvision.__version__,
    "transformers": transformers.__version__,
    "safetensors": safetensors.__version__,
}


def uniform(name, count):
    """`count` numbers between -1 and 1 that follow from a name: FNV-1a, then MurmurHash3's mixer."""
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x01000193) & 0xFFFFFFFF
    x = np.uint32(seed) + np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B9)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    x = x ^ (x >> np.uint32(16))
    return (x >> np.uint32(8)).astype(np.float64) / 2**23 - 1.0


def values(name, shape):
    """The float tensor of a name: centre + width * uniform."""
    centre, width = 0.0, 0.1
    if len(shape) > 1:
        width = math.sqrt(3.0 / math.prod(shape[1:]))
    elif name.endswith("running_var"):
        centre, width = 0.75, 0.5
    elif name.endswith("weight"):
        centre, width = 1.0, 0.2
    numbers = centre + width * uniform(name, math.prod(shape))
    return torch.from_numpy(numbers.astype(np.float32)).reshape(shape)


def fill(model, dtype=torch.float32):
    """Gives a model the values of its tensors' names, rounded to a type; its state dictionary."""
    state = model.state_dict()
    for key, tensor in state.items():
        if tensor.is_floating_point():
            state[key] = values(key, tuple(tensor.shape)).to(dtype)
    model.load_state_dict(state)
    return state


def torchvision_fixture():
    models = {}
    for name in ["resnet18", "resnet50", "mobilenet_v2", "vit"]:
        if name == "vit":
            size = 16
            model = torchvision.models.VisionTransformer(
                image_size=size, patch_size=4, num_layers=2, num_heads=3, hidden_dim=12, mlp_dim=20, num_classes=10
            ).eval()
        else:
            size = 64
            model = getattr(torchvision.models, name)(weights=None).eval()
        state = fill(model)
        for folder in sys.argv[1:] if name != "vit" else []:
            torch.save(state, Path(folder) / f"{name}.pth")
        with torch.no_grad():
            logits = model(values("input", (2, 3, size, size)))
        models[name] = {
            "tensors": {key: list(tensor.shape) for key, tensor in state.items()},
            # Ten of the classes.
            "logits": [[round(v, 6) for v in row] for row in logits[:, :: logits.shape[1] // 10].tolist()],
        }
    text = json.dumps({"versions": VERSIONS, "models": models}, separators=(",", ":"))
    # One tensor a line.
    (HERE / "torchvision.json").write_text(text.replace('],"', '],\n"') + "\n")


def pytorch_fixture():
    """State dictionaries so small that they are kept, in 16 bits, as torch.save writes them."""
    folder = HERE / "torchvision"
    folder.mkdir(exist_ok=True)
    model = torchvision.models.mobilenet_v2(width_mult=0.1, num_classes=10).eval()
    torch.save(fill(model, torch.float16), folder / "mobilenet_v2.pth")
    with torch.no_grad():
        logits = model(values("input", (2, 3, 64, 64)))
    expected = {"versions": VERSIONS, "logits": [[round(v, 6) for v in row] for row in logits.tolist()]}
    (folder / "mobilenet_v2.json").write_text(json.dumps(expected, indent=1) + "\n")

    # Torchvision has no narrow ResNet-18: the names of the usual one, a 32nd as wide, with ten classes
    # and the numbers that tests/cli/pretrained.rs has too.
    state = torchvision.models.resnet18(weights=None).state_dict()
    for key, tensor in state.items():
        if tensor.is_floating_point():
            shape = [10 if size == 1000 else size // 32 if size >= 64 else size for size in tensor.shape]
            state[key] = (0.5 + torch.arange(math.prod(shape)) % 13 / 64).half().reshape(shape)
    torch.save(state, folder / "resnet18.pt")


def bert_fixture():
    folder = HERE / "bert"
    torch.manual_seed(4)
    config = transformers.BertConfig(
        vocab_size=24,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
        initializer_range=0.3,
    )
    pretraining = transformers.BertForPreTraining(config).eval()
    with torch.no_grad():
        for tensor in pretraining.parameters():
            if tensor.dim() == 1:
                tensor += 0.2 * torch.randn_like(tensor)
    bert = pretraining.bert
    bert.save_pretrained(folder)
    state = bert.state_dict()
    torch.save(state, folder / "pytorch_model.bin")
    # As the first published files are: the format before zip, heads of pretraining beside the
    # encoder, and the normalization's parameters by their old names.
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in pretraining.state_dict().items()
    }
    torch.save(old, folder / "legacy.bin", _use_new_zipfile_serialization=False)
    # As training programs save: a model for several devices, and other things beside its weights.
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.ones(4)}}}
    wrapped = {f"module.{name}": tensor.half() for name, tensor in state.items()}
    torch.save({"epoch": 3, "state_dict": wrapped, "optimizer": optimizer}, folder / "training.pt")

    tokens = torch.tensor([[1, 5, 9, 23, 2, 0], [1, 7, 2, 0, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]])
    with torch.no_grad():
        output = bert(tokens, attention_mask=mask)
    expected = {
        "versions": VERSIONS,
        "tokens": tokens.tolist(),
        "attention_mask": mask.tolist(),
        "first_hidden": output.last_hidden_state[:, 0].tolist(),
        "pooled": output.pooler_output.tolist(),
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


torchvision_fixture()
pytorch_fixture()
bert_fixture()
