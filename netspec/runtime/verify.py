"""Proof that both doors give the same model: keys, weights from one seed, outputs, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from netspec.catalog.entry import TypeLike
from netspec.choices import choices
from netspec.codegen import model_classes
from netspec.program import Program
from netspec.runtime.load import import_source, model_class
from netspec.shapes import Dim, ListType, TensorType, symbols

SYMBOL_SIZE = 2
"""What a symbolic size becomes in the tensors that the doors are compared on."""
LARGER_SIZES = (32, 128)
"""What the sizes other than the batch become in turn, where the model needs larger ones: it halves them often."""
LIST_LENGTH = 3
"""How many tensors a list gets whose length is not known."""


def _imported(program: Program) -> ModuleType:
    """The program's own emitted source as a module."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "model.py")
        file.write_text(program.source(), encoding="utf-8")
        return import_source(file)


def emitted_class(program: Program) -> type[nn.Module]:
    """The model's class, imported from the program's own emitted source."""
    return model_class(_imported(program))


def emitted_module(program: Program, seed: int | None = None) -> nn.Module:
    """The model from the program's own emitted source, its weights drawn from `seed`; several in an `nn.ModuleDict`."""
    source = _imported(program)
    if seed is None:
        return _made(program, source)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _made(program, source)


def _made(program: Program, source: ModuleType) -> nn.Module:
    if not program.several:
        return model_class(source)()
    return nn.ModuleDict({name: getattr(source, made)() for name, made in model_classes(program).items()})


def example_inputs(program: Program, seed: int = 0, turn: int = 0, larger: int = SYMBOL_SIZE) -> list[Any]:
    """Tensors that the model takes, the batch as `SYMBOL_SIZE`, other symbolic sizes as `larger`; integers are small,
    as indices have to be.

    A text is one of those that its `select` has; with every `turn` the next.
    """
    generator = torch.Generator().manual_seed(seed)
    texts, sizes = choices(program.model), _sizes(program, larger)
    return [
        texts[name][turn % len(texts[name])] if texts.get(name) else _example(type_, generator, sizes)
        for name, type_ in program.inputs.items()
    ]


def _sizes(program: Program, larger: int) -> dict[str, int]:
    """What each symbol of the inputs becomes; the first is the batch."""
    shapes = [one.shape for type_ in program.inputs.values() for one in _tensors(type_)]
    found = [symbol for shape in shapes for size in shape for symbol in sorted(symbols(size))]
    return {**dict.fromkeys(found, larger), **dict.fromkeys(found[:1], SYMBOL_SIZE)}


def _tensors(type_: TypeLike) -> list[TensorType]:
    """The tensors of an input: its own, or those of a list."""
    if isinstance(type_, ListType):
        return [one for part in ([type_.element] if type_.element else type_.items) for one in _tensors(part)]
    return [type_]


def _example(type_: TypeLike, generator: torch.Generator, sizes: Mapping[str, int]) -> Any:
    if isinstance(type_, ListType):
        if type_.element is None:
            return [_example(item, generator, sizes) for item in type_.items]
        # Of a list of unknown length there are some, and each has its own sizes.
        return [
            _example(type_.element, generator, {**sizes, **{s: sizes.get(s, SYMBOL_SIZE) + i for s in type_.own}})
            for i in range(LIST_LENGTH)
        ]
    if type_.is_text:
        return ""
    shape = [_size(size, sizes) for size in type_.shape]
    dtype = getattr(torch, type_.dtype)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 2, shape, generator=generator).to(dtype)


def _size(size: Any, sizes: Mapping[str, int]) -> int:
    if not isinstance(size, Dim):
        return int(size)
    found = size.substitute({symbol: sizes.get(symbol, SYMBOL_SIZE) for symbol in size.symbols})
    assert isinstance(found, int)
    return found


def verify(program: Program, seed: int = 0) -> list[str]:
    """What differs between the two doors, in words; empty where nothing does."""
    live, written = program.module(seed), emitted_module(program, seed)
    problems: list[str] = []
    a, b = live.state_dict(), written.state_dict()
    if list(a) != list(b):
        only_a, only_b = [k for k in a if k not in b], [k for k in b if k not in a]
        detail = f"only live: {only_a}, only emitted: {only_b}" if only_a or only_b else "their order differs"
        return [f"state_dict keys differ: {detail}"]
    problems += [f"weights of {key} differ" for key in a if not same(a[key], b[key])]
    for name, part in program.parts.items():
        found = _compare(part, live.get_submodule(name), written.get_submodule(name), seed)
        problems += [f"{name}: {problem}" for problem in found]
    return problems if program.several else [*problems, *_compare(program, live, written, seed)]


def _compare(program: Program, live: nn.Module, written: nn.Module, seed: int) -> list[str]:
    """What differs between the outputs of one model through both doors; with each text that chooses a module."""
    turns = max((len(texts) for texts in choices(program.model).values()), default=1)
    larger, failure = _room(program, live, seed)
    if failure:
        return [f"no example could be run: {failure}"]
    return [
        problem
        for turn in range(turns)
        for problem in _compare_on(program, live, written, seed, example_inputs(program, seed, turn, larger), larger)
    ]


def _room(program: Program, live: nn.Module, seed: int) -> tuple[int, str]:
    """The smallest sizes that the model runs with, for it may halve images often; else also why it does not run."""
    failure = ""
    live.eval()
    for larger in (SYMBOL_SIZE, *LARGER_SIZES):
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                live(*example_inputs(program, seed, 0, larger))
        except (RuntimeError, ValueError) as error:
            failure = str(error)
        else:
            return larger, ""
    return SYMBOL_SIZE, failure


def _compare_on(
    program: Program, live: nn.Module, written: nn.Module, seed: int, inputs: list[Any], larger: int
) -> list[str]:
    """What differs between the outputs for these inputs."""
    problems: list[str] = []
    live.eval()
    written.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # some draw random numbers in evaluation too (`randn`)
        first = live(*inputs)
        torch.manual_seed(seed)
        second = written(*inputs)
    if not same(first, second):
        problems.append("outputs in eval mode differ")
    live.train()
    written.train()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = _trained(live, inputs)
        torch.manual_seed(seed)
        second = _trained(written, inputs)
    if type(first) is not type(second) if isinstance(first, str) else not same(first, second):
        problems.append("outputs in train mode differ")
    problems += _declared(program, live, inputs, _sizes(program, larger))
    return problems


def _trained(module: nn.Module, inputs: list[Any]) -> Any:
    """The output in train mode; where the example is too small for it (BatchNorm over one value), the error's text."""
    try:
        return module(*inputs)
    except ValueError as error:
        return str(error)


def same(a: Any, b: Any) -> bool:
    """Bit-equal tensors, or lists and tuples of them."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def _declared(program: Program, live: nn.Module, inputs: list[Any], sizes: Mapping[str, int]) -> list[str]:
    """Where the inferred output types are not what the model gives."""
    live.eval()
    with torch.no_grad():
        given = live(*inputs)
    outputs = (given,) if len(program.outputs) == 1 else given
    problems = []
    for (name, type_), value in zip(program.outputs.items(), outputs, strict=True):
        types = type_.members if isinstance(type_, ListType) else (type_,)
        tensors = value if isinstance(type_, ListType) else (value,)
        if isinstance(type_, ListType) and type_.element is None and len(tensors) != len(types):
            problems.append(f"`{name}` was inferred as a {type_}, and is a list of {len(tensors)}")
        for one, tensor in zip(types, tensors, strict=False):
            if tensor is None or any("(" in symbol or "[" in symbol for symbol in symbols(one.shape)):
                continue  # it does not run, or depends on how long a list is
            shape = tuple(_size(size, sizes) for size in one.shape)
            if tuple(tensor.shape) != shape or tensor.dtype != getattr(torch, one.dtype):
                problems.append(
                    f"`{name}` was inferred as {one} {one.dtype}, and is {tuple(tensor.shape)} {tensor.dtype}"
                )
    return problems
