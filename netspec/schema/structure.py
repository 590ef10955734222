"""The structure of a document: which keys stand where and what they hold, except for the arguments of what is named.

`KINDS` is the one statement of it. The validator, the editor's schema and the check of `--set` paths all read it; the
arguments of layers, initializers, optimizers and so on come from the catalog (`typed.py`).
"""

from __future__ import annotations

from typing import Final

from netspec.catalog.kinds import DTYPES
from netspec.schema.pieces import (
    ANYTHING,
    BOOLEAN,
    COUNT,
    IDENTIFIER,
    NAMES,
    TEXT,
    Schema,
    array,
    choice,
    fixed,
    record,
    ref,
    table,
    value,
)
from netspec.schema.sections import SECTIONS
from netspec.shapes import TEXT as TEXT_DTYPE

VERSION: Final = 1

UNSUPPORTED: Final = ("train.phases",)
"""What the language has and this version of the compiler does not do yet, as `kind.key` or `type.name`."""

SIZE: Final[Schema] = {"anyOf": [{"type": "integer", "minimum": 1}, TEXT]}
SHAPE: Final = array(SIZE, "a list of sizes (numbers, names, `$values`, `16*h`, `_` or `...`)", "[N, 3, 224, 224]")

_REFERENCE = {"anyOf": [TEXT, {"type": "array", "items": TEXT}]}

STEERING: Final[dict[str, Schema]] = {
    "type": fixed(
        TEXT, "the name of a layer, a function or a block", "What it is: a catalog name or one of your blocks."
    ),
    "from": fixed(
        {"anyOf": [TEXT, array(_REFERENCE), {"type": "object", "additionalProperties": _REFERENCE}]},
        "a layer's name, a list of names, or a mapping from argument to name",
        "Its input: a name, a list of names, or a mapping argument → name. Left out: the layer before.",
        "[x, up]",
    ),
    "use": fixed(TEXT, "the name of a layer that exists", "Applies a module that exists already, sharing its weights."),
    "compute": fixed(
        TEXT,
        "tensor arithmetic, such as `x + up`",
        "Tensor arithmetic: names of layers, numbers, `$values`, + - * / // % ** @, comparisons, subscripts.",
        "x + up",
    ),
    "layers": ref("layers", "An inline sub-graph: a list (children 0, 1, 2 …) or a mapping (named children)."),
    "if": value(
        BOOLEAN, "true, false or an expression", "Keeps the layer only where this holds; else its input passes."
    ),
    "for": ref("loop", "One copy a step, chained: `{i: 4, width: $widths}`."),
    "repeat": value(COUNT, "a count", "So many copies, chained: a `for` without a name."),
    "inline": fixed(BOOLEAN, "true or false", "true: no module and no level in the keys; its layers join the parent."),
    "branches": ref("layers", "The same input into every member; gives a list (or ports)."),
    "each": fixed(TEXT, "the name of a list of tensors", "Applies one module to every tensor of a list."),
    "select": fixed(
        TEXT, "the name of a text among the inputs", "The input that names, at run time, the one of `of` to apply."
    ),
    "of": ref("members", "The modules that `select` chooses from, by name."),
    "when": choice(["training", "evaluation"], "The module always exists, and runs in this mode only."),
    "initialize": ref("initialize", "How its weights start."),
    "freeze": fixed(BOOLEAN, "true or false", "true: no gradient, and kept in evaluation mode."),
    "grad": fixed(BOOLEAN, "true or false", "false, beside `use` in `train.layers`: no gradient flows through it."),
    "expect": fixed(
        SHAPE, SHAPE["expects"], "Asserts the shape of the output, such as `[N, 512, 7, 7]`.", "[N, 512, 7, 7]"
    ),
    "replace": ref("replacements", "Of a library's model: what takes the place of its children, by path."),
}

BODIES: Final = ("type", "use", "compute", "layers", "branches", "select")
"""What makes a layer: one of these, and no two."""

_OUTPUTS = fixed(
    {"anyOf": [TEXT, {"type": "object", "additionalProperties": _REFERENCE, "minProperties": 1}]},
    "a layer's name, or a mapping from output to layer",
    "What it gives: a layer's name, or a mapping output → layer. Left out: the last layer.",
    "{logits: fc, features: pool}",
)
_BLOCK: dict[str, Schema] = {
    "description": fixed(TEXT, "a line of text", "One line for the generated docstring."),
    "inputs": ref("inputs", "The tensors it takes, with their shapes; names of sizes are bound where it is used."),
    "let": ref("let", "Values derived from parameters and sizes, in order."),
    "layers": ref("layers", "A list (children 0, 1, 2 …) or a mapping (named children)."),
    "outputs": _OUTPUTS,
    "initialize": ref("rules", "How weights start, once it has been built: the last rule that matches wins."),
}
_MODEL: dict[str, Schema] = {
    **_BLOCK,
    "tie": fixed(
        {"type": "object", "additionalProperties": TEXT},
        "a mapping from one parameter to another",
        "Parameters that are one: `{head.weight: embed.weight}`.",
    ),
}
_LAYER = {
    "anyOf": [TEXT, array(ref("member")), {"type": "object"}],
    "expects": "a layer, by name or as a mapping",
    "example": "{type: Linear, out_features: 10}",
}

KINDS: Final[dict[str, Schema]] = {
    "document": record(
        {
            "netspec": fixed({"const": VERSION}, f"{VERSION}", "The version of the language."),
            "name": fixed(
                {"type": "string", "pattern": IDENTIFIER},
                "a name",
                "The name of the model's class and file.",
                "resnet50",
            ),
            "description": fixed(TEXT, "a line of text", "One line for the generated docstring."),
            "params": ref("values", "The model's parameters; `--set params.depth=3` overrides one."),
            "imports": fixed(
                array(TEXT),
                "a list of paths",
                "Files whose blocks join this file's, by relative path.",
                "[blocks.yaml]",
            ),
            "extends": fixed(TEXT, "a path", "A base: mappings merge, lists replace.", "base.yaml"),
            "remove": fixed(
                array(TEXT), "a list of keys", "What the base has and this spec has not.", "[train.scheduler]"
            ),
            "blocks": ref("blocks", "Parametrised sub-graphs, by name."),
            "model": ref("model", "The network."),
            "models": ref("models", "Several networks, by name."),
            "data": ref("data", "Where samples come from and what happens to them."),
            "train": ref("train", "How the model is trained."),
            "sweep": ref("sweep", "The study: what `netspec sweep` varies, and by which figure it judges."),
        },
        required=["netspec", "name"],
    ),
    "values": table(ANYTHING, "a mapping from names to values", "{width: 64}"),
    "let": table(ANYTHING, "a mapping from names to values", "{width: 64}"),
    "blocks": table(ref("block"), "a mapping from names to blocks", "{Double: {layers: [ReLU, ReLU]}}"),
    "models": table(ref("one_model"), "a mapping from names to models"),
    "block": record(
        {"params": ref("params", "Its parameters: a type word or a default."), **_BLOCK},
        ["layers"],
        example="{inputs: {x: [N, C]}, layers: [ReLU]}",
    ),
    "model": record(_MODEL, ["inputs", "layers"], example="{inputs: {image: [N, 3, 224, 224]}, layers: {…}}"),
    "one_model": record(
        {"params": ref("values", "Parameters of its own, beside the document's."), **_MODEL},
        ["inputs", "layers"],
        example="{inputs: {image: [N, 3, 224, 224]}, layers: {…}}",
    ),
    "params": table(ANYTHING, "a mapping from names to type words or defaults", "{width: int, stride: 1}"),
    "inputs": table(ref("input"), "a mapping from names to shapes", "{image: [N, 3, 224, 224]}"),
    "input": {
        "anyOf": [
            SHAPE,
            record(
                {
                    "shape": fixed(SHAPE, SHAPE["expects"], "Its sizes."),
                    "dtype": choice(
                        (*DTYPES, TEXT_DTYPE),
                        "Its dtype; float32 where left out, `str` for a text that `select` reads.",
                    ),
                    "list": fixed(
                        {"anyOf": [SHAPE, array(SHAPE)]},
                        "a shape, or a list of shapes",
                        "A list of tensors: any number of one shape, or one for each shape of a list.",
                        "[N, 256, _, _]",
                    ),
                }
            ),
        ],
        "expects": "a list of sizes, or a mapping with `shape` or `list`, and `dtype`",
        "example": "[N, 3, 224, 224]",
    },
    "layers": {
        "anyOf": [
            array(ref("member"), minimum=1),
            {"type": "object", "additionalProperties": ref("layer"), "minProperties": 1},
        ],
        "expects": "a list or a mapping of layers",
        "example": "[Flatten, {type: Linear, out_features: 10}]",
    },
    "replacements": table(ref("layer"), "a mapping from a child's path to a layer", "{fc: Identity}", ".*"),
    "members": table(ref("layer"), "a mapping from names to layers", "{relu: ReLU}", ".*"),
    "layer": _LAYER,
    "member": _LAYER,
    "loop": {
        **table(
            value({"anyOf": [COUNT, array(ANYTHING)]}, "a count, a list or an expression"),
            "a mapping from names to counts or lists",
            "{i: 4}",
        ),
        "minProperties": 1,
    },
    "initialize": {
        "anyOf": [
            {"type": "object", "additionalProperties": ref("initializer")},
            array(ref("rule")),
        ],
        "expects": "a mapping from parameters to initializers, or a list of rules",
        "example": "{weight: xavier_uniform, bias: 0}",
    },
    "rules": array(ref("rule"), "a list of rules", "[{match: Conv2d, weight: kaiming_normal}]"),
    "rule": {
        "type": "object",
        "properties": {"match": fixed(NAMES, "a type, a pattern of paths, or a list of them")},
        "required": ["match"],
        "additionalProperties": ref("initializer"),
        "expects": "a mapping",
        "example": "{match: Conv2d, weight: kaiming_normal}",
    },
    "initializer": {
        "anyOf": [{"type": "number"}, TEXT, {"type": "object"}],
        "expects": "a number, or an initializer by name or as a mapping",
        "example": "{type: normal, std: 0.02}",
    },
    **SECTIONS,
}
