"""How a block that is no chain runs: layer by layer, in the order of its graph."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from contextlib import suppress
from copy import copy
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from netspec.expressions import evaluate
from netspec.origins import Opaque
from netspec.program import Apply, Argument, Arithmetic, Call, Gather, Instance, Node, Program, Ref, Reuse
from netspec.runtime import calls
from netspec.runtime.sizes import Sizes


class Graph(nn.Module):
    """A block whose layers are no plain chain: runs them in the order of its graph."""

    def __init__(self, instance: Instance) -> None:
        super().__init__()
        self._instance = instance
        self._program: Program | None = None
        """That of the whole model, for its outermost block: what fails below is told by its spec."""

    def forward(self, *inputs: Any) -> Any:
        """The block's output; several are a named tuple. Inputs in the order in which the block states them."""
        if self._program is None:
            return run(self, self._instance, inputs)
        try:
            return run(self, self._instance, inputs)
        except Exception as error:
            _tell(error, self._program, self)
            raise

    def extra_repr(self) -> str:
        return f"({self._instance.block.name})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_program": None}  # a copy is not the spec's any more


class Chain(nn.Sequential):
    """The outermost module of a model that is a chain: an `nn.Sequential` whose failures are told by the spec."""

    def __init__(self, chain: nn.Module, program: Program) -> None:
        super().__init__(OrderedDict(chain.named_children()))
        self._program: Program | None = program

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        # Not in `forward`, which stays `nn.Sequential`'s for those who trace or script it.
        try:
            return super().__call__(*inputs, **named)
        except Exception as error:
            if self._program is not None:
                _tell(error, self._program, self)
            raise

    def _get_name(self) -> str:
        return "Sequential"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_program": None}


def _tell(error: Exception, program: Program, module: nn.Module) -> None:
    from netspec.runtime.notes import Known, tell

    with suppress(Exception):
        tell(error, Known(program, module))


def run(
    owner: nn.Module,
    instance: Instance,
    inputs: tuple[Any, ...],
    members: dict[str, Any] | None = None,
    around: Sizes | None = None,
) -> Any:
    """Run the layers of an instance with the modules of `owner`; `members` receives what each layer gives, `around`
    are the sizes of the body in which a group stands.
    """
    if len(inputs) != len(instance.inputs):
        names = ", ".join(instance.inputs)
        raise TypeError(
            f"{instance.block.name}.forward() takes {len(instance.inputs)} ({names}), and got {len(inputs)}"
        )
    values = Values(instance, inputs, around)
    for written in instance.order:
        node = values.sizes.now(written)
        if node is None:
            result = values.get(written.each or next(iter(written.inputs)))
        elif node.layer.when and (node.layer.when == "training") != owner.training:
            result = None
        elif node.each is not None:
            result = [_applied(owner, node, values.of_one(tensor, node), inputs) for tensor in values.get(node.each)]
        elif node.dissolved:
            assert isinstance(node.op, Apply)
            inner: dict[str, Any] = {}
            modules = owner if node.key is None else getattr_child(owner, node.key)
            given = tuple(values.get(ref) for ref in node.op.inputs.values())
            result = run(modules, node.op.instance, given, inner, values.sizes)
            members_of = node.op.instance.by_name
            values.found.update({(id(written), k): _first(one, members_of.get(k)) for k, one in inner.items()})
        elif not node.layer.grad:
            with torch.no_grad():
                result = _applied(owner, node, values, inputs)
        else:
            result = _applied(owner, node, values, inputs)
        values.found[id(written)] = result
        if members is not None:
            members[written.name] = result
    outputs = {name: values.get(ref) for name, ref in instance.outputs.items()}
    if instance.parallel:
        listed = instance.block.body.kind == "list"
        return list(outputs.values()) if listed or len(outputs) > 1 else next(iter(outputs.values()))
    if list(outputs) == [""]:
        return outputs[""]
    return _output_type(instance.block.name, tuple(outputs))(**outputs)


def _first(result: Any, node: Node | None) -> Any:
    """What a reference to a layer without a port means."""
    return result[0] if node is not None and len(node.types) > 1 and result is not None else result


def _applied(owner: nn.Module, node: Node, values: Values, inputs: tuple[Any, ...]) -> Any:
    """What one node gives; `inputs` are those of the block."""
    op, get = node.op, values.get
    if node.is_weight:
        return getattr(owner, node.name)
    if isinstance(op, Call):
        if op.mask is not None:
            return calls.of_rows(getattr_child(owner, node.key or node.name), op, get(op.mask), get)
        if node.key is not None:
            return calls.apply(getattr_child(owner, node.key), op, op.inputs, get)
        return calls.run(op, get, lambda argument: values.argument(argument, node), owner, inputs)
    if isinstance(op, Apply):
        assert node.key is not None
        module = getattr_child(owner, node.key)
        if node.chosen_by is not None:
            assert isinstance(module, nn.ModuleDict)
            module = module[get(node.chosen_by)]
        return module(*(get(ref) for ref in op.inputs.values()))
    if isinstance(op, Arithmetic):
        tensors = {name: get(ref) for name, ref in op.inputs.items()}
        return evaluate(op.expr, values.sizes.scope(node.env), tensors=tensors)
    if isinstance(op, Gather):
        return [get(ref) for ref in op.inputs.values()]
    if isinstance(op, Reuse):
        assert op.target.key is not None
        module = getattr_child(owner, op.target.key)
        if isinstance(op.target.op, Call):
            return calls.apply(module, op.target.op, op.inputs, get)
        return module(*(get(ref) for ref in op.inputs.values() if isinstance(ref, Ref)))
    (only,) = op.inputs.values()
    return get(only)


class Values:
    """What the inputs and the layers of one call have given so far."""

    def __init__(self, instance: Instance, inputs: tuple[Any, ...], around: Sizes | None) -> None:
        self.found: dict[Any, Any] = dict(zip(instance.inputs, inputs, strict=True))
        self.sizes = Sizes(instance, self.found, around)
        self.one: dict[int, Tensor] = {}
        """Where a layer is applied to every tensor of a list: the one that its references mean now."""

    def of_one(self, tensor: Tensor, node: Node) -> Values:
        """The same values for one tensor of the list that a node with `each` reads."""
        one = copy(self)
        refs = node.op.inputs.values()
        one.one = {id(part): tensor for ref in refs for part in (ref if isinstance(ref, tuple) else (ref,))}
        return one

    def get(self, ref: Ref) -> Any:
        """The value of a reference: of an input or a layer, one of its outputs, or one tensor of a list."""
        if id(ref) in self.one:
            return self.one[id(ref)]
        if ref.node is None:
            name, _, position = ref.name.partition(".")
            return self.found[name][int(position)] if position else self.found[name]
        if (id(ref.node), ref.name) in self.found:
            return self.found[id(ref.node), ref.name]
        name, _, position = ref.name.partition(".")
        value, ports = self.found[id(ref.node)], list(ref.node.types)
        if len(ports) > 1:
            value = value[ports.index(name) if name in ports else 0]
        position = position if name in ports else name
        return value[int(position)] if position else value

    def argument(self, argument: Argument, node: Node) -> Any:
        """An argument of a function, with the sizes of this call."""
        if not argument.measured:
            return self.sizes.argument(node.env, argument)
        sizes = {text: list(self.get(ref).shape) for text, ref in node.measured.items()}
        assert not isinstance(argument.origin, Opaque)
        return evaluate(argument.origin, self.sizes.scope(node.env), functions={"shape": sizes.__getitem__})


def getattr_child(owner: nn.Module, key: str) -> nn.Module:
    """A child by its name, which may hold a hyphen."""
    child = owner._modules[key]
    assert child is not None
    return child


@cache
def _output_type(name: str, fields: tuple[str, ...]) -> Any:
    return namedtuple(f"{name}Output", fields)
