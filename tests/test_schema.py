"""The validator of documents: what it accepts, and where and how it reports what it does not.

The words of every message stand in the golden cases (`golden/diagnostics/NS1*`); here are the rules behind them.
"""

from __future__ import annotations

import json
import keyword
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from netspec.compose import compose
from netspec.diagnostics import Diagnostics, Span
from netspec.document import parse_document, plain
from netspec.models import read_spec
from netspec.schema import UNSUPPORTED, check_layer_name, knows, suggest_path, validate
from netspec.schema.names import check_local_name, check_name, check_output_name

ROOT = Path(__file__).resolve().parent.parent
SPECS = sorted((ROOT / "specs").rglob("*.yaml"))


def findings(text: str) -> list[tuple[str, str, str]]:
    """What is found in a document: the code, the text that is underlined, and the help."""
    diagnostics = Diagnostics()
    document = parse_document(text, "spec.yaml", diagnostics)
    assert document is not None and not len(diagnostics), list(diagnostics)
    validate(document, diagnostics)
    return [(d.code, underlined(text, d.span), d.help or "") for d in diagnostics]


def underlined(text: str, span: Span | None) -> str:
    assert span is not None and span.line == span.end_line
    return text.splitlines()[span.line - 1][span.column - 1 : span.end_column - 1]


def spec(layers: str, *, blocks: str = "{}", params: str = "{}") -> str:
    """A document around the layers of a model, one a line."""
    lines = "".join(f"    {line}\n" for line in layers.splitlines())
    return (
        f"netspec: 1\nname: net\nparams: {params}\nblocks: {blocks}\n"
        f"model:\n  inputs: {{x: [N, 3, 32, 32]}}\n  layers:\n{lines}"
    )


# What is accepted


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_real_specs_pass(path: Path) -> None:
    diagnostics = Diagnostics()
    composed = compose(str(path), (), diagnostics)
    assert composed is not None
    validate(composed.document, diagnostics)
    assert [d.message for d in diagnostics] == []


def test_expressions_may_stand_inside_lists() -> None:
    assert findings(spec("conv: {type: Conv2d, out_channels: 8, kernel_size: [$(1 + 2), $k]}")) == []


def test_the_arguments_of_a_block_that_is_a_parameter_are_not_judged() -> None:
    assert findings(spec("stage: {type: $block, planes: 64, anything: [1]}")) == []


def test_a_block_wins_over_a_catalog_entry_of_its_name() -> None:
    text = spec("act: {type: ReLU, slope: 2}", blocks="{ReLU: {params: {slope: int}, layers: [Sigmoid]}}")
    assert findings(text) == []


# What is reported, where, and with which mend


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (
            "a: {type: Conv2d, out_channels: 8, kernal_size: 3}",
            [("NS106", "kernal_size", "did you mean `kernel_size`?")],
        ),
        (
            "a: {type: Conv2d, channels_out: 8, kernel_size: 3}",
            [("NS106", "channels_out", "did you mean `out_channels`?")],
        ),
        (
            "a: {type: Dropout, p: 0.5, pp: 0.5}",
            [("NS106", "pp", "its arguments are p, inplace")],  # `p` is there already
        ),
        (
            "a: {type: Conv2d, out_chanels: 8, kernal_size: 3}",
            [
                ("NS106", "out_chanels", "did you mean `out_channels`?"),
                ("NS106", "kernal_size", "did you mean `kernel_size`?"),
            ],
        ),
        (
            "a: {type: Conv2d, kernal_size: 3}",
            [
                ("NS107", "Conv2d", "add `out_channels: …`"),
                ("NS106", "kernal_size", "did you mean `kernel_size`?"),
            ],
        ),
        ("layer$(s + 1)-$i: {for: {s: 2, i: 2}, type: ReLU}", []),
        ("a: [max_pol2d]", [("NS105", "max_pol2d", "did you mean `MaxPool2d`?")]),
        ("a: max_pol2d", [("NS105", "max_pol2d", "did you mean `max_pool2d`?")]),
        ("a: torch.nn.ReLU", [("NS105", "torch.nn.ReLU", "did you mean `ReLU`?")]),
        ("a: {type: CONV2D, wrong: 1}", [("NS105", "CONV2D", "did you mean `Conv2d`?")]),
        ("a: {tpye: Conv2d, out_channels: 8}", [("NS101", "tpye", "did you mean `type`?")]),
        (
            "a: {type: Linear, use: b, out_feature: 2}",
            [("NS108", "use", "keep one of them: each says what the layer is")],
        ),
        ("a:\n  layers:\n    - [ReLU, tanh]", [("NS111", "tanh", "write `Tanh`, the module for it")]),
        ("a: {inline: true, layers: [relu]}", [("NS111", "relu", "write `ReLU`, the module for it")]),
        ("a: {inline: true, layers: {b: relu}}", []),
        ("a: {type: ReLU, freeze: maybe}", [("NS103", "maybe", "for example `freeze: true`")]),
        ("a: {type: ReLU, if: off}", [("NS103", "off", "write `false`; in YAML 1.2 `off` is a string")]),
        ("a: {type: Dropout, p: .nan}", [("NS104", ".nan", "for example `p: 0.5`")]),
        ("a: {type: Dropout, p: 1.01}", [("NS104", "1.01", "for example `p: 0.5`")]),
        ("a: {for: {i: -1}, type: ReLU}", [("NS104", "-1", "for example `i: 1`")]),
        ("a: {for: {}, type: ReLU}", [("NS103", "{}", "for example `for: {i: 4}`")]),
        ("a: {layers: []}", [("NS103", "[]", "for example `layers: [Flatten, {type: Linear, out_features: 10}]`")]),
        (
            "a: {type: ReLU, initialize: {weight: [1]}}",
            [("NS103", "[1]", "for example `weight: {type: normal, std: 0.02}`")],
        ),
        ("a: {type: ReLU, expect: [N, 0]}", [("NS104", "0", "for example `expect: [N, 512, 7, 7]`")]),
        ("a: {type: 3}", [("NS103", "3", "write the name of a layer, a function or a block")]),
        ("a: true", [("NS103", "true", "for example `a: {type: Linear, out_features: 10}`")]),
    ],
)
def test_a_layer(layers: str, expected: list[tuple[str, str, str]]) -> None:
    assert findings(spec(layers)) == expected


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ("a: {type: Stage, width: 8}", []),
        ("a: {type: Stage, width: 8, act: null}", []),
        ("a: {type: Stage, width: 8, act: {type: GELU}, stride: [1, 2]}", []),
        ("a: {type: Stage, width: $(2 * 4), act: $act}", []),
        ("a: Stage", [("NS107", "Stage", "add `width: …`")]),
        ("a: {type: Stage, width: 8.5}", [("NS103", "8.5", "for example `width: 1`")]),
        ("a: {type: Stage, width: 8, act: Rleu}", [("NS105", "Rleu", "did you mean `ReLU`?")]),
        (
            "a: {type: Stage, width: 8, act: {type: LeakyReLU, slope: 1}}",
            [("NS106", "slope", "did you mean `negative_slope`?")],
        ),
        ("a: {type: Stage, width: 8, padding: 1}", [("NS106", "padding", "its parameters are width, stride, act")]),
        ("a: {type: Stage, width: 8, freez: true}", [("NS101", "freez", "did you mean `freeze`?")]),
    ],
)
def test_a_use_of_a_block(layer: str, expected: list[tuple[str, str, str]]) -> None:
    blocks = (
        "{Stage: {params: {width: int, stride: 1, act: ReLU}, layers: [{type: Linear, out_features: $width}, $act]}}"
    )
    assert findings(spec(layer, blocks=blocks)) == expected


@pytest.mark.parametrize(
    ("word", "good", "bad"),
    [
        ("int", ["3", "-3", "$n"], ["3.5", "three", "[3]", "true", "null"]),
        ("float", ["3", "0.5", "$n"], ["half", "[0.5]", "true"]),
        ("bool", ["true", "$(a > b)"], ["1", "on", "[]"]),
        ("str", ["same", "$mode"], ["3", "[a]", "true"]),
        ("list", ["[1, a]", "[]", "$sizes"], ["3", "a", "{a: 1}"]),
        ("layer", ["ReLU", "{type: ReLU}", "null", "[ReLU, ReLU]", "$act"], ["3", "true"]),
        ("block", ["Other", "null", "$block"], ["3", "true"]),
    ],
)
def test_a_type_word(word: str, good: list[str], bad: list[str]) -> None:
    blocks = f"{{B: {{params: {{p: {word}}}, layers: [ReLU]}}, Other: {{layers: [ReLU]}}}}"
    for value in good:
        assert findings(spec(f"a: {{type: B, p: {value}}}", blocks=blocks)) == [], value
    for value in bad:
        (found,) = findings(spec(f"a: {{type: B, p: {value}}}", blocks=blocks))
        assert found[:2] == ("NS103", value)


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ("loss: {type: CrossEntropyLoss, from: [fc, label], label_smoothing: 0.1}", []),
        ("loss: {main: {type: CrossEntropyLoss, weight: 0.5}, other: {type: MSELoss, from: [a, b]}}", []),
        ("loss: {main: {type: CrossEntropyLos}}", [("NS113", "CrossEntropyLos", "did you mean `CrossEntropyLoss`?")]),
        ("loss: {main: {from: [a, b]}}", [("NS102", "main", "add `type:` with the name of the loss")]),
        ("scheduler: {warmup: {epochs: 1}}", []),
        ("scheduler: {warmup: {epoch: 1}}", [("NS101", "epoch", "did you mean `epochs`?")]),
        ("scheduler: {type: StepLR}", [("NS107", "StepLR", "add `step_size: …`")]),
        ("metrics: [Accuracy, {type: torchmetrics.AUROC, task: binary}]", []),
        ("metrics: [Acuracy]", [("NS113", "Acuracy", "did you mean `Accuracy`?")]),
        ("metrics: [3]", [("NS103", "3", "for example `Accuracy`")]),
        (
            "optimizer: {type: SGD, groups: [{match: '*.bias', weight_decay: 0, lrr: 1}]}",
            [("NS101", "lrr", "did you mean `lr`?")],
        ),
        ("optimizer: {type: SGD, groups: [{lr: 1}]}", [("NS102", "{lr: 1}", "add `match: …`")]),
        ("optimizer: {type: SGD, groups: [{match: a, lr: high}]}", [("NS103", "high", "for example `lr: 0.001`")]),
        ("precision: bf61", [("NS104", "bf61", "did you mean `bf16`?")]),
        ("precision: $precision", []),
        ("batch_size: 64", [("NS101", "batch_size", "`batch_size` stands in `data`")]),
        ("clip_grad: {norm: 1.0}", []),
        ("clip_grad: -1", [("NS104", "-1", "for example `clip_grad: 1.0`")]),
        ("checkpoint: {every: 3}", [("NS103", "3", "for example `every: {epochs: 1}`")]),
    ],
)
def test_a_key_of_train(train: str, expected: list[tuple[str, str, str]]) -> None:
    assert findings(spec("fc: {type: Linear, out_features: 2}") + f"train:\n  {train}\n") == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("{source: Digits, split: {train: 0.8, test: 0.2, stratify: label}, workers: auto}", []),
        ("{source: {type: ImageFolder}}", [("NS107", "ImageFolder", "add `root: …`")]),
        ("{source: Digit}", [("NS113", "Digit", "did you mean `Digits`?")]),
        ("{source: Digits, transforms: [Normalise]}", [("NS113", "Normalise", "did you mean `Normalize`?")]),
        (
            "{source: Digits, transforms: [{type: RandomApply, transforms: [{type: Resize, sise: 3}]}]}",
            [("NS106", "sise", "did you mean `size`?")],
        ),
        ("{train: {source: Digits, shufle: true}}", [("NS101", "shufle", "did you mean `shuffle`?")]),
        ("{source: Digits, split: {train: -80}}", [("NS104", "-80", "for example `train: 0.2`")]),
        ("{source: Digits, epochs: 3}", [("NS101", "epochs", "`epochs` stands in `train`")]),
        ("{source: Digits, sampler: {replacement: true}}", [("NS102", "sampler", "add `type: …`")]),
    ],
)
def test_a_key_of_data(data: str, expected: list[tuple[str, str, str]]) -> None:
    assert findings(spec("fc: {type: Linear, out_features: 2}") + f"data: {data}\n") == expected


def test_everything_wrong_is_reported_at_once_in_the_order_of_the_text() -> None:
    text = spec("a: Relu\nclass: ReLU\nb: {type: Linear, out_features: ten}") + "trian: {}\n"
    assert [(code, place) for code, place, _ in findings(text)] == [
        ("NS105", "Relu"),
        ("NS110", "class"),
        ("NS103", "ten"),
        ("NS101", "trian"),
    ]


def test_a_value_that_is_in_scope_is_suggested_and_one_that_is_not_is_not() -> None:
    blocks = "{B: {inputs: {x: [N, C]}, let: {half: $(C // 2)}, layers: [{type: Linear, out_features: PLACE}]}}"
    for name in ("half", "C"):
        (found,) = findings(spec("b: B", blocks=blocks.replace("PLACE", name), params="{width: 3}"))
        assert found == ("NS103", name, f"did you mean the value `${name}`?")
    (found,) = findings(spec("b: B", blocks=blocks.replace("PLACE", "width"), params="{width: 3}"))
    assert found == ("NS103", "width", "for example `out_features: 1`")


def test_a_value_is_suggested_only_where_one_may_stand() -> None:
    (found,) = findings(spec("a: {type: ReLU, expect: width}", params="{width: 3}"))
    assert found == ("NS103", "width", "for example `expect: [N, 512, 7, 7]`")


def test_a_file_of_blocks_needs_no_model() -> None:
    assert findings("netspec: 1\nname: parts\nblocks: {B: {layers: [ReLU]}}\n") == []


PIECES: list[Any] = [
    *(None, True, 3, -1, 0.5, "", "x", "$x", "a.b", "ReLU", "relu", [], {}, [1, "x"], [[1]], [None], {"a": 1}),
    *({"type": "ReLU"}, {"type": "Conv2d"}, {"type": None}, {"type": ["a"]}, {"a": {"b": 1}}, {"from": {"x": ["a"]}}),
]


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_whatever_is_changed_is_either_reported_with_a_mend_or_readable(path: Path) -> None:
    composed = compose(str(path), (), Diagnostics())
    assert composed is not None
    for seed in range(60):
        text = json.dumps(changed(plain(composed.document), random.Random(f"{path.stem} {seed}")))
        found = Diagnostics()
        document = parse_document(text, "spec.yaml", found)
        assert document is not None
        validate(document, found)
        assert all(d.code.startswith("NS1") and d.help and d.span and d.span.file == "spec.yaml" for d in found)
        if not found.has_errors:
            read_spec(document, found)


def changed(document: Any, random: random.Random) -> Any:
    """The document with a value replaced or taken away, or a key renamed."""
    places = [place for place in walk(document) if place]
    *way, last = random.choice(places)
    holder = document
    for step in way:
        holder = holder[step]
    match random.choice(["replace", "remove", "rename"]):
        case "rename" if isinstance(holder, dict):
            holder[random.choice(["type", "from", "use", "for", "class", "compute", f"{last}x"])] = holder.pop(last)
        case "remove":
            del holder[last]
        case _:
            holder[last] = random.choice(PIECES)
    return document


def walk(value: Any, way: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield way
    for step, inside in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from walk(inside, (*way, step))


def test_a_deep_document_is_no_trouble() -> None:
    nested = "{layers: [" * 40 + "relu" + "]}" * 40
    assert findings(spec(f"a: {nested}")) == [("NS111", "relu", "write `ReLU`, the module for it")]


# What is not supported yet


UNSUPPORTED_CASES = {
    "model.tie": spec("a: ReLU") + "  tie: {a.weight: b.weight}\n",
    "layer.when": spec("a: {type: ReLU, when: training}"),
    "type.Parameter": spec("a: {type: Parameter, shape: [1], initialize: 0}"),
    "type.Buffer": spec("a: {type: Buffer, layers: {n: ReLU}}"),
    "type.library": spec("a: {type: torchvision.resnet18, replace: {fc: Identity}}"),
    "train.phases": spec("a: ReLU") + "train: {phases: {a: {}}}\n",
    "train.compile": spec("a: ReLU") + "train: {compile: true}\n",
    "train.monitor": spec("a: ReLU") + "train: {monitor: {}}\n",
}


@pytest.mark.parametrize("feature", UNSUPPORTED)
def test_what_is_not_supported_yet_says_so_and_nothing_else(feature: str) -> None:
    assert [code for code, _, _ in findings(UNSUPPORTED_CASES[feature])] == ["NS190"]


# Names


@pytest.mark.parametrize("name", ["conv1", "layer_2", "block1-0", "_hidden", "größe", "x"])
def test_good_layer_names(name: str) -> None:
    assert check_layer_name(name) is None


@pytest.mark.parametrize("name", ["", "1x", "a b", "a.b", "a/b", "-", "previous", *keyword.kwlist])
def test_bad_layer_names(name: str) -> None:
    problem = check_layer_name(name)
    assert problem is not None and problem.help


@pytest.mark.parametrize("name", ["F", "len", "math", "max", "nn", "range", "super", "torch"])
def test_names_that_would_hide_what_the_generated_code_uses(name: str) -> None:
    document = f"netspec: 1\nname: net\nparams: {{{name}: 4}}\nmodel:\n  inputs: {{x: [N, 3]}}\n  layers: {{a: ReLU}}\n"
    assert [code for code, _, _ in findings(document)] == ["NS110"]
    problem = check_local_name(name, "a parameter's name")
    assert problem is not None and problem.help == f"write `{name}_`"
    assert check_name(name, "the name of a spec") is None
    assert check_layer_name("torch") is not None


@pytest.mark.parametrize("name", ["_x", "_", "class", "__class__", "a b", "count", "index"])
def test_names_that_no_tuple_can_have(name: str) -> None:
    assert check_output_name(name) is not None and check_output_name("logits") is None
    document = (
        f"netspec: 1\nname: net\nmodel:\n  inputs: {{x: [N, 3]}}\n  layers: {{a: ReLU}}\n  outputs: {{'{name}': a}}\n"
    )
    assert [code for code, _, _ in findings(document)] == ["NS110"]


def test_names_that_torch_refuses_are_refused() -> None:
    """The list of attributes is written down, since the check runs without torch; torch is the oracle here.

    It is asked in a new process: what compiles a module adds attributes of its own to the class.
    """
    from torch import nn

    attributes = run("from torch import nn\nprint(*dir(nn.Module()), *dir(nn.Sequential()))").split()
    assert "state_dict" in attributes
    assert [name for name in attributes if check_layer_name(name) is None] == []
    with pytest.raises(KeyError):
        nn.Module().add_module("forward", nn.ReLU())


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout


LOADED = """
import sys
from netspec.document import parse_document, plain
from netspec.diagnostics import Diagnostics
from netspec.schema import validate
text = "netspec: 1\\nname: net\\nmodel: {inputs: {x: [N]}, layers: [KEY]}\\n"
found = Diagnostics()
validate(parse_document(text, "spec.yaml", found), found)
print(len(found), *(name in sys.modules for name in ("jsonschema", "torch")))
"""


def test_jsonschema_is_imported_only_where_something_is_wrong() -> None:
    assert run(LOADED.replace("KEY", "{type: ReLU, inplace: true}")).split() == ["0", "False", "False"]
    assert run(LOADED.replace("KEY", "{type: ReLU, inplace: maybe}")).split() == ["1", "True", "False"]


@pytest.mark.parametrize("stride", ["stride: 1", "strid: 1"])
def test_the_work_grows_as_the_number_of_layers(stride: str) -> None:
    """Counted in function calls, which are the same on every machine."""
    once = "{type: Conv2d, out_channels: 8, kernel_size: [3, 3], padding: 1, " + stride + "}"
    diagnostics = Diagnostics()

    def calls(count: int) -> int:
        document = parse_document(spec("\n".join(f"l{i}: {once}" for i in range(count))), "spec.yaml", diagnostics)
        assert document is not None
        counted = 0

        def tick(frame: FrameType, event: str, argument: object) -> None:
            nonlocal counted
            counted += event == "call" and str(frame.f_globals.get("__name__")).startswith("netspec.")

        sys.setprofile(tick)
        try:
            validate(document, Diagnostics())
        finally:
            sys.setprofile(None)
        return counted

    calls(210)  # fills what is kept between documents
    small, middle, large = calls(10), calls(110), calls(210)
    assert middle - small == large - middle > 0


# `--set`


@pytest.mark.parametrize(
    "path",
    [
        "name",
        "train.epochs",
        "train.optimizer.lr",
        "train.loss.label_smoothing",
        "train.checkpoint.every.steps",
        "data.source.root",
        "data.transforms.0.size",
        "model.layers.conv1.stride",
        "model.layers.features.0.kernel_size",
        "model.layers.stage.layers.conv.if",
        "model.initialize.0.weight.std",
        "model.layers.conv1.initialize.weight",
    ],
)
def test_known_paths(path: str) -> None:
    assert knows(tuple(path.split(".")))
    assert suggest_path(tuple(path.split("."))) is None


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("train.epoch", "train.epochs"),
        ("trian.epochs", "train.epochs"),
        ("train.optimizer.learning_rat", None),
        ("train.optimizer.weight_deca", "train.optimizer.weight_decay"),
        ("model.layers.conv1.strid", "model.layers.conv1.stride"),
        ("params.num_classes", None),
        ("model.layers.conv1", None),
        ("train.epochs.more", None),
        ("", None),
    ],
)
def test_unknown_paths(path: str, meant: str | None) -> None:
    steps = tuple(path.split("."))
    assert not knows(steps)
    found = suggest_path(steps)
    assert (".".join(found) if found else None) == meant
