"""`distribute: fsdp`: each process keeps a part of every weight, by torch's `fully_shard`.

A block's weights are put together when it runs and let go afterwards; so are its gradients, of which each process keeps
its part, with its part of the optimizer's memory. Each process writes its parts into a checkpoint. Any number of
processes, sharded or not, go on with it, each reading no more than it needs, and `eval`, `predict` and `export` read it
as always. Where the processes do not see one folder, the first gathers whole tensors and writes them as one does alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from netspec.runtime.checkpoint import Loaded
from netspec.runtime.cut import cut_like, is_cut, let_go, whole
from netspec.runtime.pieces import like, read_all
from netspec.runtime.processes import Part, Processes
from netspec.runtime.together import Outer

if TYPE_CHECKING:
    from netspec.runtime.job import Job
    from netspec.runtime.objective import Batch, Objective, Outputs


FUSED: Final = (torch.optim.Adam, torch.optim.AdamW)
"""The optimizers whose fused step torch knows how to take on cut weights."""


class Sharded(Outer):
    """An objective whose model is sharded. Every pass is one of all processes, in evaluation too."""

    def __init__(self, inner: Objective, processes: Processes, part: Part) -> None:
        super().__init__(inner, processes, part)
        self.root: Any = inner.model

    def forward(self, batch: Batch) -> Outputs:
        outputs = self.inner.forward(batch)
        if not torch.is_grad_enabled():  # a backward pass lets go of what is whole, and none follows
            let_go(self.model)
        return outputs

    def meet(self, last: bool) -> None:
        self.root.set_requires_gradient_sync(last)


def shard(job: Job, match: tuple[str, ...], *, reshard_after_forward: bool | None) -> list[nn.Module]:
    """Cut the model of a job, block by block, and its optimizer's memory with it. The innermost modules that are cut.

    match: globs over the paths of the modules that are cut as one; the model's own blocks where there are none.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model, optimizer = job.objective.model, job.optimizer
    mesh = init_device_mesh(job.device.type, (job.processes.count,))
    names = {id(parameter): name for name, parameter in model.named_parameters(remove_duplicate=False)}
    options: dict[str, Any] = {"mesh": mesh}
    if reshard_after_forward is not None:
        options["reshard_after_forward"] = reshard_after_forward
    apart = blocks(model, match)
    for module in reversed(apart):  # the inner ones first
        fully_shard(module, **options)
    fully_shard(model, **options)
    now = dict(model.named_parameters(remove_duplicate=False))
    cut = {old: now[name] for old, name in names.items()}
    job.freezing.follow(cut)
    if job.average is not None:
        job.average.follow(now)
    state = {cut[id(old)]: memory for old, memory in optimizer.state.items()}
    fused = type(optimizer) in FUSED and job.scaler is None
    for group in optimizer.param_groups:
        group["params"] = [cut[id(old)] for old in group["params"]]
        if not fused and group.get("fused"):
            group["fused"] = False
    if not fused and hasattr(optimizer, "_step_supports_amp_scaling"):
        optimizer._step_supports_amp_scaling = False  # else a scaler leaves its factor to a kernel that is not there
    optimizer.state.clear()
    for parameter, memory in state.items():
        optimizer.state[parameter] = {name: cut_like(value, parameter) for name, value in memory.items()}
    inner = [one for one in apart if not any(other in apart for other in list(one.modules())[1:])]
    return inner or [model]


def blocks(model: nn.Module, match: tuple[str, ...]) -> list[nn.Module]:
    """The modules below a model that are cut as one: those that match, else those of the classes in its own source.

    One with a weight that is another's as well is cut with what is around both: torch wants a weight in one of them.
    """
    found = []
    for path, module in model.named_modules():
        own = type(module).__module__ == type(model).__module__
        if path and (any(fnmatchcase(path, glob) for glob in match) if match else own):
            found.append(module)
    return [module for module in found if next(module.parameters(), None) is not None and _has_its_own(module, model)]


def _has_its_own(module: nn.Module, model: nn.Module) -> bool:
    """Whether no weight of a module stands in a module outside of it too."""
    within, own = set(map(id, module.modules())), set(map(id, module.parameters()))
    others = (one for one in model.modules() if id(one) not in within)
    return not any(id(parameter) in own for one in others for parameter in one.parameters(recurse=False))


def gathered(tree: Any, *, keep: bool) -> Any:
    """The tree with whole tensors, on the CPU, in place of cut ones: something that all processes do together.

    Without `keep` the whole ones are let go one by one, and None stands for each: another process writes them.
    """
    if is_cut(tree):
        found = whole(tree)
        return found.detach().cpu() if keep else None
    if isinstance(tree, Mapping):
        return {key: gathered(value, keep=keep) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(gathered(value, keep=keep) for value in tree)
    return tree


def placed(loaded: Loaded, model: nn.Module) -> Loaded:
    """A checkpoint with its weights, averages and the optimizer's memory cut as a model is that has been cut.

    Of tensors that are not read yet this process reads its parts.
    """
    own = model.state_dict()
    state, memory = dict(loaded.state), loaded.state["optimizer"]
    state["optimizer"] = {
        "state": {
            name: {key: like(value, own.get(name)) for key, value in of.items()} for name, of in memory["state"].items()
        },
        "groups": read_all(memory["groups"]),
    }
    if (average := state.get("average")) is not None:
        state["average"] = {**average, "weights": placed_weights(average["weights"], model)}
    return Loaded(stored=loaded.stored, model=placed_weights(loaded.model, model), state=state)


def placed_weights(weights: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """Weights cut as those of a model that has been cut."""
    own = model.state_dict()
    return {name: like(value, own.get(name)) for name, value in weights.items()}
