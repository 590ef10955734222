"""What travels with an exported model: its inputs and outputs, the preprocessing, the names of the classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from netspec.recipe.data import DataRecipe, Transform
from netspec.runtime.evaluate import TrainedModel
from netspec.runtime.predict import class_names, first_loss
from netspec.shapes import ListType, TensorType

KEY: Final = "netspec"
"""Under which name the card stands in the metadata of a file, as JSON."""
FORMAT: Final = 1


def card(run: TrainedModel) -> dict[str, Any]:
    """A run's model as JSON, for those who use it without netspec.

    `inputs` and `outputs` have shapes with the names of the sizes that are open; `preprocessing` is what the files of
    the evaluation data go through, in order, by torchvision's names; `classes` are those of the field that the first
    loss compares with.
    """
    return {
        "format": FORMAT,
        "name": run.program.name,
        "description": run.program.description,
        "checkpoint": run.checkpoint.name,
        "inputs": {name: _type(type_) for name, type_ in run.program.inputs.items()},
        "outputs": {name: _type(type_) for name, type_ in run.program.outputs.items()},
        "fields": dict(run.recipe.inputs),
        "classes": class_names(run),
        "loss": first_loss(run).type,
        "preprocessing": preprocessing(run.program.recipe.data, run.data_state),
    }


def preprocessing(recipe: DataRecipe | None, state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The deterministic transforms of `test`, else `val`, else `train`, with what was learnt from the training data."""
    if recipe is None:
        return []
    split = next((recipe.splits[name] for name in ("test", "val", "train") if name in recipe.splits), None)
    if split is None:
        return []
    chosen = [one for one in (*split.transforms, *split.batch_transforms) if not one.random]
    return [_transform(one, state) for one in chosen]


def _transform(transform: Transform, state: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"type": transform.type, **transform.arguments}
    if transform.type == "Standardize":
        found |= state.get("standardize", {}).get(str(found.get("field", "features")), {})
    if transform.of:
        found["transforms"] = [_transform(one, state) for one in transform.of]
    return found


def _type(type_: Any) -> dict[str, Any]:
    if isinstance(type_, ListType):
        return {"list": str(type_)}
    assert isinstance(type_, TensorType)
    return {"shape": [size if type(size) is int else _size(size) for size in type_.shape], "dtype": type_.dtype}


def _size(size: Any) -> int | str:
    return int(size) if isinstance(size, int) else str(size)
