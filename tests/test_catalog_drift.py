"""The catalog against the installed torch and torchvision: names, arguments, their order and defaults, and ports.

A failure names what the library adds, removes or changes. What only newer versions have is declared by `since` in the
catalog, so that the same tests hold with the oldest version that we support.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

import netspec
from netspec import catalog
from netspec.catalog import REQUIRED, Argument, Entry
from netspec.catalog.left_out import MODULES as LEFT_OUT
from netspec.catalog.left_out import OPERATIONS
from netspec.catalog.versions import Version, version

ENTRIES = [e for e in map(catalog.lookup, catalog.names()) if e is not None]
INITIALIZERS = [e for e in (catalog.lookup(n, "initializer") for n in catalog.names("initializer")) if e is not None]
OURS = [entry for entry in ENTRIES + INITIALIZERS if entry.category != "weight"]
"""A `Parameter` takes a shape here, where torch's takes a tensor: its words are ours."""
MODULES = [entry for entry in ENTRIES if entry.target.rpartition(".")[2][0].isupper() and entry.category != "weight"]


Signature = list[tuple[str, Any]]

UNSTATED = {
    "device",
    "layout",
    "requires_grad",
    "pin_memory",
    "out",
    "generator",
    "size_average",
    "reduce",
    "training",
    "self",
    "tensor",
    "memory_format",
}
"""What no spec states: where tensors are, what torch deprecates, what both doors fill in."""
ABSENT = {
    "Hardtanh": {"min_value", "max_value"},
    "add": {"alpha"},
    "sub": {"alpha"},
    "searchsorted": {"side", "sorter"},
    "diff": {"prepend", "append"},
    "embedding": {"max_norm", "norm_type", "scale_grad_by_freq", "sparse"},
    "repeat_interleave": {"output_size"},
    "scaled_dot_product_attention": {"enable_gqa"},
    "SyncBatchNorm": {"process_group"},
    "LinearCrossEntropyLoss": {"options"},
}
"""Arguments that torch has and the catalog leaves out: deprecated, of no use in a spec, or objects of Python."""
OVERLOADED = {"scatter": {"value"}}
"""Arguments of another form of the function than the one that torch tells of."""
OTHERWISE = {
    "Transformer": {"d_model"},
    "max": {"dim"},
    "min": {"dim"},
    "topk": {"dim"},
    "roll": {"dims"},
    "amax": {"dim"},
    "amin": {"dim"},
    "median": {"dim"},
    "nanmedian": {"dim"},
    "mode": {"dim"},
    "kthvalue": {"dim"},
    "take_along_dim": {"dim"},
    "one_hot": {"num_classes"},
}
"""Defaults that torch's docs tell otherwise than torch behaves, that are inferred here, or of no use to a rule."""
SILENT = {"to", "einsum", "broadcast_to"}
"""Entries of whose arguments torch says `*args`, or that it takes by another name than its docs say."""


OLDER = {
    "expand": {"sizes": "size"},
    **{name: {"out_dtype": ""} for name in ("mm", "addmm", "bmm", "baddbmm")},
}
"""What docs of older versions call otherwise, or tell of an overload that the newest do not tell of."""

INSTALLED = {"torch": version(torch.__version__), "torchvision": version(torchvision.__version__)}


def too_new(thing: Entry | Argument, entry: Entry, installed: Mapping[str, Version] = INSTALLED) -> bool:
    """Whether the installed library may be without it."""
    return bool(thing.since) and installed[entry.target.partition(".")[0]] < version(thing.since)


def resolve(target: str) -> Any:
    home, _, name = target.rpartition(".")
    return getattr(torch.Tensor if home == "torch.Tensor" else import_module(home), name)


HERE = [entry for entry in OURS if not too_new(entry, entry)]


def by_name(entry: Entry) -> str:
    return entry.name


def signature(entry: Entry) -> Signature | None:
    """(name, default) of each parameter, from Python's signature or the first line of the docs; None: neither."""
    target = resolve(entry.target)
    if entry.name in SILENT:
        return None
    if isinstance(target, type) and issubclass(target, nn.RNNBase):
        return recurrent(target.__name__)
    try:
        parameters = inspect.signature(target).parameters.values()
    except ValueError:
        return documented(target)
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return [] if isinstance(target, type) else None
    return [(p.name, REQUIRED if p.default is p.empty else p.default) for p in parameters]


def recurrent(name: str) -> Signature:
    """The arguments of RNN, LSTM and GRU stand in the class above them, and in the docs where they differ from it."""
    found = dict(
        (p.name, REQUIRED if p.default is p.empty else p.default)
        for p in inspect.signature(nn.RNNBase).parameters.values()
        if p.name not in ("mode", "proj_size")
    )
    ours = list(found.items())
    if name == "RNN":
        ours.insert(3, ("nonlinearity", "tanh"))
    return [*ours, ("proj_size", 0)] if name == "LSTM" else ours


def documented(target: Any) -> Signature | None:
    text = re.match(r"\s*(?:linalg\.)?(\w+\(.*?\)) ->", target.__doc__ or "", re.DOTALL)
    if text is None or "Optional[" in text[1]:
        return None
    # torch tells of overloads as one, which is no Python: `arange(start=0, end, step=1)`, `zeros(*size, *, out=None)`.
    signature = text[1].replace("\\*", "*")
    signature = signature.replace("start=0, end,", "start=0, end=REQUIRED,").replace("(*size, *,", "(size, *,")
    signature = signature.replace("low=0, high, size,", "low=0, high=REQUIRED, size=REQUIRED,")
    function = ast.parse(f"def {signature}: pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    given = function.args
    starred = [given.vararg] if given.vararg else []
    plain = [*given.args, *starred]
    required = [isinstance(d, ast.Name) and d.id == "REQUIRED" for d in given.defaults]
    defaults = [REQUIRED] * (len(plain) - len(given.defaults)) + [
        REQUIRED if missing else literal(d) for d, missing in zip(given.defaults, required, strict=True)
    ]
    named = [
        (a.arg, REQUIRED if d is None else literal(d)) for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True)
    ]
    return [*zip([a.arg for a in plain], defaults, strict=True), *named]


def literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def differences(entry: Entry, theirs: Signature, installed: Mapping[str, Version] = INSTALLED) -> list[str]:
    """What the library says otherwise than the catalog, each in a sentence."""
    left_out = UNSTATED - {argument.name for argument in entry.arguments} | ABSENT.get(entry.name, set())
    if entry.argument("dtype") is None:
        left_out |= {"dtype"}
    ports = {port.name for port in entry.inputs} | set(entry.tensors) if entry.category == "function" else set()
    more = OVERLOADED.get(entry.name, set())
    new = {argument.name for argument in entry.arguments if too_new(argument, entry, installed)}
    older = OLDER.get(entry.name, {})
    theirs = [(older.get(n, n), d) for n, d in theirs]
    told = {n: d for n, d in theirs if n and n not in left_out | ports | new and not n.startswith("_")}
    ours = {a.name: a.default for a in entry.arguments if not a.call and a.name not in new | more}
    here = f"{entry.name} ({entry.target})"
    found = [f"{here} has a new argument `{name}`" for name in told if name not in ours]
    found += [f"{here} has no argument `{name}` any more" for name in ours if name not in told]
    if not found and list(told) != list(ours):
        found.append(f"{here} has its arguments in another order: {', '.join(told)}; the catalog: {', '.join(ours)}")
    for name in told.keys() & ours.keys() - OTHERWISE.get(entry.name, set()):
        if not same_default(told[name], ours[name]):
            found.append(f"{here} has {told[name]!r} as default of `{name}`; the catalog: {ours[name]!r}")
    return sorted(found)


def same_default(theirs: Any, ours: Any) -> bool:
    """Whether two defaults are the same; a class and a function are told by their names."""
    if callable(theirs):
        return bool(theirs.__name__ == ours)
    return bool(theirs == ours)


TOLD = [entry for entry in HERE if signature(entry) is not None]


@pytest.mark.parametrize("entry", TOLD, ids=by_name)
def test_arguments_are_the_librarys(entry: Entry) -> None:
    found = differences(entry, signature(entry) or [])
    assert not found, "\n".join(found)


def test_most_signatures_are_told() -> None:
    silent = [entry.name for entry in HERE if signature(entry) is None]
    assert len(silent) < len(HERE) / 6, silent


def test_a_change_of_the_library_is_named() -> None:
    entry = catalog.lookup("GLU")
    assert entry is not None
    assert differences(entry, [("dim", -1)]) == []
    assert differences(entry, [("dim", 0), ("scale", 1)]) == [
        "GLU (torch.nn.GLU) has 0 as default of `dim`; the catalog: -1",
        "GLU (torch.nn.GLU) has a new argument `scale`",
    ]
    assert differences(entry, []) == ["GLU (torch.nn.GLU) has no argument `dim` any more"]


def test_older_versions_lack_what_is_declared() -> None:
    """Without the arguments that the oldest version has not, the catalog still agrees with it."""
    oldest = {"torch": (2, 11), "torchvision": (0, 26)}
    newer = [entry for entry in TOLD if any(argument.since for argument in entry.arguments)]
    assert newer
    for entry in newer:
        old = [(n, d) for n, d in signature(entry) or () if n not in {a.name for a in entry.arguments if a.since}]
        assert differences(entry, old, oldest) == []
        assert differences(entry, old, {"torch": (99,), "torchvision": (99,)}) != []


@pytest.mark.parametrize("entry", [entry for entry in MODULES if not too_new(entry, entry)], ids=by_name)
def test_ports_are_the_librarys(entry: Entry) -> None:
    """The tensors of a module are the parameters of its `forward`, those of a loss too."""
    taken = inspect.signature(resolve(entry.target).forward).parameters
    names = [p.rstrip("_") for p in taken if p != "self"]
    if entry.name.startswith("ConvTranspose"):
        names.remove("output_size")  # a size at run time
    if entry.name in ("RMSNorm", "PoissonNLLLoss"):
        names[0] = "input"  # `x` and `log_input` in torch; given by position
    in_call = {argument.name: argument.default for argument in entry.arguments if argument.call}
    assert in_call == {name: taken[name].default for name in in_call}
    assert list(entry.tensors) == [name for name in names if name not in in_call]


@pytest.mark.parametrize("entry", [entry for entry in MODULES if not too_new(entry, entry)], ids=by_name)
def test_ancestors_are_the_librarys(entry: Entry) -> None:
    target = resolve(entry.target)
    others = [other for other in MODULES if other is not entry and not too_new(other, other)]
    assert set(entry.ancestors) == {other.name for other in others if issubclass(target, resolve(other.target))}


def unheard_of(namespace: Any, wanted: Callable[[Any], bool]) -> list[str]:
    """What a library has that the catalog neither has nor leaves out with a reason."""
    theirs = {name for name, value in vars(namespace).items() if not name.startswith("_") and wanted(value)}
    return sorted(theirs - set(catalog.names()) - set(LEFT_OUT) - set(OPERATIONS))


def gone(namespace: Any, home: str) -> list[str]:
    """What the catalog has and the library has no more."""
    return [e.name for e in HERE if e.target.rpartition(".")[0] == home and not hasattr(namespace, e.name)]


def is_module(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module)


NAMESPACES = {"torch.nn": nn, "torchvision.ops": torchvision.ops}


@pytest.mark.parametrize("home", NAMESPACES)
def test_the_catalog_holds_every_module(home: str) -> None:
    new = unheard_of(NAMESPACES[home], is_module)
    assert not new, f"{home} has modules that are neither in the catalog nor in catalog/left_out.py: {', '.join(new)}"
    old = gone(NAMESPACES[home], home)
    assert not old, f"{home} has no {', '.join(old)} any more"


def test_a_new_module_is_named() -> None:
    namespace = SimpleNamespace(Conv2d=nn.Conv2d, Sequential=nn.Sequential, LinearAttention=type("A", (nn.Module,), {}))
    assert unheard_of(namespace, is_module) == ["LinearAttention"]
    assert "Linear" in gone(namespace, "torch.nn")


def test_what_is_left_out_is_torchs_and_not_in_the_catalog() -> None:
    assert not (set(LEFT_OUT) | set(OPERATIONS)) & set(catalog.names())
    assert all(is_module(getattr(nn, name)) for name in LEFT_OUT)
    homes = (torch, torch.Tensor, nn.functional, torch.fft, torchvision.ops)
    assert [name for name in OPERATIONS if not any(hasattr(home, name) for home in homes)] == []


def test_newer_entries_are_told_from_the_oldest_version() -> None:
    entry = catalog.lookup("Conv2d")
    assert entry is not None
    assert not too_new(entry, entry)
    assert too_new(replace(entry, since="2.12"), entry, {"torch": (2, 11)})
    assert not too_new(replace(entry, since="2.12"), entry, {"torch": (2, 12)})


def test_what_the_installed_library_lacks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netspec.catalog.versions.installed", {"torch": "2.11.0+cpu"}.get)
    layers = {
        "norm": {"type": "BatchNorm1d", "bias": False},
        "loss": {"type": "LinearCrossEntropyLoss", "num_classes": 3, "from": ["x", "label"]},
    }
    inputs = {"x": ["N", 8], "label": {"shape": ["N"], "dtype": "int64"}}
    with pytest.raises(netspec.SpecError) as caught:
        netspec.compile({"netspec": 1, "name": "old", "model": {"inputs": inputs, "layers": layers}})
    assert [(d.code, d.message) for d in caught.value.diagnostics] == [
        ("NS106", "`BatchNorm1d` of torch 2.11.0 has no argument `bias`"),
        ("NS105", "torch 2.11.0 has no `LinearCrossEntropyLoss`"),
    ]
