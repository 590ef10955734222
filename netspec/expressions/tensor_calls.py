"""A call of a tensor's method or of a torch function, as the layer that takes its place: help for what has no calls."""

from __future__ import annotations

import ast
from typing import Any, Final

from netspec.suggest import suggest

LIBRARIES: Final = ("torch", "F", "nn", "functional", "np", "jnp", "tf")
"""What stands before the dot where no tensor does."""
ALIASES: Final = {"view": "reshape", "permute_dims": "permute", "concat": "cat", "concatenate": "cat", "t": "transpose"}
"""What torch calls them too, and what the catalog does."""
LISTS: Final = ("sizes", "ints", "int|ints", "int|ints?")
"""Kinds of arguments that take all the numbers that follow."""


def layer_of(node: ast.Call) -> str | None:
    """The layer to write in place of a call, None where its name is none of the catalog's functions."""
    name, given = _called(node)
    if name is None:
        return None
    if name == "size":
        return _size(given[:1], node.args)
    from netspec.catalog import registry

    entry = registry.lookup(ALIASES.get(name, name), "function")
    if entry is None:
        near = suggest(name, registry.names("function"))
        return f"there is no layer `{name}`" + (f"; did you mean `{near}`?" if near else "")
    ports = len(entry.inputs)
    if ports == 1 and given and isinstance(given[0], ast.List | ast.Tuple):  # cat([a, b], 1)
        tensors, rest = list(given[0].elts), given[1:]
    else:
        tensors, rest = given[:ports], given[ports:]
    names = [ast.unparse(one) if isinstance(one, ast.Name) else "…" for one in tensors]
    stated = {"type": entry.name, "from": names[0] if len(names) == 1 else f"[{', '.join(names)}]"}
    arguments = [argument for argument in entry.arguments if argument.name != "dtype"]
    for index, argument in enumerate(arguments):
        if not rest:
            break
        takes_all = index == 0 and argument.kind in LISTS and not isinstance(rest[0], ast.List | ast.Tuple)
        if takes_all and (len(rest) > 1 or argument.kind in ("sizes", "ints")):
            stated[argument.name], rest = f"[{', '.join(map(ast.unparse, rest))}]", []
        else:
            stated[argument.name], rest = _written(rest[0]), rest[1:]
    stated |= {keyword.arg: _written(keyword.value) for keyword in node.keywords if keyword.arg}
    if entry.name == "transpose" and name == "t":
        stated |= {"dim0": "0", "dim1": "1"}
    layer = ", ".join(f"{key}: {text}" for key, text in stated.items())
    before = "; what stands for `…` needs a layer too" if "…" in names else ""
    return f"give it a layer of its own, `{{{layer}}}`, and name that layer here{before}"


def _called(node: ast.Call) -> tuple[str | None, list[ast.expr]]:
    """The name of a function, and what it is called with, the tensor of a method first."""
    if isinstance(node.func, ast.Name):
        return node.func.id, node.args
    if not isinstance(node.func, ast.Attribute):
        return None, []
    owner: Any = node.func.value
    while isinstance(owner, ast.Attribute):  # torch.nn.functional.relu
        owner = owner.value
    if isinstance(owner, ast.Name) and owner.id in LIBRARIES:
        return node.func.attr, node.args
    return node.func.attr, [node.func.value, *node.args]


def _size(given: list[ast.expr], args: list[ast.expr]) -> str:
    tensor = ast.unparse(given[0]) if given and isinstance(given[0], ast.Name) else "x"
    return f"the size of a tensor is `$(shape({tensor})[{ast.unparse(args[0]) if args else 0}])`"


def _written(node: ast.expr) -> str:
    """A value as YAML has it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        return str(node.value).lower()
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Tuple):
        return f"[{', '.join(map(ast.unparse, node.elts))}]"
    return ast.unparse(node)
