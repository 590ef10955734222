"""The rules of a layer that hold between its keys, and what is said about a type that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from netspec import catalog
from netspec.diagnostics import Diagnostic, Label, Span
from netspec.document import Mapping, Scalar, Sequence
from netspec.schema import words
from netspec.schema.structure import BODIES, STEERING, UNSUPPORTED
from netspec.suggest import suggest

_EXCLUDED: Final = {
    "use": {
        "initialize": "its weights start where the module was made",
        "freeze": "freeze it where the module was made",
        "inline": "there is no level to leave out",
    },
    "branches": {"each": "it belongs on a layer that is applied to every tensor of a list"},
    "each": {"from": "`each` names the list that is read"},
    "compute": {
        "each": "`compute` names its tensors itself",
        "from": "`compute` names its tensors itself",
        "initialize": "arithmetic has no weights",
        "freeze": "arithmetic has no weights",
        "inline": "there is no level to leave out",
    },
}
"""The keys that say nothing beside `use` and `compute`, and why."""

_COMPUTED: Final = {
    "shape": "it is that of what the layers give",
    "dtype": "it is that of what the layers give",
    "initialize": "the layers say how it starts",
}
"""The keys that say nothing on a `Buffer` with `layers`, and why."""

_PREFIXES: Final = ("torch.nn.functional.", "torch.nn.", "torch.Tensor.", "torch.", "nn.functional.", "nn.", "F.")
_MODULE_OF: Final = {"interpolate": "Upsample"}
"""Functions whose module has another name; the others differ by case and `_` alone."""


def has_body(node: Mapping) -> bool:
    return any(key in node.items for key in BODIES)


def contradiction(node: Mapping) -> Diagnostic | None:
    """Two keys of a layer that cannot stand together."""
    spans = node.key_spans
    bodies = [key for key in BODIES if key in node.items]
    type_node = node.items.get("type")
    if bodies == ["type", "layers"] and isinstance(type_node, Scalar) and type_node.value == "Buffer":
        bodies = ["type"]
    bodies.sort(key=lambda key: spans[key])
    if len(bodies) > 1:
        return _both(node, bodies[0], bodies[1], "keep one of them: each says what the layer is")
    if "for" in node.items and "repeat" in node.items:
        first, second = sorted(("for", "repeat"), key=lambda key: spans[key])
        return _both(node, first, second, "keep `for`; `repeat` is a `for` without a name")
    if "of" in node.items and "select" not in node.items:
        return _beside(
            node, "of", "a layer", "`of` lists what `select` chooses from", "add `select:`, or leave `of` out"
        )
    if "select" in node.items and "of" not in node.items:
        return _beside(
            node, "select", "a layer", "`of` lists what it chooses from", "add `of: {relu: ReLU, gelu: GELU}`"
        )
    if "grad" in node.items and "use" not in node.items:
        return _beside(
            node, "grad", "a layer", "it says of a module that `use` applies whether it gets a gradient", "leave it out"
        )
    if bodies == ["type"] and "layers" in node.items:
        for key in _COMPUTED.keys() & node.items.keys():
            return _both(node, "layers", key, f"leave `{key}` out: {_COMPUTED[key]}")
    for body, excluded in _EXCLUDED.items():
        for key in excluded.keys() & node.items.keys() if body in node.items else ():
            return _both(node, body, key, f"leave `{key}` out: {excluded[key]}")
    entry = catalog.lookup(str(_text(node, "type"))) if "type" in node.items else None
    if "replace" in node.items and (entry is not None or "type" not in node.items) and not _is_model(entry):
        return _beside(
            node,
            "replace",
            f"`{entry.name}`" if entry is not None else "a layer",
            "it stands on a library's model used whole",
            "leave it out; only a model such as `torchvision.resnet18` has children that a spec cannot name otherwise",
        )
    if "inline" in node.items and "type" in node.items and catalog.lookup(str(_text(node, "type"))) is not None:
        return _both(
            node, "type", "inline", "leave `inline` out: it is for groups and blocks, whose layers join the parent"
        )
    return None


def _is_model(entry: catalog.Entry | None) -> bool:
    return entry is not None and entry.category == "model"


def _text(node: Mapping, key: str) -> object:
    value = node.items[key]
    return value.value if isinstance(value, Scalar) else None


def _both(node: Mapping, first: str, second: str, help: str) -> Diagnostic:
    return Diagnostic(
        code=words.CONTRADICTION,
        message=f"`{first}` and `{second}` cannot stand on one layer",
        span=node.key_spans[second],
        labels=(Label(node.key_spans[first], f"`{first}` stands here"),),
        help=help,
    )


def _beside(node: Mapping, key: str, subject: str, why: str, help: str) -> Diagnostic:
    return Diagnostic(
        code=words.CONTRADICTION, message=f"{subject} has `{key}` alone: {why}", span=node.key_spans[key], help=help
    )


def no_body(node: Mapping, title: str, span: Span) -> Diagnostic:
    """A layer of which nothing says what it is; maybe the key that does is misspelt."""
    for key in node.items:
        meant = suggest(key, BODIES)
        if meant and meant != key:
            return Diagnostic(
                code=words.UNKNOWN_KEY,
                message=f"unknown key `{key}` in a layer",
                span=node.key_spans[key],
                help=f"did you mean `{meant}`?",
            )
    named = next(iter(node.items), None) if len(node.items) == 1 else None
    if (
        title.startswith("item ")
        and named is not None
        and (isinstance(node.items[named], Mapping) or catalog.lookup(str(_text(node, named))))
    ):
        return Diagnostic(
            code=words.NO_BODY,
            message=f"nothing says what {title} is: a layer in a list has no name",
            span=span,
            help=f"leave the dash before `{named}` out, and those beside it; or leave the name out: `- {{type: …}}`",
        )
    return Diagnostic(
        code=words.NO_BODY,
        message=f"nothing says what {title} is",
        span=span,
        help="add `type` (a layer or a block), `layers`, `branches`, `select`, `use` or `compute`",
    )


def nothing_kept(node: Mapping, title: str, span: Span) -> Diagnostic | None:
    """A `Buffer` of which nothing says what it holds."""
    if "shape" in node.items or "layers" in node.items:
        return None
    return Diagnostic(
        code=words.MISSING_ARGUMENT,
        message=f"{title}: `Buffer` needs `shape` or `layers`",
        span=span,
        help="add `shape: …` for a tensor of a size, or `layers: …` that compute one",
    )


def owner_without_type(node: Mapping, title: str, span: Span) -> words.Owner:
    """Whose keys those of a layer without a type are: it has no arguments, and `use` and `compute` allow few keys."""
    body = next(key for key in BODIES if key in node.items)
    excluded = {"replace", *(() if body == "select" else ("of",)), *BODIES, *_EXCLUDED.get(body, ())}
    known = tuple(key for key in STEERING if key not in excluded and f"layer.{key}" not in UNSUPPORTED)
    subject = f"a layer with `{body}`, which takes no arguments"
    return words.Owner(subject=subject, title=title, span=span, known=(body, *known))


def single_layer(node: Mapping, title: str) -> Diagnostic | None:
    """`layers: {type: ReLU}`: the layer itself, where layers by name belong."""
    if not isinstance(node.items.get("type"), Scalar):
        return None
    return Diagnostic(
        code=words.WRONG_TYPE,
        message=f"{title} takes a list or a mapping of layers, and got one layer",
        span=node.key_spans["type"],
        help="give the layer a name, and write it under that: `conv: {type: …}`",
    )


def compute_in_list(node: Mapping) -> Diagnostic:
    return Diagnostic(
        code=words.FUNCTION_IN_LIST,
        message="`compute` is no module, and a list holds modules only",
        span=node.key_spans["compute"],
        help="write the layers as a mapping from names to layers, where arithmetic may stand",
    )


def function_in_list(name: str, span: Span) -> Diagnostic:
    """A function where only modules stand, with the module that does the same."""
    module = module_for(name)
    return Diagnostic(
        code=words.FUNCTION_IN_LIST,
        message=f"`{name}` is a function, and a list holds modules only",
        span=span,
        help=f"write `{module}`, the module for it"
        if module
        else "write the layers as a mapping from names to layers, where functions may stand",
    )


def module_for(function: str) -> str | None:
    """The layer that does what the function does: `relu` → `ReLU`, `max_pool2d` → `MaxPool2d`."""
    if function in _MODULE_OF:
        return _MODULE_OF[function]
    bare = function.replace("_", "").casefold()
    return next((name for name in catalog.names("layer") if name.casefold() == bare), None)


def is_unsupported_type(name: str) -> bool:
    """Whether the type is one of the language's that this version cannot build yet."""
    return f"type.{name}" in UNSUPPORTED


def unknown_type(node: Scalar, types: Iterable[str]) -> Diagnostic:
    """A type that is neither in the catalog nor among the blocks."""
    name = str(node.value)
    bare = next((name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix)), name)
    left_out, models = catalog.instead(bare), catalog.names("model")
    meant = None if left_out else suggest(bare, types) or suggest(name, models if "." in name else [])
    if meant is None and f"torchvision.{name}" in models:
        meant = f"torchvision.{name}"
    call = called(bare)
    return Diagnostic(
        code=words.UNKNOWN_TYPE,
        message=f"there is no layer, function or block `{name}`",
        span=node.span,
        help=call
        if call
        else left_out
        if left_out
        else f"did you mean `{meant}`?"
        if meant
        else f"define `{name}` under `blocks`, or take a layer of torch.nn by its own name"
        if "." not in bare
        else f"a spec imports nothing: define `{name}` under `blocks`, or enable the plugin that has it (`--plugin`)",
    )


def called(text: str) -> str | None:
    """How a layer is written that stands as a call, `Conv2d(3, 64, 3, padding=1)`; None for anything else."""
    found = re.fullmatch(r"([\w.]+)\((.*)\)", text.strip(), re.DOTALL)
    if found is None:
        return None
    entry = catalog.lookup(found[1].rpartition(".")[2])
    if entry is None:
        return f"a layer is no call: its arguments stand beside its type, `{{type: {found[1]}, …}}`"
    stated: list[str] = []
    known = [argument.name for argument in entry.arguments]
    for place, part in enumerate(_parts(found[2])):
        key, equals, value = part.partition("=")
        if not equals:
            key, value = known[place] if place < len(known) else "…", part
        argument = entry.argument(key.strip())
        if argument is None or not argument.inferred:
            stated.append(f"{key.strip()}: {_AS_YAML.get(value.strip(), value.strip().translate(_LISTS))}")
    whole = f"{{type: {', '.join([entry.name, *stated])}}}" if stated else entry.name
    return f"a layer is no call, and its arguments have names: `{whole}`"


_AS_YAML: Final = {"True": "true", "False": "false", "None": "null"}
_LISTS: Final = str.maketrans("()", "[]")


def _parts(text: str) -> list[str]:
    """What commas part, those in brackets apart."""
    found, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth:
            found.append("")
        else:
            found[-1] += character
    return [part.strip() for part in found if part.strip()]


def names_bound(node: Mapping) -> frozenset[str]:
    """The names of values that a document, a block or a loop adds to what its layers may use."""
    found: set[str] = set()
    for key in ("params", "let", "for"):
        inside = node.items.get(key)
        if isinstance(inside, Mapping):
            found.update(inside.items)
    inputs = node.items.get("inputs")
    for shape in inputs.items.values() if isinstance(inputs, Mapping) else ():
        sizes = shape.items.get("shape", shape.items.get("list")) if isinstance(shape, Mapping) else shape
        waiting = list(sizes.items) if isinstance(sizes, Sequence) else []
        while waiting:
            size = waiting.pop()
            if isinstance(size, Sequence):
                waiting += size.items
            elif isinstance(size, Scalar) and str(size.value).isidentifier() and size.value != "_":
                found.add(str(size.value))
    return frozenset(found)
