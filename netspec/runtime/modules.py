"""The first door: live modules from a `Program`.

A chain becomes an `nn.Sequential`; a list whose members are called one by one an `nn.ModuleList`, branches with names
an `nn.ModuleDict`; any other block a `Graph`, whose children stand in the file's order. Emitted source does the same in
the same order, so both draw the same weights from one seed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from netspec.catalog import lookup
from netspec.expressions import evaluate
from netspec.initialization import initializer
from netspec.origins import untraced
from netspec.program import Apply, Call, Instance, Node, Program, Skip, Tie
from netspec.runtime import calls, library
from netspec.runtime.graph import Chain, Graph, run
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
    if program.several:
        return nn.ModuleDict({name: _model(part) for name, part in program.parts.items()})
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
    elif instance.container == "ModuleList":
        module = nn.ModuleList(parts.values())
    elif instance.container == "ModuleDict":
        module = nn.ModuleDict(parts)
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
    return child(node) if node.key is not None else None


def _weight(node: Node) -> Tensor:
    """A parameter or buffer that stands alone, at its start."""
    assert isinstance(node.op, Call)
    if node.op.body is not None:
        persistent = node.op.arguments.get("persistent")
        computed = run(nn.Module(), node.op.body, ())
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


def register_parts(owner: nn.Module, instance: Instance) -> None:
    """Make the modules of an instance's own layers children of `owner`."""
    for node in instance.nodes:
        part = _part(node)
        if part is not None:
            _register(owner, node.name, part)


def _register(owner: nn.Module, name: str, part: Any) -> None:
    if isinstance(part, nn.Module):
        owner.add_module(name, part)
    else:
        setattr(owner, name, part)


def child(node: Node) -> nn.Module:
    """The module of a node."""
    op = node.op
    module: nn.Module
    if isinstance(op, Call):
        module = calls.make(op, child) if op.whole is None else library.make(op, child)
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


def thaw(module: nn.Module, *, training: bool) -> None:
    """Take `freeze` back but for the gradients, which are the parameters' own."""
    del module.train
    module.train(training)


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
        if entry is not None and entry.category not in ("function", "model"):
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
