"""The catalog as data: the schemas, the docs and the registry agree with it; what its rules say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest
from torch import nn

from netspec import catalog
from netspec.catalog import REQUIRED, Argument, Entry, Inferred
from netspec.catalog.kinds import DTYPES, accepts, describe, json_schema, tensor_shape
from netspec.shapes import Dim, ListType, Problem, TensorType

ENTRIES = [e for e in map(catalog.lookup, catalog.names()) if e is not None]
INITIALIZERS = [e for e in (catalog.lookup(n, "initializer") for n in catalog.names("initializer")) if e is not None]
OURS = ENTRIES + INITIALIZERS
N = Dim("N")


def by_name(entry: Entry) -> str:
    return entry.name


def test_the_catalog_holds_torch_nn_init() -> None:
    theirs = {n.removesuffix("_") for n in vars(nn.init) if n.endswith("_") and not n.startswith("_")}
    assert set(catalog.names("initializer")) == theirs


# Kinds


@pytest.mark.parametrize("entry", OURS, ids=by_name)
def test_every_word_of_an_entry_is_there(entry: Entry) -> None:
    assert entry.doc.endswith(".")
    assert entry.doc[0].isupper() or not entry.doc[0].isalpha() or entry.doc.startswith(("e ", "exp(", "log("))
    for argument in entry.arguments:
        assert argument.doc, argument.name
        assert not argument.doc.endswith("."), argument.name
        assert describe(argument)
        if argument.default is not REQUIRED:
            assert accepts(argument, argument.default) is None, argument.name


VALUES = [
    *(None, True, False, 0, 1, 2, -1, 7, 0.0, 0.5, -0.5, 1.5, 1e9, "", "zeros", "same", "mean", "float32", "none"),
    *([], [1], [1, 2], [0, 0], [1, 2, 3], [1, None], [0.5, 1.5], ["a"], [True], [[1, 2], [3, 4]], [1] * 4, [1] * 6, {}),
]


@pytest.mark.parametrize("entry", OURS, ids=by_name)
def test_the_schema_and_the_check_accept_the_same(entry: Entry) -> None:
    for argument in entry.arguments:
        schema = json_schema(argument)
        jsonschema.Draft7Validator.check_schema(schema)
        if argument.takes_module or argument.takes_class:
            continue  # the schema looks at what is written, the check at what was made of it
        validator = jsonschema.Draft7Validator(schema)
        for value in VALUES:
            valid = validator.is_valid(value)
            if isinstance(value, float) and value.is_integer() and "float" not in argument.kind:
                continue  # 1e9 is an integer to JSON Schema, and a float in YAML
            if "tensor" in argument.kind and isinstance(value, list):
                continue  # the schema does not look whether rows have one length
            assert (accepts(argument, value) is None) == valid, (argument.name, value)


def argument(kind: str, **more: Any) -> Argument:
    return Argument(name="x", kind=kind, **more)


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (argument("int", minimum=1), "an integer from 1"),
        (argument("float", minimum=0, maximum=1), "a number from 0 to 1"),
        (argument("size2", minimum=1), "an integer from 1 or a list of 2"),
        (
            argument("size2|choice", minimum=0, choices=("valid", "same")),
            'an integer from 0, a list of 2, "valid" or "same"',
        ),
        (argument("int?"), "an integer or null"),
        (argument("module", types=("LSTM", "GRU")), "a layer (LSTM or GRU)"),
        (argument("class?"), "the name of a layer, a mapping with some of its arguments or null"),
        (argument("choice|function", choices=("relu",)), '"relu" or the name of a function'),
        (argument("int|ints?"), "an integer, a list of integers or null"),
        (argument("output2"), "an integer, null or a list of 2 of these"),
        (argument("bool"), "true or false"),
        (argument("dtype?"), f"a dtype ({', '.join(DTYPES)}) or null"),
    ],
)
def test_kinds_in_words(declared: Argument, words: str) -> None:
    assert describe(declared) == words


@pytest.mark.parametrize(
    ("declared", "value", "code", "message"),
    [
        (argument("int", minimum=1), 0, "NS104", "`x` takes an integer from 1, and got 0"),
        (argument("int"), "a", "NS103", '`x` takes an integer, and got "a"'),
        (argument("int"), True, "NS103", "`x` takes an integer, and got true"),
        (argument("int"), 1.5, "NS103", "`x` takes an integer, and got 1.5"),
        (argument("size2"), [1, 2, 3], "NS103", "`x` takes an integer or a list of 2, and got [1, 2, 3]"),
        (argument("choice", choices=("a", "b")), "c", "NS104", '`x` takes "a" or "b", and got "c"'),
        (argument("bool"), None, "NS103", "`x` takes true or false, and got null"),
        (argument("int"), N, "NS407", "`x` has to be known when the model is built, and N is not"),
        (argument("ints"), [2, N * 2], "NS407", "`x` has to be known when the model is built, and [2, 2*N] is not"),
    ],
)
def test_values_that_are_refused(declared: Argument, value: Any, code: str, message: str) -> None:
    problem = accepts(declared, value)
    assert problem is not None
    assert (problem.code, problem.message, problem.argument) == (code, message, "x")


def test_sizes_may_be_symbolic() -> None:
    assert accepts(argument("sizes"), [N, -1, 2 * N]) is None
    assert accepts(argument("size"), N) is None


def test_tensors_are_rectangular() -> None:
    assert tensor_shape([[1, 2, 3], [4, 5, 6]]) == (2, 3)
    assert tensor_shape(1.5) == ()
    assert accepts(argument("tensor"), [[1, 2], [3]]) is not None
    assert accepts(argument("tensor"), [1, "a"]) is not None


# The registry


def test_categories_share_or_own_their_names() -> None:
    assert catalog.lookup("Conv2d") is catalog.lookup("Conv2d", "layer")
    assert catalog.lookup("Conv2d", "loss") is None
    assert catalog.lookup("normal") is None
    assert catalog.lookup("normal", "initializer") is not None
    assert catalog.lookup("nothing") is None
    assert "relu" in catalog.names("function")
    assert "relu" not in catalog.names("layer")
    kinds = [set(catalog.names(category)) for category in ("layer", "function", "loss", "weight")]
    assert set(catalog.names()) == set.union(*kinds)
    assert sum(map(len, kinds)) == len(catalog.names())


@pytest.mark.parametrize(
    ("written", "meant"),
    [("Conv2D", "Conv2d"), ("conv2d", "Conv2d"), ("Batchnorm2d", "BatchNorm2d"), ("Relu", "ReLU"), ("quux", None)],
)
def test_misspelt_names(written: str, meant: str | None) -> None:
    assert catalog.suggest(written, "layer") == meant


def test_a_name_is_registered_once() -> None:
    taken = Entry(name="Conv2d", category="layer", target="plugin.Conv2d")
    with pytest.raises(ValueError, match=r"has Conv2d already: torch\.nn\.Conv2d .* plugin\.Conv2d"):
        catalog.register(taken)
    with pytest.raises(ValueError, match="has MSELoss already"):
        catalog.register(Entry(name="MSELoss", category="function", target="plugin.mse"))


def test_the_catalog_loads_without_torch_or_validators() -> None:
    code = (
        "import json, sys\n"
        "from netspec import catalog\n"
        "catalog.names(), catalog.names('initializer')\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    loaded = set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))
    assert not loaded & {"torch", "torchvision", "numpy", "jsonschema", "networkx", "jinja2", "yaml", "rich"}
    assert "netspec.catalog.conv" in loaded
    assert "netspec.catalog.optimizers" not in loaded


# What rules say


def ask(name: str, *inputs: Any, **arguments: Any) -> Inferred | Problem:
    entry = catalog.lookup(name)
    assert entry is not None
    assert entry.rule is not None
    defaults = {a.name: a.default for a in entry.arguments if not a.required and not a.inferred}
    ports: Mapping[str, Any] = {port.name: given for port, given in zip(entry.inputs, inputs, strict=False)}
    return entry.rule({**defaults, **arguments}, ports)


def shape(answer: Inferred | Problem) -> str:
    assert isinstance(answer, Inferred), answer
    return str(answer.outputs["output"])


H, W, h = Dim("H"), Dim("W"), Dim("h")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (ask("Conv2d", TensorType((N, 3, H, W)), out_channels=8, kernel_size=3, padding=1), "[N, 8, H, W]"),
        (
            ask("Conv2d", TensorType((N, 3, 16 * h, W)), out_channels=8, kernel_size=3, stride=2, padding=1),
            "[N, 8, 8*h, (W + 1) // 2]",
        ),
        (ask("Conv2d", TensorType((N, 3, H, W)), out_channels=8, kernel_size=5, padding="same"), "[N, 8, H, W]"),
        (ask("ConvTranspose2d", TensorType((N, 8, h, h)), out_channels=4, kernel_size=2, stride=2), "[N, 4, 2*h, 2*h]"),
        (ask("MaxPool2d", TensorType((N, 8, 2 * h, 7)), kernel_size=2), "[N, 8, h, 3]"),
        (ask("AdaptiveAvgPool2d", TensorType((N, 8, H, W)), output_size=[None, 1]), "[N, 8, H, 1]"),
        (ask("flatten", TensorType((N, 8, h, 7)), start_dim=1), "[N, 56*h]"),
        (ask("Linear", TensorType((N, Dim("T"), 64)), out_features=10), "[N, T, 10]"),
        (ask("LayerNorm", TensorType((N, Dim("T"), 64))), "[N, T, 64]"),
        (ask("GroupNorm", TensorType((N, 8, H, W)), num_groups=4), "[N, 8, H, W]"),
        (ask("reshape", TensorType((N, 12, 64)), shape=[N, -1, 32]), "[N, 24, 32]"),
        (ask("reshape", TensorType((N, 12, 64)), shape=[-1, 64]), "[12*N, 64]"),
        (ask("permute", TensorType((N, 12, 64)), dims=[0, 2, 1]), "[N, 64, 12]"),
        (ask("squeeze", TensorType((N, 1)), dim=-1), "[N]"),
        (ask("expand", TensorType((1, 1, 64)), size=[N, -1, -1]), "[N, 1, 64]"),
        (ask("cat", (TensorType((N, 3, H)), TensorType((N, 5, H))), dim=1), "[N, 8, H]"),
        (ask("stack", (TensorType((N, 3)), TensorType((N, 3))), dim=1), "[N, 2, 3]"),
        (ask("chunk", TensorType((N, 8 * h)), chunks=4, dim=1), "list of [N, 2*h], [N, 2*h], [N, 2*h], [N, 2*h]"),
        (ask("mean", TensorType((N, 8, H, W)), dim=[2, 3]), "[N, 8]"),
        (ask("interpolate", TensorType((N, 8, H, W)), scale_factor=2), "[N, 8, 2*H, 2*W]"),
        (ask("interpolate", TensorType((N, 8, H, W)), scale_factor=0.5), "[N, 8, H // 2, W // 2]"),
        (ask("matmul", TensorType((N, 8, H, 4)), TensorType((N, 8, 4, W))), "[N, 8, H, W]"),
        (ask("add", TensorType((N, 8, H, W)), TensorType((8, 1, 1))), "[N, 8, H, W]"),
        (ask("Embedding", TensorType((N, Dim("T")), "int64"), num_embeddings=9, embedding_dim=4), "[N, T, 4]"),
        (ask("CrossEntropyLoss", TensorType((N, 10)), TensorType((N,), "int64")), "[]"),
        (ask("CrossEntropyLoss", TensorType((N, 10)), TensorType((N,), "int64"), reduction="none"), "[N]"),
        (ask("MSELoss", TensorType((N, 1)), TensorType((N, 1))), "[]"),
    ],
)
def test_symbols_pass_through(answer: Inferred | Problem, expected: str) -> None:
    assert shape(answer) == expected


def image(*sizes: Any, dtype: str = "float32") -> TensorType:
    return TensorType(sizes, dtype)


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        (
            ask("Conv2d", image(N, 400), out_channels=8, kernel_size=3),
            "NS401",
            "Conv2d takes [N, C, H, W] or [C, H, W], and got [N, 400]",
        ),
        (
            ask("Conv2d", image(N, 3, 4, 4), out_channels=8, kernel_size=7),
            "NS401",
            "Conv2d: kernel 7 is larger than the padded input 4, which came from [N, 3, 4, 4]",
        ),
        (
            ask("Conv2d", image(N, 64, 4, 4), out_channels=6, kernel_size=1, groups=3),
            "NS404",
            "Conv2d: groups 3 does not divide in_channels 64",
        ),
        (
            ask("Conv2d", image(N, 3, 4, 4), in_channels=1, out_channels=6, kernel_size=1),
            "NS403",
            "Conv2d has in_channels 1, and its input has 3 channels",
        ),
        (
            ask("Conv2d", image(N, Dim("C"), 4, 4), out_channels=6, kernel_size=1),
            "NS407",
            "Conv2d needs the number of channels as a number when the model is built, and C is not known",
        ),
        (
            ask("Linear", image(N, 3, dtype="int64"), out_features=6),
            "NS402",
            "Linear takes floating point, and got int64",
        ),
        (
            ask("Embedding", image(N, 3), num_embeddings=5, embedding_dim=2),
            "NS402",
            "Embedding takes indices, int64 or int32, and got float32",
        ),
        (
            ask("BatchNorm1d", image(N, 8, 7, 7)),
            "NS401",
            "BatchNorm1d takes [N, C] or [N, C, L], and got [N, 8, 7, 7]",
        ),
        (
            ask("cat", (image(N, 3, 7, 7), image(N, 3, 14, 7)), dim=1),
            "NS403",
            "cat along dimension 1 needs the other sizes to be equal: dimension 2 is 7 in input 0 [N, 3, 7, 7] and 14 "
            "in input 1 [N, 3, 14, 7]",
        ),
        (
            ask("add", image(N, 64, 7, 7), image(N, 128, 7, 7)),
            "NS403",
            "add: [N, 64, 7, 7] and [N, 128, 7, 7] do not go together: dimension -3 is 64 in the first and 128 in the "
            "second",
        ),
        (
            ask("flatten", image(N, 3), start_dim=2),
            "NS404",
            "flatten: dimension 2 does not exist in a tensor of 2 dimensions",
        ),
        (
            ask("squeeze", image(N, 1)),
            "NS401",
            "squeeze takes a dimension out where its size is 1, and N of [N, 1] may be 1 or not",
        ),
        (
            ask("reshape", image(N, 7), shape=[-1, 2]),
            "NS403",
            "reshape: the 7*N values of [N, 7] cannot be shared out over [-1, 2]",
        ),
        (
            ask("CrossEntropyLoss", image(N, 10), image(N)),
            "NS402",
            "CrossEntropyLoss takes class indices as int64, and got float32",
        ),
        (
            ask("CrossEntropyLoss", image(N, 10), image(N, 1, dtype="int64")),
            "NS403",
            "CrossEntropyLoss of scores [N, 10] takes class indices [N] or probabilities [N, 10], and got [N, 1]",
        ),
        (
            ask("BCEWithLogitsLoss", image(N, 1), image(N, 1, dtype="int64")),
            "NS402",
            "BCEWithLogitsLoss takes a floating point target, and got int64",
        ),
        (
            ask("MSELoss", image(N, 1), image(N)),
            "NS406",
            "MSELoss compares each value of the input [N, 1] with one of the target, and got [N]",
        ),
        (
            ask("relu", ListType((image(N, 1), image(N, 2)))),
            "NS405",
            "relu takes a tensor, and got a list of 2",
        ),
    ],
)
def test_refusals_name_the_numbers(answer: Inferred | Problem, code: str, message: str) -> None:
    assert isinstance(answer, Problem)
    assert (answer.code, answer.message) == (code, message)


def test_a_column_against_a_row_comes_with_its_mend() -> None:
    answer = ask("MSELoss", image(N, 1), image(N))
    assert isinstance(answer, Problem)
    assert answer.ports == ("input", "target")
    assert answer.help == (
        "squeeze the last dimension of the input (`{type: squeeze, dim: -1}`), "
        "or unsqueeze the target (`{type: unsqueeze, dim: -1}`)"
    )


def test_the_last_offset_ends_the_bags() -> None:
    import torch

    offsets = torch.tensor([0, 2, 5])
    real = torch.nn.EmbeddingBag(4, 3, include_last_offset=True)(torch.tensor([1, 2, 3, 0, 1]), offsets)
    index = {"dtype": "int64"}
    said = ask(
        "EmbeddingBag",
        *(image(5, **index), image(3, **index)),
        num_embeddings=4,
        embedding_dim=3,
        include_last_offset=True,
    )
    assert shape(said) == str(list(real.shape))
