"""Weights that training starts with: read from a file or a run, renamed, held against the model, and loaded."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from netspec.recipe.read_tuning import TORCHVISION
from netspec.recipe.train import Weights
from netspec.runtime import checkpoint, directory
from netspec.runtime.errors import RunError

_COUNTERS: Final = ".num_batches_tracked"
"""Buffers that older files lack; they start from 0, as torch's own loading has it."""
_WRAPPERS: Final = ("state_dict", "model_state_dict", "model")
"""Under which key other programs keep the weights of a training state."""
_SHOWN: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How weights fit a model, by the model's names."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    """What the model has and the weights have not."""
    unexpected: tuple[str, ...]
    """What the weights have and the model has not."""
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    """Equal names whose shapes differ: that of the weights, that of the model."""
    skipped: tuple[str, ...]
    """What the spec leaves to start anew."""

    @property
    def complete(self) -> bool:
        return not (self.missing or self.unexpected or self.mismatched)

    def record(self) -> dict[str, Any]:
        """The same as JSON; of what is loaded the number."""
        return {
            "loaded": len(self.loaded),
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "mismatched": {name: [list(shape) for shape in shapes] for name, shapes in self.mismatched.items()},
            "skipped": list(self.skipped),
        }

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded"]
        if self.skipped:
            parts.append(f"{listed(self.skipped)} start anew")
        if self.missing:
            parts.append(f"missing: {listed(self.missing)}")
        if self.unexpected:
            parts.append(f"not used: {listed(self.unexpected)}")
        if self.mismatched:
            differ = [f"{name} ({list(a)}, the model has {list(b)})" for name, (a, b) in self.mismatched.items()]
            parts.append(f"other shapes: {listed(differ)}")
        return "; ".join(parts)


def load_weights(model: nn.Module, weights: Weights) -> Fit:
    """Load what a spec's `train.weights` names into a model, in place.

    Raises RunError NS915 where the weights cannot be had, NS940 where they do not fit: with `strict` every tensor of
    the model and of the file has to have its counterpart, but for what is skipped; without it one of them has to.
    """
    tensors = read(weights)
    given = renamed(tensors, weights.renames)
    own: dict[str, Tensor] = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    found = compare({name: tuple(value.shape) for name, value in given.items()}, own, weights.skip)
    if not found.loaded or (weights.strict and not found.complete):
        raise RunError(
            "NS940", f"the weights of {weights.source} do not fit the model: {found}", help=mend(found, given, own)
        )
    with torch.no_grad():
        for name in found.loaded:
            own[name].copy_(given[name])
    return found


def compare(given: Mapping[str, tuple[int, ...]], own: Mapping[str, Tensor], skip: Sequence[str]) -> Fit:
    """Hold shapes by name against a model's tensors by name."""
    skipped = {name for name in (*own, *given) if any(fnmatchcase(name, pattern) for pattern in skip)}
    for pattern in skip:
        if not any(fnmatchcase(name, pattern) for name in skipped):
            raise RunError("NS940", f"`skip: {pattern}` matches no weight of the model", help="`*` crosses dots")
    here = {name: tuple(value.shape) for name, value in own.items() if name not in skipped}
    there = {name: shape for name, shape in given.items() if name not in skipped}
    loaded = tuple(name for name, shape in here.items() if there.get(name) == shape)
    # Weights that are one have several names here, and any of them may stand in the file.
    filled = {own[name].data_ptr() for name in loaded if own[name].numel()}
    return Fit(
        loaded=loaded,
        missing=tuple(
            name
            for name in here
            if name not in there and not name.endswith(_COUNTERS) and own[name].data_ptr() not in filled
        ),
        unexpected=tuple(name for name in there if name not in here),
        mismatched={
            name: (there[name], shape) for name, shape in here.items() if name in there and there[name] != shape
        },
        skipped=tuple(name for name in own if name in skipped),
    )


def renamed(tensors: Mapping[str, Tensor], renames: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors under their new names. Raises RunError NS940 where two of them would bear the same."""
    found: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for key, value in tensors.items():
        name = key
        for old, new in renames.items():
            name = rename(name, old, new)
        if name in found:
            raise RunError("NS940", f"`renames` calls both `{origin[name]}` and `{key}` `{name}`")
        found[name], origin[name] = value, key
    return found


def rename(name: str, old: str, new: str) -> str:
    """A name that begins with `old` begins with `new`; where `old` has stars, it is the whole name that matches."""
    if "*" not in old:
        return new + name.removeprefix(old) if name.startswith(old) else name
    matched = re.fullmatch("(.*)".join(re.escape(part) for part in old.split("*")), name)
    if matched is None:
        return name
    parts = new.split("*")
    return parts[0] + "".join(group + part for group, part in zip(matched.groups(), parts[1:], strict=True))


def read(weights: Weights) -> Mapping[str, Tensor]:
    """The tensors by the names that their source gives them. Nothing in a file is run. Raises RunError NS915."""
    if weights.package is None and TORCHVISION.fullmatch(weights.source):
        return _torchvision(weights.source)
    path = Path(weights.source) if weights.package is None else _in_package(weights.package, weights.source)
    try:
        if path.is_dir():
            return checkpoint.load(_checkpoint(path)).model
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return _unwrapped(torch.load(path, map_location="cpu", weights_only=True), path)
    except FileNotFoundError as error:
        raise RunError(
            "NS915", f"there are no weights at {path}", help="a path is relative to the file that states it"
        ) from error
    except pickle.UnpicklingError as error:
        raise RunError(
            "NS915",
            f"{path} holds more than tensors, and netspec runs nothing that a file of weights holds",
            help="save them anew with `safetensors.torch.save_file(model.state_dict(), …)`",
        ) from error
    except RunError:
        raise
    except Exception as error:  # torch and safetensors raise what they like about bytes that are no weights
        raise RunError("NS915", f"{path} can't be read as weights: {error}") from error


def digest(weights: Weights) -> str | None:
    """The SHA-256 of the file, for the record; None for what is none."""
    path = Path(weights.source) if weights.package is None else _in_package(weights.package, weights.source)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _torchvision(name: str) -> Mapping[str, Tensor]:
    from torchvision.models import get_weight

    try:
        found: Mapping[str, Tensor] = get_weight(name).get_state_dict(check_hash=True)
    except (ValueError, KeyError) as error:
        raise RunError("NS915", f"torchvision has no weights `{name}`: {error}") from error
    except (OSError, RuntimeError) as error:
        raise RunError(
            "NS915",
            f"the weights {name} cannot be had: {error}",
            help="torchvision looks into `hub/checkpoints` below $TORCH_HOME before it downloads",
        ) from error
    return found


def _in_package(package: str, file: str) -> Path:
    """A file that an installed package ships. The package is not imported."""
    spec = find_spec(package) if package.isidentifier() else None
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not folders:
        raise RunError("NS915", f"the package {package} is not installed", help=f"pip install {package}")
    root = Path(folders[0]).resolve()
    path = (root / file).resolve()
    if not path.is_relative_to(root):
        raise RunError("NS915", f"{file} leads out of the package {package}")
    return path


def _checkpoint(folder: Path) -> Path:
    """The checkpoint that a folder is, or that the results of the run in it belong to, or its newest."""
    if (folder / checkpoint.MANIFEST).is_file():
        return folder
    run = directory.open_directory(folder)
    chosen = directory.read_json(run / directory.SUMMARY).get("checkpoint")
    if isinstance(chosen, str) and (path := run / directory.CHECKPOINTS / Path(chosen).name).is_dir():
        return path
    return checkpoint.choose(run / directory.CHECKPOINTS, None).path


def _unwrapped(found: Any, path: Path) -> Mapping[str, Tensor]:
    """The tensors of a file, which may be part of a training state."""
    for key in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    tensors = (
        {name: value for name, value in found.items() if isinstance(value, Tensor)}
        if isinstance(found, Mapping)
        else {}
    )
    if not tensors:
        raise RunError(
            "NS915",
            f"{path} holds no weights by name",
            help="a state_dict, alone or under `state_dict`, `model_state_dict` or `model`",
        )
    return tensors


def mend(found: Fit, given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """What to write so that the weights fit."""
    if not found.loaded:
        for name in found.unexpected:
            first, _, rest = name.partition(".")
            if rest in own:
                return f'`renames: {{{first}.: ""}}` takes the prefix off'
            for other in own:
                if other.endswith("." + name):
                    return f'`renames: {{"*": "{other.removesuffix(name)}*"}}` puts the prefix before each name'
        return "`renames: {old prefix: new prefix}` gives them the model's names"
    if found.mismatched:
        heads = sorted({name.rpartition(".")[0] + ".*" if "." in name else name for name in found.mismatched})
        return f"another head starts anew: `skip: [{', '.join(heads)}]`"
    if found.missing or found.unexpected:
        return (
            "`skip` names what starts anew or is not used, `renames` gives other names, `strict: false` takes what fits"
        )
    return "see `netspec explain NS940`"


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
