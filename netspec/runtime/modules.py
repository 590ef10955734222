"""The first door: live modules from a `Program`.

A chain becomes an `nn.Sequential`, any other block a `Graph`, whose children stand in the file's order and whose
`forward`
follows the graph. Emitted source does the same in the same order, so both draw the same weights from one seed.
"""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from netspec.catalog import lookup
from netspec.expressions import evaluate
from netspec.initialization import initializer
from netspec.origins import untraced
from netspec.program import Apply, Arithmetic, Call, Instance, Node, Program, Ref, Reuse, Skip, Tie
from netspec.runtime import calls
from netspec.runtime.sizes import Sizes
from netspec.spec import Rule, Value


def build(program: Program, seed: int | None = None) -> nn.Module:
    """The program's model. With a seed the weights are drawn from it, and the global random state is left as it was."""
    if seed is None:
        return _model(program)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _model(program)


def _model(program: Program) -> nn.Module:
    """The outermost module, whose failures gain a note that names the spec."""
    instance = program.model
    module = _module(instance)
    if isinstance(module, Graph):
        module._program = program
    elif instance.sequential:
        module = Chain(module, program)
    return module


def _module(instance: Instance) -> nn.Module:
    parts = OrderedDict((node.name, part) for node in instance.nodes if (part := _part(node)) is not None)
    module: nn.Module
    if instance.sequential:
        module = nn.Sequential(parts)
    elif instance.listed:
        module = nn.ModuleList(parts.values())
    else:
        module = Graph(instance)
        for name, part in parts.items():
            _register(module, name, part)
    tied = [_tie(module, tie) for tie in instance.ties]
    _initialize(module, instance.block.initialize, instance.scope, tied)
    return module


def _tie(module: nn.Module, tie: Tie) -> tuple[nn.Module, str]:
    """Make two parameters one; the module whose own was replaced, and what it calls it."""
    owner = module.get_submodule(".".join(tie.path[:-1]))
    setattr(owner, tie.path[-1], module.get_parameter(".".join(tie.source)))
    return owner, tie.path[-1]


def _part(node: Node) -> Any:
    """What a node registers: a module, a parameter, a buffer; None for a function."""
    if node.is_weight:
        return _weight(node)
    return _child(node) if node.key is not None else None


def _weight(node: Node) -> Tensor:
    """A parameter or buffer that stands alone, at its start."""
    assert isinstance(node.op, Call)
    if node.op.body is not None:
        persistent = node.op.arguments.get("persistent")
        computed = _run(nn.Module(), node.op.body, ())
        return nn.Buffer(computed, persistent=persistent is None or persistent.value)
    arguments = {a.name: a.default for a in node.op.entry.arguments if not a.required}
    arguments.update({name: untraced(a.value) for name, a in node.op.arguments.items()})
    tensor = torch.zeros(arguments["shape"], dtype=getattr(torch, arguments["dtype"]))
    for rule in node.layer.initialize:
        for value in rule.values.values():
            _fill(tensor, value, nn.Module(), node.env)
    if node.op.entry.name == "Parameter":
        return nn.Parameter(tensor)
    return nn.Buffer(tensor, persistent=arguments["persistent"])


def _register(owner: nn.Module, name: str, part: Any) -> None:
    if isinstance(part, nn.Module):
        owner.add_module(name, part)
    else:
        setattr(owner, name, part)


def _child(node: Node) -> nn.Module:
    op = node.op
    module: nn.Module
    if isinstance(op, Call):
        module = calls.make(op)
        _initialize(module, node.layer.initialize, node.env)
    elif isinstance(op, Apply):
        module = _module(op.instance)
        if not op.instance.group:
            _initialize(module, node.layer.initialize, node.env)
    else:
        assert isinstance(op, Skip)
        return nn.Identity()
    if node.layer.freeze:
        freeze(module)
    return module


def freeze(module: nn.Module) -> None:
    """Take the module out of training: no gradients, and eval mode whatever its parent's is."""
    module.requires_grad_(False)
    module.eval()
    module.train = lambda mode=True: module  # type: ignore[method-assign]


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
            return _run(self, self._instance, inputs)
        try:
            return _run(self, self._instance, inputs)
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


def _run(
    owner: nn.Module,
    instance: Instance,
    inputs: tuple[Any, ...],
    members: dict[str, Any] | None = None,
    around: Sizes | None = None,
) -> Any:
    """Run the layers of an instance with the modules of `owner`; `members` receives what each child gives, `around`
    are the sizes of the body in which a group stands.
    """
    if len(inputs) != len(instance.inputs):
        names = ", ".join(instance.inputs)
        raise TypeError(
            f"{instance.block.name}.forward() takes {len(instance.inputs)} ({names}), and got {len(inputs)}"
        )
    values: dict[Any, Any] = dict(zip(instance.inputs, inputs, strict=True))
    sizes = Sizes(instance, values, around)

    def get(ref: Ref) -> Any:
        if ref.node is None:
            return values[ref.name]
        if (id(ref.node), ref.name) in values:
            return values[id(ref.node), ref.name]
        value = values[id(ref.node)]
        if ref.name in ref.node.types:
            position = list(ref.node.types).index(ref.name)
            return value if len(ref.node.types) == 1 else value[position]
        return value[int(ref.name)] if ref.name else (value if len(ref.node.types) == 1 else value[0])

    for node in instance.order:
        op = node.op
        sizes.check(node)
        if node.layer.when and (node.layer.when == "training") != owner.training:
            result = None
        elif node.is_weight:
            result = getattr(owner, node.name)
        elif isinstance(op, Call):
            if node.key is not None:
                result = calls.apply(getattr_child(owner, node.key), op, op.inputs, get)
            else:
                result = calls.run(op, get, partial(sizes.argument, node.env), owner, inputs)
        elif isinstance(op, Apply):
            given = tuple(get(ref) for ref in op.inputs.values())
            if node.dissolved:
                inner: dict[str, Any] = {}
                modules = owner if node.key is None else getattr_child(owner, node.key)
                result = _run(modules, op.instance, given, inner, sizes)
                values.update({(id(node), key): value for key, value in inner.items()})
            else:
                assert node.key is not None
                result = getattr_child(owner, node.key)(*given)
        elif isinstance(op, Arithmetic):
            tensors = {name: get(ref) for name, ref in op.inputs.items()}
            result = evaluate(op.expr, sizes.scope(node.env), tensors=tensors)
        elif isinstance(op, Reuse):
            assert op.target.key is not None
            module = getattr_child(owner, op.target.key)
            if isinstance(op.target.op, Call):
                result = calls.apply(module, op.target.op, op.inputs, get)
            else:
                result = module(*(get(ref) for ref in op.inputs.values() if isinstance(ref, Ref)))
        else:
            (only,) = op.inputs.values()
            result = get(only)
        values[id(node)] = result
        if members is not None and node.key is not None:
            members[node.key] = result
    outputs = {name: get(ref) for name, ref in instance.outputs.items()}
    if list(outputs) == [""]:
        return outputs[""]
    return _output_type(instance.block.name, tuple(outputs))(**outputs)


def getattr_child(owner: nn.Module, key: str) -> nn.Module:
    """A child by its name, which may hold a hyphen."""
    child = owner._modules[key]
    assert child is not None
    return child


@cache
def _output_type(name: str, fields: tuple[str, ...]) -> Any:
    return namedtuple(f"{name}Output", fields)


def _initialize(
    module: nn.Module, rules: tuple[Rule, ...], env: Mapping[str, Any], tied: Sequence[tuple[nn.Module, str]] = ()
) -> None:
    """Run rules over the modules in the order of registration; for each parameter the last rule that matches, alone.

    What is `tied` to another parameter starts as that one does.
    """
    if not rules:
        return
    for path, part in module.named_modules():
        for name, parameter in part.named_parameters(recurse=False):
            if (part, name) in tied:
                continue
            for rule in reversed(rules):
                value = rule.values.get(name, rule.values.get("") if name == "weight" else None)
                if value is not None and _matches(rule, path, part):
                    _fill(parameter, value, part, env)
                    break


def _matches(rule: Rule, path: str, module: nn.Module) -> bool:
    from fnmatch import fnmatchcase

    if not rule.match:
        return path == ""
    for pattern in rule.match:
        entry = lookup(pattern)
        if entry is not None and entry.category != "function":
            if isinstance(module, calls.resolve(entry.target)):
                return True
        elif path and fnmatchcase(path, pattern):
            return True
    return False


def _fill(parameter: Tensor, value: Value, module: nn.Module, env: Mapping[str, Any]) -> None:
    scope: dict[str, Any] = dict(env)
    scope.update({k: v for k, v in vars(module).items() if isinstance(v, int | float) and not k.startswith("_")})
    if parameter.dim() >= 2:
        scope["fan_in"], scope["fan_out"] = nn.init._calculate_fan_in_and_fan_out(parameter)
    name, arguments = initializer(value)
    if name is None:
        nn.init.constant_(parameter, untraced(evaluate(value.expr, scope)))
        return
    entry = lookup(name, "initializer")
    assert entry is not None
    given = {argument: untraced(evaluate(v.expr, scope)) for argument, v in arguments.items()}
    calls.resolve(entry.target)(parameter, **given)
