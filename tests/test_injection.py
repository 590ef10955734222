"""No text of a spec becomes code: whatever names, strings and descriptions hold, the emitted tree keeps its form."""

from __future__ import annotations

import ast
import builtins
import keyword
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import netspec
from netspec.diagnostics import SpecError

HOSTILE = (
    "'); import os; os.system('true') #",
    '"""\nimport os\n"""',
    "\\",
    "\\'",
    "x = 1\nimport os",
    "\u2028import os",
    "{{ 7 * 7 }}",
    "{% import os %}",
    "__import__('os')",
    "${x}",
    "a-b",
    "class",
    "self",
    "torch",
    "nn",
    "len",
    "F",
    "Tensor",
    "print",
    "__init__",
    "__class__",
    "forward",
    "__builtins__",
    "# noqa\rimport os",
    "ﬁ",  # a ligature, which Python reads as the two letters `fi`
    "µ",
    "ª",
    "x\u200d",
)
PRINTABLE = st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co"])
"""What YAML can hold."""
NAMES = st.one_of(
    st.sampled_from(HOSTILE),
    st.from_regex(r"[^\W\d]\w{0,8}", fullmatch=True),
    st.text(PRINTABLE, min_size=1, max_size=12),
    st.sampled_from([*keyword.kwlist, *keyword.softkwlist, *dir(builtins)]),
)
STRINGS = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co"], exclude_characters="$"), max_size=40),
)
"""Without a dollar, which begins an expression; one of the hostile ones has it."""


def document(names: list[str], strings: list[str]) -> dict[str, Any]:
    """A spec with a chosen name in every place that takes one, and chosen text wherever text may stand."""
    model, block, layer, other, inner, width, kind, source, size, output, glob, loop = names
    title, described, said, left, right = strings
    return {
        "netspec": 1,
        "name": model,
        "description": title,
        "params": {width: 6, kind: left},
        "blocks": {
            block: {
                "description": described,
                "params": {inner: "int", "word": right},
                "inputs": {source: ["N", size]},
                "let": {glob: f"$({inner} * 2)"},
                "layers": {
                    layer: {"type": "Linear", "out_features": f"${glob}"},
                    other: {"type": "ReLU", "if": f"$(word == {_quoted(said)} or {size} > 1)"},
                    "sum": {"type": "cat", "from": [source, other], "dim": 1},
                },
                "outputs": "sum",
            }
        },
        "model": {
            "description": described,
            "inputs": {source: ["N", 4]},
            "layers": {
                layer: {"type": block, inner: f"${width}", "word": f"${kind}"},
                other: [{"for": {loop: 2}, "type": "Linear", "out_features": f"$({width} + {loop})"}],
                "maybe": {"type": "Tanh", "if": f"$({kind} != {_quoted(right)})"},
                "wide": {
                    "type": "TransformerEncoder",
                    "encoder_layer": {"type": "TransformerEncoderLayer", "nhead": 1, "dim_feedforward": f"${width}"},
                    "num_layers": 1,
                    "norm": {"type": block, inner: f"${width}", "word": f"${kind}"},
                    "enable_nested_tensor": False,
                },
            },
            "outputs": {output: layer, "last": "maybe"},
            "initialize": [{"match": [f"{layer}.{layer}", f"{other}*"], "bias": 0}],
        },
    }


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


NAMED = ("model", "Block", "one", "two", "inner", "width", "kind", "source", "size", "output", "derived", "step")
TEXTS = ["A title.", "A description.", "said", "left", "right"]
PLAIN = document(list(NAMED), TEXTS)


def form(source: str) -> str:
    """The tree of a source without what may differ: names, strings, docstrings, and the order of imports."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [one for one in node.body if not _is_text(one)]
    imports = sorted(ast.unparse(one) for one in tree.body if isinstance(one, ast.Import | ast.ImportFrom))
    return f"{imports}\n{[type(node).__name__ for node in ast.walk(tree)]}"


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def emitted(names: list[str], strings: list[str]) -> str | None:
    """The source, or None where the compiler refuses a name."""
    try:
        return netspec.compile(document(names, strings)).source("spec.yaml")
    except SpecError:
        return None


def test_the_document_is_good() -> None:
    """Else the property below would hold for nothing."""
    assert "class Block" in netspec.compile(PLAIN).source()


def check(positions: set[int], name: str, strings: list[str]) -> None:
    names, plain = list(NAMED), list(NAMED)
    for position in sorted(positions):
        names[position] = name if len(positions) == 1 else f"{name}{position}"
        if "-" in name:  # such a layer is added by `add_module`, its name a string
            plain[position] = f"{plain[position]}-plain"
    source = emitted(names, strings)
    if source is not None:
        compile(source, "emitted", "exec")
        expected = emitted(plain, TEXTS)
        assert expected is not None
        assert form(source) == form(expected), source


ANY = given(
    positions=st.sets(st.integers(0, 11), min_size=1, max_size=4),
    name=NAMES,
    strings=st.lists(STRINGS, min_size=5, max_size=5, unique=True),
)
FEW = settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@ANY
@FEW
def test_text_stays_text(positions: set[int], name: str, strings: list[str]) -> None:
    check(positions, name, strings)


@pytest.mark.long
@ANY
@settings(FEW, max_examples=10_000, derandomize=False)
def test_text_stays_text_in_ten_thousand_specs(positions: set[int], name: str, strings: list[str]) -> None:
    check(positions, name, strings)


@pytest.mark.parametrize(("name", "mend"), [("\ufb01", "fi"), ("\u00bc", ""), ("e\u0301", "\u00e9"), ("\u00aa", "a")])
def test_a_name_is_what_python_reads(name: str, mend: str) -> None:
    """Python folds identifiers (NFKC): in code such a layer would have another key than in the live module."""
    layers = {name: "ReLU", "out": "ReLU"}
    with pytest.raises(SpecError) as caught:
        netspec.compile({"netspec": 1, "name": "net", "model": {"inputs": {"x": ["N", 4]}, "layers": layers}})
    (found,) = caught.value.diagnostics
    assert found.code == "NS110"
    assert f"`{mend}`" in str(found.help) if mend else found.help


def test_a_size_is_not_called_self() -> None:
    """It would be a second `self` of the constructor, or hide the module in `forward`."""
    for size in ("self", "2*self"):
        with pytest.raises(SpecError) as caught:
            netspec.compile({"netspec": 1, "name": "net", "model": {"inputs": {"x": ["N", size]}, "layers": ["ReLU"]}})
        assert [found.code for found in caught.value.diagnostics] == ["NS301"]
