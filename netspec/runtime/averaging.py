"""Averages of the weights over a training: of every update (EMA), or of the ends of its last epochs (SWA).

torch's `AveragedModel` holds and updates them. The model itself goes on training with its own weights; where figures of
the average are taken or a checkpoint of it is written, the two change places for as long as that takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn, update_bn

from netspec.recipe.train import Ema, Swa
from netspec.runtime.cut import cut_like, is_cut, own_part
from netspec.runtime.objective import Batch
from netspec.runtime.signals import Stop
from netspec.runtime.state import random_state, restore_random_state


class Average:
    """The averaged weights of a run, and whether they stand for its own. Until then the model's own do."""

    kind: ClassVar[Literal["ema", "swa"]]

    def __init__(self, model: nn.Module, averaged: AveragedModel) -> None:
        self.model = model
        self.averaged = averaged

    @property
    def started(self) -> bool:
        return bool(self.averaged.n_averaged)  # a tensor on the CPU

    @property
    def shown(self) -> bool:
        """Whether figures and checkpoints are of the average now."""
        return self.started

    def after_step(self) -> None:
        """An update has been made."""

    def after_epoch(self, epochs: int) -> None:
        """So many epochs have been trained; asked again for one of them, nothing happens."""

    def exchange(self) -> None:
        """Let the model hold the averages and the average the weights that train, or the other way round."""
        for one, other in zip(_tensors(self.model), _tensors(self.averaged.module), strict=True):
            if is_cut(one):  # where its part lies is known to torch, so the numbers move
                mine, its = own_part(one.detach()), own_part(other.detach())
                kept = mine.clone()
                mine.copy_(its)
                its.copy_(kept)
            else:
                one.data, other.data = other.data, one.data

    def follow(self, now: Mapping[str, nn.Parameter]) -> None:
        """Have the averages cut as the model's weights `now` are, by name; each process updates its parts."""
        made: dict[int, nn.Parameter] = {}
        for name, old in list(self.averaged.module.named_parameters(remove_duplicate=False)):
            path, _, last = name.rpartition(".")
            if id(old) not in made:
                made[id(old)] = nn.Parameter(cut_like(old.detach(), now[name]), requires_grad=old.requires_grad)
            setattr(self.averaged.module.get_submodule(path), last, made[id(old)])
        update = self.averaged.multi_avg_fn or get_swa_multi_avg_fn()  # type: ignore[no-untyped-call]
        self.averaged.multi_avg_fn = lambda averages, weights, count: update(
            [own_part(one) for one in averages], [own_part(one) for one in weights], count
        )

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside its model: the averages, or where they are its model the weights that train.

        Taken inside `averaged`.
        """
        return {
            "kind": self.kind,
            "count": int(self.averaged.n_averaged),
            "shown": self.shown,
            "weights": self.averaged.module.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`; the model has been given the weights that the checkpoint holds as its model."""
        self.averaged.module.load_state_dict(state["weights"])
        self.averaged.n_averaged.fill_(state["count"])
        if state["shown"]:
            self.exchange()


class EmaAverage(Average):
    """An exponential average, updated with each update of the weights."""

    kind = "ema"

    def __init__(self, model: nn.Module, rule: Ema) -> None:
        self.update = get_ema_multi_avg_fn(rule.decay)  # type: ignore[no-untyped-call]
        super().__init__(model, AveragedModel(model, multi_avg_fn=self.update, use_buffers=rule.use_buffers))

    def after_step(self) -> None:
        """As `update_parameters`, which copies its count to a GPU each time, and waits for that, for a function that
        does not look at it."""
        averaged = self.averaged
        if not self.started:
            averaged.update_parameters(self.model)
            return
        model, held = self.model, averaged.module
        pairs: list[tuple[Tensor, Tensor]] = list(zip(held.parameters(), model.parameters(), strict=True))
        buffers = zip(held.buffers(), model.buffers(), strict=True)
        if averaged.use_buffers:
            pairs += buffers
        groups: dict[tuple[torch.device, torch.dtype], tuple[list[Tensor], list[Tensor]]] = {}
        for mean, value in pairs:
            means, values = groups.setdefault((mean.device, mean.dtype), ([], []))
            means.append(own_part(mean.detach()) if is_cut(mean) else mean)
            values.append(own_part(value.detach()) if is_cut(value) else value)
        with torch.no_grad():
            for means, values in groups.values():
                self.update(means, values, averaged.n_averaged)
            if not averaged.use_buffers:
                for mean, value in buffers:
                    mean.copy_(value)
            averaged.n_averaged += 1


class SwaAverage(Average):
    """The mean of the weights at the ends of the epochs after the first `rule.start`.

    Its batch norms have the statistics of none of these epochs, so it is shown once it has been settled: when a pass
    over the training data has given it statistics of its own.
    """

    kind = "swa"

    def __init__(self, model: nn.Module, rule: Swa) -> None:
        super().__init__(model, AveragedModel(model))
        self.rule = rule
        self.epochs = 0
        """After how many epochs the weights were taken in last."""
        self.settled = False

    @property
    def shown(self) -> bool:
        return self.settled

    def after_epoch(self, epochs: int) -> None:
        if epochs > max(self.rule.start, self.epochs):
            self.averaged.update_parameters(self.model)
            self.epochs, self.settled = epochs, False

    def settle(
        self, batches: Iterable[Batch], forward: Callable[[Batch], object], device: torch.device, stop: Stop
    ) -> None:
        """Give the average statistics by a forward pass over the batches, in training mode, with the generators put
        back afterwards. Where a signal comes first it is not settled."""

        def until_stopped() -> Iterator[Batch]:
            for batch in batches:
                if stop.signal:
                    return
                yield batch
                if stop.agree is not None:
                    stop.agree()

        self.exchange()
        random = random_state(device)
        try:
            update_bn(until_stopped(), _Reading(self.model, forward))
        finally:
            restore_random_state(random, device)
            self.exchange()
        self.settled = not stop.signal

    def state(self) -> dict[str, Any]:
        return {**super().state(), "epochs": self.epochs}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.epochs, self.settled = state["epochs"], state["shown"]


class _Reading(nn.Module):
    """What `update_bn` takes for a model: it is called on batches, and has the modules that are not kept in evaluation
    mode, whose statistics are to stay."""

    def __init__(self, model: nn.Module, forward: Callable[[Batch], object]) -> None:
        super().__init__()
        self.model = model
        self.run = forward
        self.train(model.training)

    def modules(self, remove_duplicate: bool = True) -> Iterator[nn.Module]:
        training = self.model.training
        self.model.train()
        live = [module for module in self.model.modules() if module.training]
        self.model.train(training)
        return iter(live)

    def forward(self, batch: Batch) -> object:
        return self.run(batch)


def make_average(model: nn.Module, ema: Ema | None, swa: Swa | None) -> Average | None:
    """The average that a recipe asks for."""
    return EmaAverage(model, ema) if ema is not None else SwaAverage(model, swa) if swa is not None else None


@contextmanager
def averaged(average: Average | None) -> Iterator[None]:
    """While it is open the model holds the averages, where they stand for it."""
    if average is None or not average.shown:
        yield
        return
    average.exchange()
    try:
        yield
    finally:
        average.exchange()


def _tensors(model: nn.Module) -> Iterable[Tensor]:
    """What a checkpoint holds of a model; tied parameters once."""
    return {id(tensor): tensor for tensor in model.state_dict(keep_vars=True).values()}.values()
