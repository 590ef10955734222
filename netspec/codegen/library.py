"""A library's model as one writes it: its builder's call, the weights of a file, what is replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from netspec.codegen.literals import string
from netspec.codegen.writer import Rows
from netspec.program import Call
from netspec.spec import Layer

if TYPE_CHECKING:
    from netspec.codegen.constructor import Constructor


def library_model(
    writer: Constructor, layer: Layer, rows: Rows, put: Callable[[str], None], target: str | None
) -> None:
    """Write the model: `put` receives its expression; one that takes statements is built on `target`, or a variable."""
    text, file = writer.call(layer, rows), writer.weights_file(layer, rows)
    if file is None and not layer.replace:
        put(text)
        return
    name = target or writer.variable(layer)
    if target is None:
        writer.say(f"{name} = {text}")
    else:
        put(text)
    if file is not None:
        writer.say(f"{name}.load_state_dict({_reading(writer, file)})")
    for path in layer.replace:
        made = [node.op.whole.replaced[path] for node in rows if isinstance(node.op, Call) and node.op.whole]
        child = child_text(name, path)
        found: list[str] = []
        writer.module(made[0].layer, made, found.append, None)
        if child is not None:
            writer.say(f"{child} = {found[0]}")
        else:
            writer.say(f"{name}.set_submodule({string(path)}, {found[0]})")
        writer.after(made[0].layer, made, child or f"{name}.get_submodule({string(path)})")
    if target is None:
        put(name)


def _reading(writer: Constructor, file: str) -> str:
    """The call that reads a file of weights."""
    if file.endswith(".safetensors"):
        writer.classes.written_names.add("safetensors.torch.load_file")
        return f"load_file({string(file)})"
    writer.classes.imports.add("import torch")
    return f'torch.load({string(file)}, map_location="cpu", weights_only=True)'


def child_text(owner: str, path: str) -> str | None:
    """`backbone.classifier[1]`: a child as one writes it, or None where its path cannot be written so."""
    text = owner
    for part in path.split("."):
        if part.isdigit():
            text += f"[{part}]"
        elif part.isidentifier():
            text += f".{part}"
        else:
            return None
    return text
