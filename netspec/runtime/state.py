"""Nested state as tensors and JSON: what an optimizer remembers, a generator's state, counters. Nothing is pickled.

`pack` takes a tree of dicts, lists, tuples, tensors and plain values apart into a mapping of tensors and a JSON value;
`unpack` puts it together again, with the same types and the same keys.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from netspec.runtime.pieces import Piece, own_piece


def pack(tree: Any) -> tuple[Any, dict[str, Any]]:
    """A JSON value and the tensors that it refers to, each under its path (`optimizer.state.fc.weight.exp_avg`).

    Pieces of tensors count as tensors.
    """
    tensors: dict[str, Any] = {}

    def visit(value: Any, path: str) -> Any:
        if isinstance(value, Tensor | Piece):
            name = path
            while name in tensors:  # keys may hold dots
                name += "'"
            tensors[name] = value
            return {"$tensor": name}
        if isinstance(value, Mapping):
            plain = all(isinstance(key, str) and not key.startswith("$") for key in value)
            items = [(key, visit(item, f"{path}.{key}" if path else str(key))) for key, item in value.items()]
            return dict(items) if plain else {"$dict": [list(item) for item in items]}
        if isinstance(value, list | tuple):
            found = [visit(item, f"{path}.{index}") for index, item in enumerate(value)]
            return {"$tuple": found} if isinstance(value, tuple) else found
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(f"{path}: a checkpoint can't hold a {type(value).__name__}")

    return visit(tree, ""), tensors


def unpack(value: Any, tensors: Mapping[str, Any]) -> Any:
    """The tree that `pack` took apart. Raises KeyError where a tensor is missing."""
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if isinstance(value, dict):
        if "$tensor" in value:
            return tensors[value["$tensor"]]
        if "$tuple" in value:
            return tuple(unpack(item, tensors) for item in value["$tuple"])
        if "$dict" in value:
            return {key: unpack(item, tensors) for key, item in value["$dict"]}
        return {key: unpack(item, tensors) for key, item in value.items()}
    return value


def copied(tree: Any) -> Any:
    """The tree with each tensor copied to the CPU: training goes on while the copy is written.

    Of one that is cut over the processes it is the piece of this one.
    """
    if hasattr(tree, "full_tensor"):
        own = own_piece(tree)
        return own.copied() if isinstance(own, Piece) else copied(own)
    if isinstance(tree, Tensor):
        return tree.detach().clone() if tree.device.type == "cpu" else tree.detach().cpu()
    if isinstance(tree, Mapping):
        return {key: copied(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(copied(value) for value in tree)
    return tree


class LooseBuffers:
    """The buffers that are not in the `state_dict` but change while the model is trained.

    Make it before anything is loaded or run: those that are as they were built then are built again by the next
    process. A counter or a cache that `forward` writes into is what remains.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.built = {name: (buffer, buffer._version) for name, buffer in self._all().items()}

    def _all(self) -> dict[str, Tensor]:
        kept = self.model.state_dict().keys()
        return {name: buffer for name, buffer in self.model.named_buffers() if name not in kept}

    def state(self) -> dict[str, Tensor]:
        """Those that have changed, by name."""
        found = {}
        for name, buffer in self._all().items():
            built, version = self.built.get(name, (None, 0))
            if buffer is not built or buffer._version != version:
                found[name] = buffer
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put saved ones back; a size may have changed since the model was built."""
        for name, value in state.items():
            path, _, last = name.rpartition(".")
            owner = self.model.get_submodule(path)
            buffer = getattr(owner, last)
            if isinstance(buffer, Tensor) and buffer.shape == value.shape and buffer.dtype == value.dtype:
                with torch.no_grad():
                    buffer.copy_(value)
            else:
                setattr(owner, last, value.to(buffer.device if isinstance(buffer, Tensor) else "cpu"))


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of every global generator that a layer may draw from."""
    version, internal, gauss = random.getstate()
    state: dict[str, Any] = {
        "cpu": torch.get_rng_state(),
        "python": [version, torch.tensor(internal, dtype=torch.int64), gauss],
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    if "numpy" in sys.modules:
        import numpy

        _, keys, position, has_gauss, cached = numpy.random.get_state(legacy=True)
        words = torch.from_numpy(numpy.asarray(keys, dtype="int64"))
        state["numpy"] = [words, int(position), int(has_gauss), float(cached)]
    return state


def restore_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Set the global generators. Do it last: what is built in between may draw from them."""
    torch.set_rng_state(state["cpu"])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal.tolist()), gauss))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    if device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])
    if "numpy" in state:
        import numpy

        keys, position, has_gauss, cached = state["numpy"]
        numpy.random.set_state(("MT19937", keys.numpy().astype("uint32"), position, has_gauss, cached))


def seed_everything(seed: int) -> None:
    """One seed for torch, Python's `random` and numpy's global generator, which layers and plugins may draw from."""
    import numpy

    torch.manual_seed(seed)
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
