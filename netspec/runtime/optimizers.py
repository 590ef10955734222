"""The optimizer of a recipe: parameters grouped by the settings that hold for each, fused where torch can."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cache, partial
from typing import Any, Final

import torch
from torch import nn

from netspec.recipe.train import Optimizer
from netspec.runtime.errors import RunError
from netspec.runtime.layout import as_laid_out
from netspec.runtime.objective import construct

FUSED_DEVICES: Final = ("cpu", "cuda", "mps")


def make_optimizer(model: nn.Module, recipe: Optimizer) -> torch.optim.Optimizer:
    """The torch optimizer over all parameters that want a gradient.

    Raises RunError NS908 where torch refuses the settings, or where nothing is left to train.
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not named:
        raise RunError("NS908", "the model has no weights to train", help="every layer is frozen, or none has weights")
    arguments = dict(recipe.arguments)
    if not has_sparse_gradients(model) and can_fuse(recipe, (parameter for _, parameter in named)):
        arguments["fused"] = True
    groups = [
        {"params": [parameter for _, parameter in members], **settings} for settings, members in grouped(named, recipe)
    ]
    made = construct(recipe.type, recipe.target, groups, **arguments)
    assert isinstance(made, torch.optim.Optimizer)
    if arguments.get("fused") and recipe.type == "SGD":
        _begin_momentum(made)
    return made


def _begin_momentum(sgd: torch.optim.Optimizer) -> None:
    """Give each parameter its momentum before the first step, as zeros: the first update comes out the same.

    The fused kernel wants the momentum of all parameters of a group or of none, and one that is unfrozen later, or that
    a batch does not reach, would come without.
    """
    for group in sgd.param_groups:
        if group["momentum"]:
            for parameter in group["params"]:
                sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def bare_step(optimizer: torch.optim.Optimizer) -> Callable[..., Any]:
    """The optimizer's `step` without the profiler's mark around it, which costs a fused step as much as its kernel.

    Where a profiler runs, or hooks hang on the optimizer, it is `optimizer.step` itself.
    """
    shared = sys.modules[torch.optim.Optimizer.__module__]
    marked = type(optimizer).step
    hooks = [getattr(optimizer, name, True) for name in ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")]
    hooks += [getattr(shared, f"_global_optimizer_{when}_hooks", True) for when in ("pre", "post")]
    inner = getattr(marked, "__wrapped__", None)
    if any(hooks) or inner is None or not hasattr(marked, "hooked") or torch.autograd.profiler._is_profiler_enabled:
        return optimizer.step
    return partial(inner, optimizer)


def has_sparse_gradients(model: nn.Module) -> bool:
    """Whether an embedding gives the gradients of the rows alone that it has read."""
    return any(getattr(module, "sparse", False) is True for module in model.modules())


def grouped(
    named: Iterable[tuple[str, nn.Parameter]], recipe: Optimizer
) -> list[tuple[Mapping[str, Any], list[tuple[str, nn.Parameter]]]]:
    """The parameters by the settings that differ from the optimizer's own.

    The settings of every group that matches a parameter merge, later groups win; parameters with equal settings stand
    together, in the order in which their settings first occur.
    """
    found: dict[str, tuple[dict[str, Any], list[tuple[str, nn.Parameter]]]] = {}
    for name, parameter in named:
        settings: dict[str, Any] = {}
        for group in recipe.groups:
            if any(fnmatchcase(name, pattern) for pattern in group.match):
                settings.update(group.arguments)
        key = repr(sorted(settings.items()))
        found.setdefault(key, (settings, []))[1].append((name, parameter))
    return list(found.values())


def can_fuse(recipe: Optimizer, parameters: Iterable[nn.Parameter]) -> bool:
    """Whether torch has one kernel for the whole step, several times faster than its loop over the parameters."""
    chosen = {"fused", "foreach", "differentiable"} & {
        name for name, value in recipe.arguments.items() if value is not None
    }
    if chosen or any({"fused", "foreach"} & set(group.arguments) for group in recipe.groups):
        return False
    if recipe.type == "SGD" and any(
        settings.get("dampening") for settings in (recipe.arguments, *(group.arguments for group in recipe.groups))
    ):
        return False  # a first update is not dampened, and here it would be
    module, _, name = recipe.target.rpartition(".")
    found = getattr(torch.optim, name, None) if module == "torch.optim" else None
    if found is None or "fused" not in inspect.signature(found).parameters:
        return False
    parameters = list(parameters)
    if not all(p.is_floating_point() and p.device.type in FUSED_DEVICES and not p.is_sparse for p in parameters):
        return False
    return all(_fuses(name, device) for device in {p.device for p in parameters})


@cache
def _fuses(name: str, device: torch.device) -> bool:
    """Whether the installed torch has the kernel for a device. No signature tells: Adagrad's was long the CPU's alone,
    and says so in its first step."""
    if device.type == "cpu":
        return True
    parameter = nn.Parameter(torch.zeros(1, device=device))
    parameter.grad = torch.zeros_like(parameter)
    try:
        getattr(torch.optim, name)([parameter], fused=True).step()
    except RuntimeError:
        return False
    return True


def optimizer_state(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Any]:
    """What the optimizer remembers of each parameter, by the parameter's name, and the settings of its groups."""
    saved = optimizer.state_dict()
    names = _names(optimizer, model)
    return {
        "state": {names[index]: value for index, value in saved["state"].items()},
        "groups": [{**group, "params": [names[index] for index in group["params"]]} for group in saved["param_groups"]],
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, state: Mapping[str, Any], *, settings: bool
) -> None:
    """Put the saved memory back. With `settings` the saved rates too: not where the spec now asks for others."""
    index = {name: number for number, name in enumerate(_names(optimizer, model))}
    parameters = dict(model.named_parameters())
    groups = optimizer.state_dict()["param_groups"]
    if settings:
        groups = [{**group, "params": [index[name] for name in group["params"]]} for group in state["groups"]]
    optimizer.load_state_dict(
        {
            "state": {
                index[name]: as_laid_out(value, parameters[name])
                for name, value in state["state"].items()
                if name in index
            },
            "param_groups": groups,
        }
    )


def _names(optimizer: torch.optim.Optimizer, model: nn.Module) -> list[str]:
    """The parameters' names in the order in which the optimizer numbers them."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
