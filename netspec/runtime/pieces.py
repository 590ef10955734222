"""Parts of tensors that several processes hold: taken from torch's `DTensor`s, written, found again, and joined.

A tensor is cut along one dimension, as `fully_shard` does it. In a checkpoint each process has a safetensors file of
its parts, whose header says where each begins, as torch's own distributed checkpoints in safetensors have it
(`torch.distributed.checkpoint.HuggingFaceStorageReader` reads them). Which file has which part of a tensor stands in an
index in JSON; torch's own is a pickle.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

OFFSETS: Final = "DCP_SHARDING_INFO"
"""Under which name torch looks in a header for where the tensors of the file begin."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What a process has of a tensor of that shape: from `start` on along `dim`; nothing where `tensor` has no rows."""

    tensor: Tensor
    shape: tuple[int, ...]
    dim: int
    start: int

    @property
    def length(self) -> int:
        return self.tensor.shape[self.dim]

    def copied(self) -> Piece:
        """The same with a copy on the CPU."""
        taken = self.tensor.detach()
        taken = taken.clone() if taken.device.type == "cpu" else taken.cpu()
        return Piece(taken, self.shape, self.dim, self.start)


def own_piece(value: Any) -> Piece | Tensor:
    """This process's piece of a `DTensor`, in the same memory; the whole of one that each process has.

    Raises TypeError for one that is cut in another way than along one dimension, in as many parts as there are
    processes, the last ones shorter.
    """
    mesh, placements = value.device_mesh, value.placements
    if len(placements) == 1 and placements[0].is_replicate():
        whole: Tensor = value.to_local()
        return whole
    if len(placements) != 1 or not placements[0].is_shard():
        raise TypeError(f"a checkpoint can't hold a tensor that is cut as {placements}")
    dim, shape, local = placements[0].dim, tuple(value.shape), value.to_local()
    each = -(-shape[dim] // mesh.size())
    start = min(mesh.get_local_rank() * each, shape[dim])
    expected = (*shape[:dim], min(each, shape[dim] - start), *shape[dim + 1 :])
    if tuple(local.shape) != expected:
        raise TypeError(f"a checkpoint can't hold a part of {tuple(local.shape)} of a tensor of {shape}")
    if not value.numel():
        return torch.empty(shape, dtype=value.dtype)
    return Piece(local, shape, dim, start)


def like(value: Any, target: Any) -> Any:
    """A whole tensor, or one in a checkpoint, cut as the `DTensor` target is; itself, read, where it is of another
    shape or the target is not cut. Nothing but this process's part is read, and nothing is asked of the others."""
    if not isinstance(value, Tensor | Kept):
        return value
    if not hasattr(target, "full_tensor") or tuple(value.shape) != tuple(target.shape):
        return value.read() if isinstance(value, Kept) else value
    if not target.numel():
        return target
    from torch.distributed.tensor import DTensor

    own = own_piece(target)
    if isinstance(own, Tensor):
        part = value.read() if isinstance(value, Kept) else value
    elif isinstance(value, Kept):
        part = value.part(own.dim, own.start, own.length)
    else:
        part = value.narrow(own.dim, own.start, own.length)
    return DTensor.from_local(
        part.to(target.device),
        target.device_mesh,
        target.placements,
        run_check=False,
        shape=target.shape,
        stride=target.stride(),
    )


def part_names(rank: int) -> tuple[str, str]:
    """The files of a process: its parts of the model, and of the state."""
    return f"model-{rank}.safetensors", f"state-{rank}.safetensors"


def write_pieces(path: Path, tensors: Mapping[str, Tensor | Piece], *, first: bool) -> dict[str, Any]:
    """Write what this process has of the tensors, and return where each lies: its entry in the index.

    The first process writes those that are not cut, as all have the same of them.
    """
    held: dict[str, Tensor] = {}
    places: dict[str, Any] = {}
    offsets: dict[str, Any] = {}
    for name, value in tensors.items():
        if isinstance(value, Piece):
            if not value.length:
                continue
            held[name] = value.tensor.contiguous()
            places[name] = {"shape": list(value.shape), "dim": value.dim, "start": value.start, "length": value.length}
            offsets[name] = [value.start if dim == value.dim else 0 for dim in range(len(value.shape))]
        elif first:
            held[name] = value.contiguous()
            places[name] = {"shape": list(value.shape)}
            offsets[name] = [0] * value.dim()
    info = {name: {"saved_offsets": start} for name, start in offsets.items()}
    save_file(held, path, metadata={"format": "pt", "DCP_VERSION": "1.0", OFFSETS: json.dumps(info)})
    return places


def indexed(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The index of what all processes have written, in the order of their ranks.

    Raises ValueError where that is not the whole of each tensor.
    """
    found: dict[str, Any] = {}
    for rank, places in enumerate(parts):
        for name, place in places.items():
            entry = found.setdefault(name, {"shape": place["shape"]})
            if "dim" in place:
                entry.setdefault("dim", place["dim"])
                entry.setdefault("pieces", []).append([rank, place["start"], place["length"]])
    for name, entry in found.items():
        _check_entry(name, entry)
    return found


def _check_entry(name: str, entry: Any) -> None:
    """Raises ValueError for an entry of an index whose pieces do not make a whole tensor, one after the other."""
    shape, dim, pieces = entry["shape"], entry.get("dim"), entry.get("pieces")
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError(f"`{name}` has no shape")
    if dim is None:
        return
    end, last = 0, -1
    for rank, start, length in pieces:
        if start != end or length <= 0 or rank <= last:
            raise ValueError(f"the parts of `{name}` do not follow one another")
        end, last = end + length, rank
    if end != shape[dim]:
        raise ValueError(f"parts of `{name}` are missing")


class Source:
    """The tensors of a file, or of the files of several processes, none of which is read before it is asked for.

    index: which process has what, for several files, in the order of their ranks.
    Raises ValueError, KeyError or SafetensorError where they are not what they should be, here and when one is read.
    """

    def __init__(self, files: list[Path], index: Mapping[str, Any] | None) -> None:
        self.files = files
        self.index = index
        self._open: dict[int, Any] = {}
        for name, entry in (index or {}).items():
            _check_entry(name, entry)

    def tensors(self) -> dict[str, Kept]:
        if self.index is None:
            file = self._file(0)
            return {name: Kept(self, name, tuple(file.get_slice(name).get_shape())) for name in file.keys()}  # noqa: SIM118
        return {name: Kept(self, name, tuple(entry["shape"])) for name, entry in self.index.items()}

    def read(
        self, name: str, shape: tuple[int, ...], dim: int = 0, start: int = 0, length: int | None = None
    ) -> Tensor:
        """A tensor of that shape, or a part of it, from its parts in the files."""
        entry = {} if self.index is None else self.index[name]
        if length is None and "dim" not in entry:
            whole: Tensor = self._file(0).get_tensor(name)
            return self._checked(name, whole, shape)
        if length == 0:
            return self.read(name, shape, dim, 0, 1).narrow(dim, 0, 0)
        cut, end, found = entry.get("dim", 0), shape[dim] if length is None else start + length, []
        for rank, first, size in entry.get("pieces", [[0, 0, shape[0]]]):
            low, high = (max(start - first, 0), min(end - first, size)) if dim == cut else (start, end)
            if low >= high:
                continue
            kept, here = self._file(rank).get_slice(name), [*shape[:cut], size, *shape[cut + 1 :]]
            if kept.get_shape() != here:
                raise ValueError(f"`{name}` has {kept.get_shape()} where {here} was written")
            found.append(kept[(*[slice(None)] * dim, slice(low, high))])
        joined = found[0] if len(found) == 1 else torch.cat(found, cut)
        return self._checked(name, joined, (*shape[:dim], end - start, *shape[dim + 1 :]))

    def _checked(self, name: str, value: Tensor, shape: tuple[int, ...]) -> Tensor:
        if tuple(value.shape) != shape:
            raise ValueError(f"`{name}` has {list(value.shape)} where {list(shape)} was written")
        return value

    def _file(self, rank: int) -> Any:
        if rank not in self._open:
            self._open[rank] = safe_open(self.files[rank], framework="pt")
        return self._open[rank]


@dataclass(frozen=True, slots=True)
class Kept:
    """A tensor in a checkpoint."""

    source: Source
    name: str
    shape: tuple[int, ...]

    def read(self) -> Tensor:
        return self.source.read(self.name, self.shape)

    def part(self, dim: int, start: int, length: int) -> Tensor:
        """What lies from `start` on along a dimension, in memory of its own; no more than that is read."""
        return self.source.read(self.name, self.shape, dim, start, length).clone()


def read_all(tree: Any) -> Any:
    """The tree with each tensor of a checkpoint read, whole."""
    if isinstance(tree, Kept):
        return tree.read()
    if isinstance(tree, Mapping):
        return {key: read_all(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(read_all(value) for value in tree)
    return tree
