"""Places whose keys are known from their kind alone: the document, its sections, blocks, tables of names."""

from __future__ import annotations

from typing import Final

from netspec.diagnostics import Label
from netspec.document import Mapping, Scalar
from netspec.schema import layer_rules, words
from netspec.schema.names import NameProblem, check_layer_name, check_local_name, check_name, check_output_name
from netspec.schema.structure import KINDS, STEERING, UNSUPPORTED
from netspec.schema.walk import Place, Walk, judge_of_kind
from netspec.schema.words import Owner
from netspec.suggest import suggest

_SUBJECTS: Final = {
    "document": "the document",
    "block": "a block",
    "model": "a model",
    "one_model": "a model",
    "dataset": "a set of samples",
    "rule": "a rule",
    "input": "an input",
}
_NAMED: Final = {
    "blocks": "a block's name",
    "models": "a model's name",
    "params": "a parameter's name",
    "values": "a parameter's name",
    "let": "the name of a value",
    "inputs": "an input's name",
    "loop": "the name of a loop",
    "losses": "a loss's name",
}
"""The tables whose keys become names in Python, and what these are called."""
_LOCAL: Final = frozenset({"blocks", "params", "values", "let", "inputs", "loop"})
"""Those of them whose names stand beside what generated code imports."""


def check_plain(walk: Walk, place: Place) -> None:
    node = place.node
    bound: frozenset[str] = frozenset()
    if isinstance(node, Mapping):
        if place.kind == "layers" and (problem := layer_rules.single_layer(node, place.title)):
            walk.add(problem)
            return
        node = walk.supported(place.kind, node)
        bound = layer_rules.names_bound(node)
    subject = _SUBJECTS.get(place.kind, place.title)
    known = tuple(key for key in KINDS[place.kind].get("properties", ()) if f"{place.kind}.{key}" not in UNSUPPORTED)
    owner = Owner(subject=subject, title=place.title, span=place.span, known=known)
    if walk.check(place, node, judge_of_kind(place.kind), owner, bound) and isinstance(place.node, Mapping):
        _look_closer(walk, place.kind, place.node)


def _look_closer(walk: Walk, kind: str, node: Mapping) -> None:
    """The rules that a schema cannot state."""
    if kind in _NAMED:
        for name, span in node.key_spans.items():
            problem = (check_local_name if kind in _LOCAL else check_name)(name, _NAMED[kind])
            if problem is None and kind == "params" and name in STEERING:
                problem = NameProblem(
                    f"a parameter of a block cannot be called `{name}`: that key steers every layer",
                    f"choose another name, such as `{name}_`",
                )
            walk.bad_name(problem, span)
    elif kind in ("layers", "members"):
        for name, span in node.key_spans.items():
            if "$" not in name:
                walk.bad_name(check_layer_name(name), span)
    elif kind == "input" and {"shape", "list"} <= node.items.keys():
        walk.diagnostics.error(
            words.CONTRADICTION,
            "`shape` and `list` cannot stand on one input",
            node.key_spans["list"],
            labels=[Label(node.key_spans["shape"], "`shape` stands here")],
            help="keep `shape` for one tensor, `list` for a list of them",
        )
    elif kind in ("block", "model", "one_model"):
        outputs = node.items.get("outputs")
        for name, span in outputs.key_spans.items() if isinstance(outputs, Mapping) else ():
            walk.bad_name(check_output_name(name), span)
    elif kind == "document":
        _look_at_document(walk, node)


def _look_at_document(walk: Walk, node: Mapping) -> None:
    name = node.items.get("name")
    if isinstance(name, Scalar) and isinstance(name.value, str):
        walk.bad_name(check_name(name.value, "the name of a spec"), name.span)
    keys = node.key_spans.keys()
    if "model" in keys and "models" in keys:
        walk.diagnostics.error(
            words.CONTRADICTION,
            "the document has both `model` and `models`",
            node.key_spans["models"],
            labels=[Label(node.key_spans["model"], "the first is here")],
            help="put the one under `models`, by a name",
        )
    only_blocks = "blocks" in keys and not keys & {"data", "train"}
    misspelt = any(suggest(key, ["model"]) for key in keys - KINDS["document"]["properties"].keys())
    displaced = keys & {"layers", "inputs", "outputs"}
    if not (keys & {"model", "models"} or only_blocks or misspelt or displaced):
        walk.error(
            words.MISSING_KEY,
            "the document has no `model`",
            node.key_spans.get("name", next(iter(node.key_spans.values()), node.span)),
            "add `model:` with `inputs` and `layers`",
        )
