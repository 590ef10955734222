"""An exponential average of the weights over a training, which is what is evaluated and kept.

torch's `AveragedModel` holds and updates it. The model itself goes on training with its own weights; where figures are
taken or a checkpoint is written, the two change places for as long as that takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from netspec.recipe.train import Ema


class Average:
    """The averaged weights of a run. Until there is a first average, the model's own stand for it."""

    def __init__(self, model: nn.Module, rule: Ema) -> None:
        self.model = model
        function = get_ema_multi_avg_fn(rule.decay)  # type: ignore[no-untyped-call]
        self.averaged = AveragedModel(model, multi_avg_fn=function, use_buffers=rule.use_buffers)

    def update(self) -> None:
        """Take in the model's present weights."""
        self.averaged.update_parameters(self.model)

    @property
    def started(self) -> bool:
        return bool(self.averaged.n_averaged)  # a tensor on the CPU

    def exchange(self) -> None:
        """Let the model hold the averages and the average the weights that train, or the other way round."""
        for one, other in zip(_tensors(self.model), _tensors(self.averaged.module), strict=True):
            one.data, other.data = other.data, one.data

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside the averages, which are its model: taken inside `averaged`."""
        return {"count": int(self.averaged.n_averaged), "weights": self.averaged.module.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`; the model has been given the averages, as the checkpoint holds them."""
        self.averaged.module.load_state_dict(state["weights"])
        self.averaged.n_averaged.fill_(state["count"])
        if self.started:
            self.exchange()


@contextmanager
def averaged(average: Average | None) -> Iterator[None]:
    """While it is open the model holds the averages, where there are any."""
    if average is None or not average.started:
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
