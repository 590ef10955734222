"""What `netspec show` counts, held against torch: parameters, FLOPs, what autograd keeps, what optimizers hold."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import netspec
from netspec import catalog
from netspec.catalog.entry import REQUIRED
from netspec.cli import main
from netspec.costs import layer_memory, memory, weights
from netspec.costs.optimizer import state_size
from netspec.costs.walk import Setting, Trace
from netspec.program import Program
from netspec.shapes import Dim, ListType, Size, TensorType
from netspec.table import batch_symbol, layer_table, totals

ROOT = Path(__file__).resolve().parent.parent / "specs"
IMAGENET = sorted(path.stem for path in (ROOT / "imagenet").glob("*.yaml"))
FAMILIES = (
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "mnasnet0_5",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_0",
    "swin_t",
    "vgg11_bn",
    "vit_b_32",
)
ON_CPU = ("googlenet", "resnet18", "swin_t", "vit_b_32")
"""Networks that run for real; of the others meta tensors show what is kept (other kernels in ShuffleNet and ViT)."""
OTHERS = [*sorted(ROOT.glob("*.yaml")), ROOT / "detection" / "fpn.yaml"]
"""All but retinanet_head, which takes a list of any length."""
SPECS = [
    *(pytest.param(path, id=path.stem) for path in OTHERS),
    *(
        pytest.param(ROOT / f"imagenet/{name}.yaml", id=name, marks=() if name in FAMILIES else pytest.mark.long)
        for name in IMAGENET
    ),
]


def inputs_of(program: Program, sizes: dict[str, int], device: str) -> list[Any]:
    def made(type_: TensorType) -> Tensor:
        shape = [int(size.substitute(sizes)) if isinstance(size, Dim) else int(size) for size in type_.shape]  # type: ignore[arg-type]
        dtype = getattr(torch, type_.dtype)
        return (torch.rand if dtype.is_floating_point else torch.zeros)(shape, dtype=dtype, device=device)  # type: ignore[no-any-return]

    return [
        [made(one) for one in type_.items] if isinstance(type_, ListType) else made(type_)
        for type_ in program.inputs.values()
    ]


def sizes_of(program: Program, batch: int) -> dict[str, int]:
    """The batch, and 8 for all else that is open."""
    types = [one for type_ in program.inputs.values() for one in getattr(type_, "items", (type_,))]
    names = {name for type_ in types for size in type_.shape for name in getattr(size, "symbols", ())}
    return {name: batch if name == batch_symbol(program) else 8 for name in names}


def kept_by_torch(module: nn.Module, inputs: list[Any], half: torch.dtype | None = None) -> int:
    """The bytes of the storages that autograd saves, the module's own apart, each once."""
    own = {tensor.untyped_storage()._cdata for tensor in [*module.parameters(), *module.buffers()]}
    found: dict[int, int] = {}
    held: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        held.append(tensor)
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            found[storage._cdata] = storage.nbytes()
        return tensor

    format_ = torch.autocast("cpu", half or torch.bfloat16, enabled=half is not None)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), format_:
        module(*inputs)
    return sum(found.values())


def kept_by_netspec(program: Program, sizes: dict[str, int], half: str = "") -> int:
    given: dict[str, Size] = dict(sizes)
    trace = Trace.of(program, Setting(sizes=given, training=True, half=half, gpu=False))
    storages = [*trace.kept, *trace.casts.values()]
    return sum(storage.size for storage in storages if storage.size is not None)


@pytest.mark.parametrize("path", SPECS)
def test_parameters_and_flops_are_torchs(path: Path) -> None:
    program = netspec.compile(path)
    with torch.device("meta"):
        module = program.module().eval()
    sizes = sizes_of(program, 1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs_of(program, sizes, "meta"))
    counted = totals(program, sizes)
    assert counted["flops"] == counter.get_total_flops()
    assert counted["parameters"] == sum(parameter.numel() for parameter in module.parameters())
    own = list(weights(program))
    assert sum(one.size for one in own if one.buffer) == sum(one.nbytes for one in module.buffers())
    trained = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    assert counted["trainable"] == trained


@pytest.mark.parametrize("path", SPECS)
def test_what_autograd_keeps_is_counted_to_the_byte(path: Path) -> None:
    program = netspec.compile(path)
    sizes = sizes_of(program, 2)
    device = "cpu" if path in OTHERS or path.stem.startswith(("shufflenet", "vit", *ON_CPU)) else "meta"
    with torch.device(device):
        module = program.module().train()
    assert kept_by_netspec(program, sizes) == kept_by_torch(module, inputs_of(program, sizes, device))


RECURRENT = [
    {},
    {"num_layers": 3, "dropout": 0.5},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "dropout": 0.5, "batch_first": True},
    {"batch_first": True, "bias": False},
]


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("arguments", RECURRENT, ids=str)
@pytest.mark.parametrize("sizes", [(20, 48), (64, 50), (128, 256)], ids=str)
def test_what_recurrent_layers_keep_is_counted_to_the_byte(
    name: str, arguments: dict[str, Any], sizes: tuple[int, int], tmp_path: Path
) -> None:
    features, hidden = sizes
    shape = f"[N, 7, {features}]" if "batch_first" in arguments else f"[7, N, {features}]"
    layer = json.dumps({"type": name, "hidden_size": hidden, **arguments})
    text = f"netspec: 1\nname: r\nmodel:\n  inputs: {{x: {shape}}}\n  layers: {{r: {layer}}}\n  outputs: r.output\n"
    (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
    program = netspec.compile(tmp_path / "r.yaml")
    real = kept_by_torch(program.module().train(), inputs_of(program, {"N": 5}, "cpu"))
    # oneDNN's workspace is what the machine's vector width asks for: held exactly where rows are padded alike.
    assert kept_by_netspec(program, {"N": 5}) == (real if name != "LSTM" else pytest.approx(real, rel=0.02))


@pytest.mark.parametrize("name", ["RNNCell", "GRUCell", "LSTMCell"])
def test_what_cells_keep_is_counted_to_the_byte(name: str, tmp_path: Path) -> None:
    text = (
        f"netspec: 1\nname: r\nmodel:\n  inputs: {{x: [N, 20]}}\n  layers: {{r: {{type: {name}, hidden_size: 12}}}}\n"
    )
    (tmp_path / "r.yaml").write_text(text + ("  outputs: r.h_1\n" if name == "LSTMCell" else ""), encoding="utf-8")
    program = netspec.compile(tmp_path / "r.yaml")
    real = kept_by_torch(program.module().train(), inputs_of(program, {"N": 5}, "cpu"))
    assert kept_by_netspec(program, {"N": 5}) == real


STACK = "num_layers: 3, enable_nested_tensor: false, encoder_layer: {type: TransformerEncoderLayer, nhead: 2"
INSIDE = {
    "stack": ("[N, 7, 16]", f"type: TransformerEncoder, norm: LayerNorm, {STACK}, batch_first: true}}"),
    "norm_first": ("[N, 7, 16]", f"type: TransformerEncoder, {STACK}, dropout: 0.0, norm_first: true}}"),
    "conv": ("[N, 3, 9, 9]", "type: Conv2dNormActivation, out_channels: 8, activation_layer: SiLU"),
    "mlp": ("[N, 6]", "type: MLP, hidden_channels: [8, 5], norm_layer: LayerNorm, dropout: 0.5"),
    "excitation": ("[N, 6, 4, 4]", "type: SqueezeExcitation, squeeze_channels: 2, scale_activation: Hardsigmoid"),
}


@pytest.mark.parametrize("case", INSIDE)
def test_what_layers_inside_keep_is_counted_to_the_byte(case: str, tmp_path: Path) -> None:
    shape, layer = INSIDE[case]
    text = f"netspec: 1\nname: r\nmodel:\n  inputs: {{x: {shape}}}\n  layers: {{r: {{{layer}}}}}\n"
    (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
    program = netspec.compile(tmp_path / "r.yaml")
    real = kept_by_torch(program.module().train(), inputs_of(program, {"N": 5}, "cpu"))
    assert kept_by_netspec(program, {"N": 5}) == real


@pytest.mark.parametrize(
    "name", ["digits", "imagenet/resnet18", "imagenet/googlenet", "imagenet/swin_t", "imagenet/vit_b_32"]
)
def test_in_16_bits_within_three_percent(name: str) -> None:
    program = netspec.compile(ROOT / f"{name}.yaml")
    sizes = sizes_of(program, 2)
    real = kept_by_torch(program.module().train(), inputs_of(program, sizes, "cpu"), torch.bfloat16)
    assert kept_by_netspec(program, sizes, "bfloat16") == pytest.approx(real, rel=0.03)


OPTIMIZERS: dict[str, list[dict[str, Any]]] = {
    "SGD": [{}, {"momentum": 0.9}],
    "Adam": [{}, {"amsgrad": True}],
    "RMSprop": [{}, {"momentum": 0.9, "centered": True}],
}


@pytest.mark.parametrize("name", [name for name in catalog.names("optimizer") if name != "LBFGS"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (6, 7), (8,)], ids=str)
def test_optimizer_state_is_torchs(name: str, shape: tuple[int, ...]) -> None:
    if name == "Muon" and len(shape) != 2:
        pytest.skip("Muon takes matrices alone")
    entry = catalog.lookup(name, "optimizer")
    assert entry is not None
    defaults = {argument.name: argument.default for argument in entry.arguments if argument.default is not REQUIRED}
    for stated in OPTIMIZERS.get(name, [{}]):
        parameter = nn.Parameter(torch.ones(shape))
        optimizer = getattr(torch.optim, name)([parameter], **stated)
        gradient = torch.ones(shape)
        parameter.grad = gradient.to_sparse() if name == "SparseAdam" else gradient
        optimizer.step()
        held = sum(value.nbytes for value in optimizer.state[parameter].values() if isinstance(value, Tensor))
        assert state_size(name, defaults | stated, shape) == held


CHAIN = """\
netspec: 1
name: chain
model:
  inputs: {x: [N, 4]}
  layers:
    a: {type: Linear, out_features: 8}
    b: {type: ReLU, inplace: true}
    c: {type: Linear, out_features: 2, freeze: true}
    d: {compute: c + c}
    e: {type: Linear, out_features: 16, when: training}
  outputs: {d: d, e: e}
"""


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    (tmp_path / "chain.yaml").write_text(CHAIN, encoding="utf-8")
    return tmp_path / "chain.yaml"


def test_the_peak_is_the_most_that_lives_at_once(chain: Path) -> None:
    # For 3 samples: x (48 bytes) stays with the caller; a and b are one tensor (96) that lives until c (24) is there.
    assert memory(netspec.compile(chain), 3).activations == 48 + 96 + 24


def test_by_layer_each_tensor_counts_once_and_sums_are_the_blocks() -> None:
    program = netspec.compile(ROOT / "digits.yaml")
    held = layer_memory(program)
    assert held["features.0"] == (8192, 256) and held["features.2"] == (8192, 8192)
    assert held["features.3"][1] == 0  # its input is the ReLU's output
    inner = [kept for path, (_, kept) in held.items() if path.startswith("features.")]
    assert held["features"][1] == sum(kept or 0 for kept in inner)


def test_what_runs_in_training_alone_is_in_no_sum_of_flops(chain: Path) -> None:
    program = netspec.compile(chain)
    flops = {row.path: row.flops for row in layer_table(program)}
    assert flops["e"] == 2 * 2 * 16
    assert totals(program)["flops"] == 2 * (4 * 8 + 8 * 2)


def test_training_memory_follows_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    spec = str(ROOT / "digits.yaml")

    def shown(*options: str) -> dict[str, Any]:
        assert main(["show", spec, "--format", "json", *options]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)["memory"]
        return found

    adam = shown()
    assert (adam["batch_size"], adam["optimizer"], adam["precision"], adam["assumed"]) == (64, "AdamW", "fp32", False)
    assert adam["parameters"] == adam["gradients"] == 4 * 90_250
    assert adam["optimizer_state"] == 8 * 90_250 + 4 * 16
    parts = ("parameters", "buffers", "gradients", "optimizer_state", "kept_activations", "half_weights")
    assert adam["training"] == sum(adam[part] for part in parts)
    twice = shown("--batch-size", "128")
    fixed = 2 * 4 * (32 + 64 + 64)  # the means and deviations of three norms do not grow with the batch
    assert twice["kept_activations"] - fixed == 2 * (adam["kept_activations"] - fixed)
    half = shown("--set", "train.precision=bf16")
    assert half["half_weights"] > 0 and half["kept_activations"] < adam["kept_activations"]


def test_open_sizes_are_unknown_until_they_are_given(capsys: pytest.CaptureFixture[str]) -> None:
    spec = str(ROOT / "gpt.yaml")
    assert main(["show", spec, "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["flops"] is None and shown["memory"]["training"] is None
    assert main(["show", spec, "--format", "json", "--size", "T=16"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["flops"] > 0 and shown["memory"]["training"] > 0
    assert main(["show", spec, "--size", "T"]) == 2
    assert "write T=128" in capsys.readouterr().err


def test_a_tied_weight_counts_once(tmp_path: Path) -> None:
    text = """\
netspec: 1
name: tied
model:
  inputs: {tokens: {shape: [N, 8], dtype: int64}}
  layers:
    embed: {type: Embedding, num_embeddings: 10, embedding_dim: 4}
    head: {type: Linear, out_features: 10, bias: false}
  tie: {head.weight: embed.weight}
"""
    (tmp_path / "tied.yaml").write_text(text, encoding="utf-8")
    program = netspec.compile(tmp_path / "tied.yaml")
    assert memory(program).parameters == 4 * 40
    assert Counter(one.shape for one in weights(program)) == {(10, 4): 1}


def test_the_table_fits_into_100_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(ROOT / "imagenet" / "resnet50.yaml")]) == 0
    assert max(len(line.rstrip()) for line in capsys.readouterr().out.splitlines()) <= 100
