"""`netspec cam`: where a run's model saw in an image what it says of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from netspec.program import Program
from netspec.recipe.seeing import Method
from netspec.runtime.device import autocast
from netspec.runtime.errors import RunError
from netspec.runtime.evaluate import TrainedModel, load_run
from netspec.runtime.monitors.cam import activation_maps, map_layer
from netspec.runtime.monitors.pictures import in_bytes, overlay, shown, stretched
from netspec.runtime.notes import noted
from netspec.runtime.predict import class_names, described, first_loss

LARGE: Final = 224
"""Pictures of smaller inputs are drawn larger, by a whole factor."""


def cam(
    run_dir: str | Path,
    images: Sequence[str | Path],
    *,
    layer: str | None = None,
    method: Method = "gradcam",
    target: str | None = None,
    output: str | Path | None = None,
    checkpoint_name: str | None = None,
    device: str | None = None,
    trust: bool = False,
    program: Program | None = None,
) -> Iterator[dict[str, Any]]:
    """A class activation map for each image in the files and folders, in their order.

    Yields what `predict` yields, with `layer`, `picture` (the input as the model gets it beside the map over it, PNG)
    and `map` (the numbers [h, w] as the layer gives them, float32, `.npy`); both lie in `output`, by default the
    folder `cam` of the run. layer: a path or a glob, by default the last that gives maps. target: the class whose map
    it is, by name or number; by default the answer. The other arguments are those of `load_run`.

    Raises RunError NS930 where the layer gives no map, and what `predict` raises.
    """
    run = load_run(run_dir, checkpoint_name=checkpoint_name, device=device, trust=trust, program=program)
    from netspec.runtime.data import preprocess_files

    index = class_index(target, run) if target is not None else None
    folder = Path(output) if output is not None else run.directory / "cam"
    samples = preprocess_files(run.program.recipe.data, [Path(path) for path in images], state=run.data_state)
    found: str | None = None
    names: set[str] = set()
    for name, sample in samples:
        inputs = model_inputs(run, sample, name)
        image = next((one for one in inputs if one.dim() == 4 and one.shape[1] in (1, 3)), None)
        if image is None:
            raise RunError("NS930", f"the model takes no image: {name} is {[list(one.shape) for one in inputs]}")
        with noted(run.program, run.model, run.directory), autocast(run.recipe.precision, run.device)():
            found = found or map_layer(run.model, inputs, layer)
            classes = None if index is None else torch.tensor([index], device=run.device)
            maps, scores = activation_maps(run.model, inputs, found, method, classes, lambda given: picked(given, run))
        stem = free_name(Path(name).stem, names)
        yield {
            "input": name,
            **described(scores[0].float().cpu(), run),
            "layer": found,
            **written(image, maps.float().cpu(), folder, stem),
        }


def model_inputs(run: TrainedModel, sample: dict[str, Tensor], name: str) -> tuple[Tensor, ...]:
    """What the model takes of one sample, as a batch of one. Raises RunError NS913 where a field is missing."""
    fields = list(run.recipe.inputs.values())
    missing = [field for field in fields if field not in sample]
    if missing:
        raise RunError("NS913", f"the model takes `{missing[0]}`, which {name} does not give")
    return tuple(sample[field].unsqueeze(0).to(run.device) for field in fields)


def picked(given: Any, run: TrainedModel) -> Tensor:
    """The scores among the model's outputs: those that the first loss takes."""
    scores: Tensor = given if isinstance(given, Tensor) else getattr(given, first_loss(run).inputs[0].name)
    return scores


def class_index(target: str, run: TrainedModel) -> int:
    """The number of a class by its name or number. Raises RunError NS930 where there is none."""
    names = [str(name) for name in class_names(run) or ()]
    if target in names:
        return names.index(target)
    if target.isdecimal() and (not names or int(target) < len(names)):
        return int(target)
    from netspec.suggest import suggest

    near = suggest(target, names)
    there = ", ".join(names[:12]) or "classes by number"
    raise RunError(
        "NS930", f"there is no class `{target}`", help=f"did you mean `{near}`?" if near else f"there are {there}"
    )


def written(image: Tensor, maps: Tensor, folder: Path, stem: str) -> dict[str, str]:
    """Write the picture and the numbers of one map. Raises RunError NS930 where they can't be written."""
    import numpy
    from PIL import Image

    plain = shown(image)
    factor = max(1, -(-LARGE // max(plain.shape[2:])))
    plain = plain.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    both = in_bytes(torch.cat([plain, overlay(plain, stretched(maps))], dim=3)[0])
    picture, numbers = folder / f"{stem}.png", folder / f"{stem}.npy"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(both.permute(1, 2, 0).numpy()).save(picture)
        numpy.save(numbers, maps[0].numpy())
    except OSError as error:
        raise RunError("NS930", f"{picture} cannot be written: {error.strerror}", help="choose another -o") from error
    return {"picture": str(picture), "map": str(numbers)}


def free_name(stem: str, taken: set[str]) -> str:
    """The name itself, or with a number where an image of that name came before."""
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name)
    return name
