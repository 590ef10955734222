"""Whose fault it was: from the traceback of a run to the layer, the loss or the section of the spec that failed.

Modules are found by identity among the model's `named_modules`, so a nested one is named exactly (`features.3`). What
`forward` computes without a module comes from the source map of emitted code, or from what the live module was at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from netspec.codegen import Place
from netspec.diagnostics import Label, Span
from netspec.program import Apply, Arithmetic, Call, Instance, Node, Program, Reuse, walk
from netspec.runtime import frames, graph
from netspec.runtime.load import SOURCE
from netspec.shapes import TensorType

MOST_LABELS: Final = 4
_LISTED: Final = re.compile(r'^ *File "(.+)", line (\d+), in forward$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Blame:
    """Who failed, in words; where that stands in the spec; what it got; what else in the spec explains it."""

    who: str
    span: Span | None
    got: tuple[str, ...] = ()
    wanted: str = ""
    """The shape that the spec infers, where it is another."""
    labels: tuple[Label, ...] = ()
    layer: bool = False
    """Whether it is a layer of the model, or its loss: then a failure is one of the spec, whatever its words."""


def blame(stack: list[frames.Call], program: Program, model: nn.Module | None, message: str = "") -> Blame | None:
    """Who failed, by the innermost frame that tells; None where no part of the spec had a share in it.

    `message` is the exception's: torch.compile tells there which lines it was at, since it runs none of their frames.
    """
    in_model = _layer(stack, program, model, message) if model is not None else None
    if in_model is not None:
        return in_model
    return _section(stack, program)


def moment(stack: list[frames.Call]) -> str:
    """When it was, `epoch 1, batch 3 of 20`; empty where that says nothing."""
    for call in stack:
        values = call.frame.f_locals
        if call.home == "netspec.runtime.loop" and call.frame.f_code.co_name == "fit" and "progress" in values:
            progress, total = values["progress"], values.get("total", 0)
            if any(one.frame.f_code.co_name == "evaluate" for one in stack):
                return f"evaluation after {progress.step} steps"
            return f"epoch {progress.epoch + 1}, batch {min(progress.batch + 1, total)} of {total}"
    return ""


# The model


def _layer(stack: list[frames.Call], program: Program, model: nn.Module, message: str) -> Blame | None:
    paths: dict[int, str] = {}
    for path, module in model.named_modules():
        paths.setdefault(id(module), path.removeprefix("_orig_mod.").removeprefix("_orig_mod"))
    inner = next((call for call in reversed(stack) if id(call.module) in paths), None)
    if inner is None or inner.module is None:
        return None
    module, path = inner.module, paths[id(inner.module)]
    given = frames.arguments(stack, module)
    uses = [(part, node) for part, node in _along(program.model, path)]
    inside = _written(inner, stack, program, path, uses) or (None if path else _compiled(message, program))
    got: tuple[str, ...]
    node: Node | None
    if inside is not None:
        path, node, values = inside
        got, kind, wanted = tuple(frames.described(values)), _kind(node), ""
        if not any(part == path for part, _ in uses):
            uses.append((path, node))
    else:
        node = uses[-1][1] if uses and uses[-1][0] == path else None
        got, kind = tuple(frames.described(given)), _kind(node) if node is not None else type(module).__name__
        wanted = _wanted(node, given) if node is not None else ""
    labels = [*_uses(uses), *_inputs(stack, program, model)]
    span = uses[-1][1].layer.span if uses else program.model.block.span
    who = f"layer `{path}` ({kind})" if path else f"the model {program.name}"
    return Blame(who, span, got, wanted, tuple(label for label in labels if label.span != span), layer=True)


def _along(instance: Instance, path: str) -> Iterator[tuple[str, Node]]:
    """The nodes from the model down to a module, with their paths, as far as the spec knows of it."""
    done: list[str] = []
    for key in path.split("."):
        node = instance.children.get(key)
        if node is None:
            return
        done.append(key)
        yield ".".join(done), node
        if not isinstance(node.op, Apply):
            return
        instance = node.op.instance


def _written(
    inner: frames.Call, stack: list[frames.Call], program: Program, path: str, uses: list[tuple[str, Node]]
) -> tuple[str, Node, dict[str, Any]] | None:
    """The layer without a module that a block was at, with its path and the tensors that it read."""
    instance = program.model
    if uses:
        op = uses[-1][1].op
        if uses[-1][0] != path or not isinstance(op, Apply):
            return None
        instance = op.instance
    elif path:
        return None
    prefix = f"{path}." if path else ""
    below = {id(node): prefix + name for name, node in walk(instance)}
    live = [call for call in stack if call.home == graph.__name__ and isinstance(call.frame.f_locals.get("node"), Node)]
    if live and live[-1].module is inner.module:
        node, get = live[-1].frame.f_locals["node"], live[-1].frame.f_locals["values"].get
        if id(node) not in below:
            return None
        refs = list(node.inputs)
        names = [ref.name if ref.node is None else ref.node.name for ref in refs]
        return below[id(node)], node, {name: get(ref) for name, ref in zip(names, refs, strict=True)}
    by_path = {where: node for where, node in walk(instance, prefix)}
    for where in _paths(_mapped(inner, program), by_path):
        return where, by_path[where], frames.read_names(inner)
    return None


def _paths(written: Place | None, known: Mapping[str, Node]) -> list[str]:
    return [where for where in written.paths if where in known] if written is not None else []


def _compiled(message: str, program: Program) -> tuple[str, Node, dict[str, Any]] | None:
    """The innermost layer that torch.compile was translating, by the lines that its message lists from outside in."""
    nodes = dict(walk(program.model))
    found = ""
    for file, line in _LISTED.findall(message):
        below = [where for where in _paths(_place_in(file, int(line), program), nodes) if where.startswith(found)]
        found = next(iter(below), found)
    return (found, nodes[found], {}) if found else None


def _mapped(call: frames.Call, program: Program) -> Place | None:
    """The layers that the failing part of a line of emitted code was written from."""
    if call.line is None:
        return None
    end = call.end_column if call.end_line == call.line else None
    return _place_in(call.frame.f_code.co_filename, call.line, program, call.column, end)


def _place_in(file: str, line: int, program: Program, start: int | None = None, end: int | None = None) -> Place | None:
    """The innermost place around these columns of a line (from 0), where the file is the program's source."""
    from netspec.codegen import emit_with_map, generated_from

    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    if generated_from(text) is None:
        return None
    source, map_ = emit_with_map(program)
    if text.splitlines()[2:] != source.splitlines()[2:]:  # the first two name the spec
        return None
    places = [place for place in map_.places.get(line, ()) if place.paths]
    around = [p for p in places if start is None or (p.column <= start + 1 and (end or 0) < p.end_column)]
    return (around or places)[-1] if places else None


def _kind(node: Node) -> str:
    op = node.op.target.op if isinstance(node.op, Reuse) else node.op
    if isinstance(op, Call):
        return op.entry.name
    if isinstance(op, Apply):
        return "group" if op.instance.group else op.instance.block.name
    return "compute" if isinstance(op, Arithmetic) else "Identity"


def _wanted(node: Node, given: dict[str, Any]) -> str:
    """The shape that the spec infers for a layer's first input, where it got another."""
    ref = next(node.inputs, None)
    tensor = next((value for value in given.values() if isinstance(value, Tensor)), None)
    if ref is None or tensor is None or not isinstance(ref.type, TensorType) or _fits(ref.type, tensor):
        return ""
    return str(ref.type)


def _fits(type_: TensorType, tensor: Tensor) -> bool:
    return len(type_.shape) == tensor.dim() and all(
        not isinstance(size, int) or size == actual for size, actual in zip(type_.shape, tensor.shape, strict=True)
    )


def _uses(uses: list[tuple[str, Node]]) -> Iterator[Label]:
    """Where the blocks are used in which the layer stands."""
    for path, node in uses[:-1]:
        if isinstance(node.op, Apply) and not node.op.instance.group:
            yield Label(node.layer.span, f"`{path}` is this {node.op.instance.block.name}")


def _inputs(stack: list[frames.Call], program: Program, model: nn.Module) -> Iterator[Label]:
    """The model's inputs that are not as the spec declares them."""
    given = list(frames.arguments(stack, model).values())
    declared = {one.name: one for one in program.model.block.inputs}
    for (name, type_), value in zip(program.inputs.items(), given, strict=False):
        if name not in declared or not isinstance(value, Tensor) or not isinstance(type_, TensorType):
            continue
        if not _fits(type_, value):
            yield Label(declared[name].span, f"the spec says {type_}, and it got {list(value.shape)}")
        elif (dtype := str(value.dtype).removeprefix("torch.")) != type_.dtype:
            yield Label(declared[name].span, f"the spec says {type_.dtype}, and it got {dtype}")


def place(program: Program, path: str) -> tuple[Span | None, tuple[Label, ...]]:
    """Where the layer at a path stands in the spec, and where the blocks are used that it stands in."""
    uses = list(_along(program.model, path))
    return (uses[-1][1].layer.span, tuple(_uses(uses))) if uses else (None, ())


def source_place(program: Program) -> Span | None:
    """Where the data come from, where all splits have one source; else the section."""
    data: Any = getattr(program.document, "items", {}).get("data")
    sources = [found for found in _sources(data) if found is not None]
    return sources[0].span if len(sources) == 1 else _span(program, "data")


def _sources(data: Any) -> Iterator[Any]:
    """The sources that a `data` section states: one for all splits, or each its own."""
    for key in (None, "train", "val", "test"):
        part = data if key is None else getattr(data, "items", {}).get(key)
        yield getattr(part, "items", {}).get("source") if isinstance(getattr(part, "items", None), dict) else None


def overwriting(program: Program) -> list[Label]:
    """The layers that write over their input, which a gradient may need."""
    found: dict[Span, Label] = {}
    for path, node in walk(program.model):
        if isinstance(node.op, Call) and "inplace" in node.op.arguments and node.op.arguments["inplace"].value:
            found.setdefault(node.layer.span, Label(node.layer.span, f"`{path}` writes over its input"))
    return list(found.values())[:MOST_LABELS]


# Everything around the model


def _section(stack: list[frames.Call], program: Program) -> Blame | None:
    for call in reversed(stack):
        name, values = call.frame.f_code.co_name, call.frame.f_locals
        if call.home == "netspec.runtime.objective" and name == "loss" and "self" in values:
            term = values["term"] if "term" in values else values["self"].terms[0]
            got = _loss_inputs(stack, values, term.loss)
            return Blame(
                f"the loss {type(term.loss).__name__}", _span(program, "train", "loss", term.name), got, layer=True
            )
        if call.home == "netspec.runtime.metrics" and name == "update" and "prediction" in values:
            got = tuple(frames.described({key: values.get(key) for key in ("prediction", "target")}))
            who = f"the metric {type(values['self']).__name__}"
            return Blame(who, _span(program, "train", "metrics"), got, layer=True)
        if name == "__init__" and call.home.startswith(SOURCE) and (made := _mapped(call, program)) is not None:
            return Blame(f"layer `{made.paths[0]}`", made.span, layer=True)
        if call.home.startswith("torch.optim"):
            return Blame("the optimizer", _span(program, "train", "optimizer"))
        if call.home.startswith("torch") and name == "backward":
            return Blame("the backward pass", _span(program, "train", "loss"))
        if call.home.startswith("netspec.runtime.data"):
            return Blame("the data", _span(program, "data"))
    return None


def _loss_inputs(stack: list[frames.Call], values: dict[str, Any], loss: Any) -> tuple[str, ...]:
    batch, outputs = values.get("batch"), values.get("outputs")
    if isinstance(loss, nn.Module) and (given := frames.arguments(stack, loss)):
        return tuple(frames.described(given))
    return tuple(frames.described({"output": outputs, **(batch or {})}))


def _span(program: Program, *keys: str) -> Span | None:
    """Where a key of the document stands; where it is not stated, the last one before it that is."""
    node: Any = program.document
    span: Span | None = None
    for key in keys:
        items = getattr(node, "items", None)
        if not isinstance(items, dict) or key not in items:
            return span
        span, node = node.key_spans.get(key), items[key]
    return span
