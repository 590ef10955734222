"""What a run may have beside several processes: each is trained in one and in two, and ends with the same weights.

All runs of a number of processes are made by one group of them, as starting processes takes longer than these runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from several_support import BLOCKS, TRAIN, assert_close, one_group, together, weights, write_spec
from several_support import trained as trained_by
from test_unreadable import SPEC as PHOTOS
from test_unreadable import photos

from netspec.runtime import directory
from netspec.runtime.errors import RunError
from netspec.runtime.run import train

PLAIN: Final = TRAIN.replace("  ema: {decay: 0.9}\n", "")
SCHEDULER: Final = "  scheduler: {type: ReduceLROnPlateau, patience: 0, monitor: val.loss}\n"
OPTIMIZER: Final = "{type: SGD, lr: 0.1, momentum: 0.9}"
LBFGS: Final = (
    PLAIN.replace("epochs: 3", "epochs: 1")  # each update goes on from what the last one has rounded
    .replace(OPTIMIZER, "{type: LBFGS, lr: 0.5, max_iter: 3, line_search_fn: strong_wolfe}")
    .replace("  accumulate: 2\n", "")
    .replace("  clip_grad: 1.0\n", "")
    .replace(SCHEDULER, "")
)
SAMPLER: Final = (
    "train: {source: {type: NumPy, path: train.npz}, sampler: {type: WeightedRandomSampler, weights: [1, 5, 1]},"
)

DDP: Final[dict[str, str]] = {
    "cuda_graphs": PLAIN + "  cuda_graphs: true\n",
    "swa": PLAIN + "  swa: {start: {epochs: 1}, swa_lr: 0.05, evaluate: true}\n",
    "early_stopping": PLAIN + "  early_stopping: {monitor: val.loss, patience: 1, min_delta: 10}\n",
    "one_cycle": PLAIN.replace(SCHEDULER, "  scheduler: {type: OneCycleLR, max_lr: 0.2}\n"),
    "sampler": PLAIN.replace("train: {source: {type: NumPy, path: train.npz},", SAMPLER),
    "lbfgs": LBFGS,
    "fp16": PLAIN + "  precision: fp16\n",
}
AUTO: Final = PLAIN.replace("global_batch_size: 8", "batch_size: {max: 8}")
SPECS: Final[dict[str, str]] = {
    **DDP,
    **{f"{name}, fsdp": DDP[name] + "  distribute: fsdp\n" for name in ("early_stopping", "one_cycle", "sampler")},
    "batch_size": AUTO,
    "pruned": PLAIN,
}


def unreadable(folder: Path, limit: int) -> Path:
    """Images of which three are none, drawn anew in each epoch, without what differs between processes."""
    photos(folder)
    text = PHOTOS.replace("WORKERS", "0").replace("CACHE", "false").replace("LIMIT", str(limit))
    text = text.replace("    drop: {type: Dropout, p: 0.2}\n", "").replace("batch_size", "global_batch_size")
    text = text.replace("lr: 0.1", "lr: 1e-6")  # of bytes, which nothing has made smaller
    (folder / "spec.yaml").write_text(text, encoding="utf-8")
    return folder / "spec.yaml"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The folder of each spec, with its run in `one` process and in `two`, and what was said."""
    root = tmp_path_factory.mktemp("several")
    specs = {name: write_spec(root / name, model=BLOCKS, train=text) for name, text in SPECS.items()}
    for name, limit in (("unreadable", 3), ("too many", 2)):
        (root / name).mkdir()
        specs[name] = unreadable(root / name, limit)

    def work(count: int) -> int:
        for name, spec in specs.items():
            said: list[str] = []
            more: dict[str, Any] = {"prune": lambda row: row["epoch"] == 2} if name == "pruned" else {}
            set = {"data.batch_size": {"max": 4}} if name == "batch_size" and count == 2 else None
            folder = spec.parent / ("one" if count == 1 else "two")
            try:
                train(spec, run_dir=folder, set=set, progress="plain", say=said.append, **more)
            except RunError as error:
                said.append(error.message)
            (spec.parent / f"{folder.name}.{os.environ['RANK']}.json").write_text(json.dumps(said), encoding="utf-8")
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("netspec.runtime.run.draw_curves", lambda *_: None)
        patch.setattr("netspec.runtime.run.leave_report", lambda *_: None)
        for count in (1, 2):
            assert together(count, lambda count=count: one_group(lambda: work(count)), within=400) == [0] * count
    return {name: spec.parent for name, spec in specs.items()}


def said(folder: Path, run: str = "two", rank: int = 0) -> str:
    return "\n".join(json.loads((folder / f"{run}.{rank}.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", [*SPECS, "unreadable"])
def test_two_processes_end_as_one(trained: Mapping[str, Path], name: str) -> None:
    assert_close(trained[name] / "one", trained[name] / "two", 1e-3 if name == "fp16" else 2e-6)


def test_what_is_left_out_is_told_and_stopped_early(trained: Mapping[str, Path]) -> None:
    for name in ("early_stopping", "pruned"):
        rows = [directory.read_json(trained[name] / run / directory.SUMMARY) for run in ("one", "two")]
        assert rows[0]["epochs"] == rows[1]["epochs"] == 2
    assert rows[1]["status"] == "pruned"
    assert "`cuda_graphs` does not work here" in said(trained["cuda_graphs"])
    assert "`batch_size: auto` is 4 for each process: `max` is 4" in said(trained["batch_size"])
    assert "fsdp" in said(trained["one_cycle, fsdp"], "one") and "--nproc starts more" in said(
        trained["one_cycle, fsdp"], "one"
    )


def test_samples_that_no_process_can_read_are_counted_by_all(trained: Mapping[str, Path]) -> None:
    summaries = [directory.read_json(trained["unreadable"] / run / directory.SUMMARY) for run in ("one", "two")]
    assert summaries[0]["unreadable"] == summaries[1]["unreadable"] and len(summaries[1]["unreadable"]) == 3
    for rank in (0, 1):
        assert "3 samples can't be read, and `skip_unreadable` allows 2" in said(trained["too many"], rank=rank)
    assert weights(trained["too many"] / "two")  # what was trained before was saved


@pytest.mark.long
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_each_compiles(tmp_path: Path, backend: str) -> None:
    """With a loss whose count the processes ask each other for, in the pass that is tried as well."""
    text = PLAIN.replace("loss: CrossEntropyLoss", "loss: {type: CrossEntropyLoss, weight: [1.0, 5.0, 0.2]}")
    spec = write_spec(tmp_path, model=BLOCKS, train=text + f"  compile: {{backend: {backend}}}\n")
    for count, run in ((1, "one"), (2, "two")):
        assert trained_by(count, spec, tmp_path / run) == [0] * count
    assert_close(tmp_path / "one", tmp_path / "two")
