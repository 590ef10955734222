"""What can't be trained with weights of which each process has a part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netspec.diagnostics import Diagnostics, Label
from netspec.document import Mapping
from netspec.recipe.train import TrainRecipe

if TYPE_CHECKING:
    from netspec.recipe.train_values import ModelInfo

WHOLE: Final = {
    "Adafactor": "works with the sums of whole rows and columns",
    "LBFGS": "works with all weights as one long row",
    "Muon": "makes whole matrices orthogonal",
}
"""The optimizers that a part of a weight is not enough for, and why."""


def check_sharded(recipe: TrainRecipe, node: Mapping, diagnostics: Diagnostics, model: ModelInfo) -> None:
    """Report what does not go with `distribute: fsdp`, where the recipe has it. `node` is the `train` section."""
    if recipe.distribute is None or recipe.distribute.type != "fsdp":
        return
    label = Label(node.key_spans["distribute"], "each process has a part of each weight")
    why = WHOLE.get(recipe.optimizer.type)
    if why is not None:
        place = node.items["optimizer"]
        diagnostics.error(
            "NS953",
            f"{recipe.optimizer.type} {why}, and `distribute: fsdp` cuts them",
            place.items["type"].span if isinstance(place, Mapping) else place.span,
            labels=[label],
            help="take AdamW, or `distribute: ddp`, where each process has the whole model",
        )
    single = next(((name, one) for name, one in model.weights.items() if not one.shape), None)
    if single is not None:
        name, weight = single
        diagnostics.error(
            "NS953",
            f"`{name}` is a single number, which `distribute: fsdp` can't cut",
            weight.span,
            labels=[label],
            help="give it the shape [1], or take `distribute: ddp`",
        )
    sparse = next(((name, one) for name, one in model.weights.items() if one.sparse and not one.frozen), None)
    if sparse is not None:
        name, weight = sparse
        diagnostics.error(
            "NS953",
            f"the gradient of `{name}` is sparse, and `distribute: fsdp` cuts those that are not",
            weight.span,
            labels=[label],
            help="leave `sparse` out of the embedding, or take `distribute: ddp`",
        )
