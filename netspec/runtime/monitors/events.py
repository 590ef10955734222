"""TensorBoard's event files of a run, opened with the first event: nothing is imported for a run that writes none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec

import torch
from torch import Tensor

from netspec.runtime.cut import whole
from netspec.runtime.monitors.event_file import EventFile

if TYPE_CHECKING:
    from tensorboard.compat.proto.graph_pb2 import GraphDef

FOLDER: Final = "tensorboard"
BINS: Final = 64
COUNTED: Final = 1_000_000
"""Of a tensor with more numbers every k-th counts in a histogram."""
THRESHOLDS: Final = 127
P = ParamSpec("P")


def _spared(write: Callable[Concatenate[Events, P], None]) -> Callable[Concatenate[Events, P], None]:
    """A method of `Events` that a disk's failure does not end the run through."""

    def spared(self: Events, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.broken:
            return
        try:
            write(self, *args, **kwargs)
        except OSError as error:
            self.broken = True
            for file in self._files.values():
                file.abandon()
            if self.warn is None:
                raise
            self.warn(f"TensorBoard's events could not be written: {error.strerror}; the run goes on without them")

    spared.__doc__ = write.__doc__
    return spared


class Events:
    """Writes below `folder/tensorboard`. step: where a resumed run stands; later events of a killed run are dropped.

    The files are for looking at: where they can't be written, on a full disk say, `warn` is told once, and no more are.
    """

    def __init__(self, folder: Path, step: int = 0, warn: Callable[[str], None] | None = None) -> None:
        self.folder = folder / FOLDER
        self.purge = step + 1 if step else None
        self._files: dict[str, EventFile] = {}
        self._writer: Any = None
        self.warn = warn
        self.broken = False
        """Whether nothing is written any more."""

    def writer(self) -> Any:
        """torch's `SummaryWriter`, for all that is not a scalar; it writes into the same file."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            file = self._file()

            class Writer(SummaryWriter):
                def _get_file_writer(self) -> EventFile:
                    vars(self).update(file_writer=file, all_writers={file.get_logdir(): file})
                    return file

            self._writer = Writer(file.get_logdir())
        return self._writer

    def _file(self, split: str = "") -> EventFile:
        """That of a split shows its figures beside those of the others, in one chart."""
        if split not in self._files:
            self._files[split] = EventFile(self.folder / split, self.purge)
        return self._files[split]

    @_spared
    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Figures of one moment."""
        self._file().scalars(values, step)

    @_spared
    def together(self, figures: Mapping[str, Mapping[str, float]], step: int) -> None:
        """Figures by split: those of one name are one chart, with a line for each split."""
        for split, values in figures.items():
            self._file(split).scalars(values, step)

    def histograms(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """One histogram each; they are counted where the tensors are, and read at once. Cut ones are put together for
        that, by all processes: so they are counted where nothing is written as well."""
        self._counted(read_histograms(tensors), step)

    @_spared
    def _counted(self, found: Mapping[str, Mapping[str, Any]], step: int) -> None:
        for name, counted in found.items():
            self.writer().add_histogram_raw(name, global_step=step, **counted)

    @_spared
    def picture(self, name: str, image: Tensor, step: int) -> None:
        """An image [3, H, W] of uint8."""
        self.writer().add_image(name, image.numpy(), step)

    @_spared
    def text(self, name: str, text: str, step: int) -> None:
        """Markdown."""
        self.writer().add_text(name, text, step)

    @_spared
    def graph(self, graph: GraphDef) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._file().add_event(Event(graph_def=graph.SerializeToString()))

    @_spared
    def pr_curve(self, name: str, true: Tensor, scores: Tensor, step: int) -> None:
        """true: whether each sample is of the class, [N]; scores: how probable the model finds it, [N], 0 to 1."""
        self.writer().add_pr_curve(name, true.int().numpy(), scores.numpy(), step, num_thresholds=THRESHOLDS)

    @_spared
    def embedding(self, name: str, rows: Tensor, labels: Sequence[str], images: Tensor | None, step: int) -> None:
        """rows [N, features] with a label each, and small images [N, 3, H, W] of floats from 0 to 1."""
        self.writer().add_embedding(rows, list(labels), images, step, name)

    @_spared
    def flush(self) -> None:
        for file in self._files.values():
            file.flush()

    @_spared
    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files, self._writer = {}, None


def unwritten(folder: Path) -> Events:
    """Events that only count, in a process that takes part in what another one writes."""
    made = Events(folder)
    made.broken = True
    return made


def read_histograms(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """The arguments of `add_histogram_raw` for each tensor. Numbers that are not finite are left out."""
    names, counted = [], []
    for name, tensor in tensors.items():
        if tensor.numel():
            names.append(name)
            counted.append(count(tensor))
    if not counted:
        return {}
    found = {}
    for name, row in zip(names, torch.stack(counted).cpu(), strict=True):
        low, high, number, total, squares = row[:5].tolist()
        if not number:
            continue
        edges = torch.linspace(low, high, BINS + 1, dtype=torch.float64)[1:] if high > low else torch.tensor([high])
        counts = row[5:] if high > low else torch.tensor([number])
        found[name] = {
            "min": low,
            "max": high,
            "num": number,
            "sum": total,
            "sum_squares": squares,
            "bucket_limits": edges.tolist(),
            "bucket_counts": counts.tolist(),
        }
    return found


def count(tensor: Tensor) -> Tensor:
    """[5 + BINS]: the least and the largest, how many, their sum and that of their squares, and the counts."""
    values = whole(tensor.detach()).flatten()
    if values.numel() > COUNTED:
        values = values[:: -(-values.numel() // COUNTED)]
    values = values.float()
    finite = values.isfinite()
    number = finite.sum()
    # Where there is one that is not finite, it counts as the mean of the rest would: it moves no bound.
    middle = torch.where(finite, values, 0).sum() / number.clamp(min=1)
    values = torch.where(finite, values, middle)
    low, high = values.aminmax()
    wide = values.double() if values.device.type != "mps" else values
    width = (high - low).clamp(min=torch.finfo(torch.float32).tiny)
    places = ((values - low) / width * BINS).long().clamp(0, BINS - 1)
    counts = torch.zeros(BINS, dtype=wide.dtype, device=values.device)
    counts.index_add_(0, places, finite.to(wide.dtype))
    sums = torch.stack([torch.where(finite, wide, 0).sum(), torch.where(finite, wide.square(), 0).sum()])
    return torch.cat([torch.stack([low, high, number]).to(wide.dtype), sums, counts])
