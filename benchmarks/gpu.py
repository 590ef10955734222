"""Everything that needs a GPU, checked and measured in one call of at most ten minutes.

    python benchmarks/gpu.py [--quick] [--json gpu.json] [--limit 540]

Checks: both doors give the same bits on the device; digits trains there to its accuracy, in fp32 and in bf16; a run
that is cut and resumed ends with the weights of one that was not; between two points of the log no step waits for the
device; a process group of one gives the gradients of none. Measures, in alternating rounds, medians of the ratios:
images a second of ResNet-50 in bf16 and `channels_last`, plain and compiled, and the step of LeNet, each by `netspec
train` with its log and its look for numbers that are not finite against a loop by hand over torchvision's model or the
same layers, without; samples a second of LeNet with `cuda_graphs` against without, whose ratio has to be 2.

Each part stands alone: what fails is told, and the others go on. After `--limit` seconds none is begun, and those that
remain are `left out`, which is no success. The end is a table of figure, bar and verdict, and the same as one line of
JSON, which `--json` writes after each part as well.

Nothing is downloaded. On a machine that has torch with what torch itself needs (Jinja2, networkx), torchvision,
numpy and PyYAML, and no network, bring the rest in a folder, made elsewhere for its version of Python:

    pip install --target carried --only-binary=:all: --python-version 3.12 --no-deps \\
        absl-py attrs contourpy cycler fonttools grpcio jsonschema jsonschema-specifications kiwisolver markdown \\
        markdown-it-py matplotlib mdurl packaging protobuf pygments pyparsing python-dateutil referencing rich \\
        rpds-py safetensors six tensorboard werkzeug
    PYTHONPATH=carried:. python benchmarks/gpu.py

Without scikit-learn, and its digits, the checks that train take ten drawn patterns under noise instead.

Without a GPU it says so and exits 0; `--device cpu` runs all but the graphs and the compiler on the CPU, where the
ratios meet no bar. `--quick` takes small models and few steps, to see that it works.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch
from torch import nn

import netspec
from netspec.runtime.data.streams import Stream
from netspec.runtime.verify import emitted_module, example_inputs, same

SPECS = Path(__file__).resolve().parent.parent / "specs"


def doors_agree(name: str, device: str) -> bool:
    """Both doors, the same weights, the same outputs on the device."""
    program = netspec.compile(SPECS / f"{name}.yaml")
    live, written = program.module(seed=0).to(device).eval(), emitted_module(program, 0).to(device).eval()
    inputs = [tensor.to(device) for tensor in example_inputs(program)]
    with torch.no_grad():
        return same(live(*inputs), written(*inputs))


def digits_program(folder: Path, device: str, **settings: Any) -> netspec.Program:
    """specs/digits.yaml for the device, on drawn patterns where there is no scikit-learn to bring its images."""
    overrides = {"train.device": device, **{f"train.{key}": value for key, value in settings.items()}}
    if find_spec("sklearn") is None:
        overrides["data.source"] = {"type": "NumPy", "path": str(drawn_digits(folder.parent / "drawn.npz"))}
    return netspec.compile(SPECS / "digits.yaml", set=overrides)


def drawn_digits(path: Path) -> Path:
    """As many images as scikit-learn's digits are, of ten patterns under noise."""
    import numpy

    if not path.exists():
        draw = numpy.random.default_rng(0)
        labels = numpy.arange(1797) % 10
        images = draw.standard_normal((10, 1, 8, 8))[labels] + 0.5 * draw.standard_normal((1797, 1, 8, 8))
        numpy.savez(path, image=images.astype("float32"), label=labels)
    return path


def digits(folder: Path, device: str, **settings: Any) -> Any:
    """A run of specs/digits.yaml on the device."""
    return netspec.train(digits_program(folder, device, **settings), run_dir=folder, progress="none")


def digits_learns(root: Path, device: str) -> float:
    """The test accuracy."""
    return float(digits(root / "learns", device).results["test"]["accuracy"])


def bf16_learns(root: Path, device: str) -> bool:
    return bool(digits(root / "bf16", device, precision="bf16").results["test"]["accuracy"] >= 0.98)


def resuming_is_exact(root: Path, device: str) -> bool:
    """Half a run, then the rest from its checkpoint, against a run in one go; deterministic kernels on both sides."""
    from safetensors.torch import load_file

    schedule = {"type": "CosineAnnealingLR", "T_max": 6}
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        whole = digits(root / "whole", device, epochs=6)
        # The schedule spans six epochs in both; the first run is cut after three.
        digits(root / "cut", device, epochs=3, scheduler=schedule)
        program = digits_program(root / "cut", device, epochs=6, scheduler=schedule)
        resumed = netspec.train(program, resume=root / "cut", progress="none")
    finally:
        torch.use_deterministic_algorithms(False)
    a, b = (load_file(run.checkpoint / "model.safetensors") for run in (whole, resumed))
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


LENET = [
    {"type": "Conv2d", "out_channels": 6, "kernel_size": 5, "padding": 2},
    "ReLU",
    {"type": "MaxPool2d", "kernel_size": 2},
    {"type": "Conv2d", "out_channels": 16, "kernel_size": 5},
    "ReLU",
    {"type": "MaxPool2d", "kernel_size": 2},
    "Flatten",
    {"type": "Linear", "out_features": 120},
    "ReLU",
    {"type": "Linear", "out_features": 84},
    "ReLU",
    {"type": "Linear", "out_features": 10},
]


def lenet_rate(root: Path, images: Path, name: str, said: list[str], **settings: Any) -> float:
    """Samples a second of LeNet on resident images, batch 64: the median of the epochs after the first."""
    spec = {
        "netspec": 1,
        "name": "lenet",
        "model": {"inputs": {"image": ["N", 1, 28, 28]}, "layers": LENET, "outputs": {"scores": "11"}},
        "data": {"train": {"source": {"type": "NumPy", "path": str(images)}}, "batch_size": 64},
        "train": {
            "epochs": 6,
            "loss": {"type": "CrossEntropyLoss", "from": ["scores", "label"]},
            "optimizer": {"type": "SGD", "lr": 0.01, "momentum": 0.9},
            "device": "cuda",
            "tensorboard": False,
            **settings,
        },
    }
    run = netspec.train(netspec.compile(spec), run_dir=root / name, progress="none", say=said.append)
    return median(row["samples_per_second"] for row in run.history[1:])


def lenet_graphs(root: Path, rounds: Iterable[int]) -> float:
    """How many times as fast LeNet trains with `cuda_graphs`; the rounds alternate."""
    import numpy

    draw, images, said = numpy.random.default_rng(0), root / "images.npz", list[str]()
    pixels = draw.standard_normal((25600, 1, 28, 28)).astype("float32")
    numpy.savez(images, image=pixels, label=draw.integers(0, 10, 25600))
    ratios = []
    for turn in rounds:
        eager = lenet_rate(root, images, f"eager{turn}", said)
        recorded = lenet_rate(root, images, f"recorded{turn}", said, cuda_graphs=True)
        ratios.append(recorded / eager)
    for line in said:
        print(f"  {line}")
    return median(ratios)


def keeps_going(root: Path, device: str) -> bool:
    """Steps 23 to 36 of a run, between two points of the log, with an error for every wait for the device."""
    real = Stream.batches

    def watched(self: Stream, epoch: int, start: int = 0) -> Iterator[dict[str, torch.Tensor]]:
        for number, batch in enumerate(real(self, epoch, start), start):
            if self.name == "train" and epoch == 1 and device == "cuda":  # the twenty steps before have warmed up
                torch.cuda.set_sync_debug_mode("error" if 2 <= number < 16 else "default")
            yield batch

    try:
        with mock.patch.object(Stream, "batches", watched):
            return bool(digits(root / "going", device, epochs=2, log_every=50).status == "finished")
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def a_group_of_one(root: Path, device: str) -> bool:
    """DistributedDataParallel over one process, by nccl or gloo, against the module alone."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    program = netspec.compile(SPECS / "digits.yaml")
    alone, inner = (emitted_module(program, 0).to(device).eval() for _ in range(2))
    images = torch.randn(16, 1, 8, 8, device=device)
    store = f"file://{root / 'group'}"
    dist.init_process_group("nccl" if device == "cuda" else "gloo", init_method=store, rank=0, world_size=1)
    try:
        together = DistributedDataParallel(inner, device_ids=[0] if device == "cuda" else None)
        for module in (alone, together):
            module(images).square().mean().backward()
    finally:
        dist.destroy_process_group()
    pairs = zip(alone.parameters(), inner.parameters(), strict=True)
    return all(a.grad is not None and b.grad is not None and torch.allclose(a.grad, b.grad) for a, b in pairs)


class Stretch:
    """Times so many steps, after some that warm up; the device is waited for at both ends, and not in between."""

    def __init__(self, warm: int, steps: int, device: str) -> None:
        self.warm, self.steps, self.device = warm, steps, device
        self.number = 0
        self.begin = self.seconds = 0.0

    def watch(self, batches: Iterable[Any]) -> Iterator[Any]:
        for batch in batches:
            if self.number in (self.warm, self.warm + self.steps):
                if self.device == "cuda":
                    torch.cuda.synchronize()
                now = time.perf_counter()
                self.begin, self.seconds = (now, 0.0) if self.number == self.warm else (self.begin, now - self.begin)
            self.number += 1
            yield batch


@dataclass(frozen=True)
class Contest:
    """One training, by netspec and by hand. module: what is trained by hand."""

    name: str
    layers: dict[str, Any]
    """What of the spec says the model."""
    module: Callable[[], nn.Module]
    shape: tuple[int, ...]
    """Of an image."""
    batch: int
    batches: int
    precision: str
    compile: bool
    warm: int
    steps: int

    def arrays(self) -> dict[str, Any]:
        import numpy

        draw = numpy.random.default_rng(0)
        samples = self.batch * self.batches
        images = draw.standard_normal((samples, *self.shape), dtype="float32")
        return {"image": images, "label": draw.integers(0, 10, samples)}

    def by_netspec(self, root: Path, device: str) -> float:
        """Samples a second of a run."""
        spec = {
            "netspec": 1,
            "name": "contest",
            **self.layers,
            "data": {"train": {"source": {"type": "NumPy", "path": str(root / "data.npz")}}, "batch_size": self.batch},
            "train": {
                "steps": self.warm + self.steps + 1,
                "loss": "CrossEntropyLoss",
                "optimizer": {"type": "SGD", "lr": 0.01, "momentum": 0.9},
                "device": device,
                "precision": self.precision,
                "compile": self.compile,
            },
        }
        stretch, real = Stretch(self.warm, self.steps, device), Stream.batches

        def watched(self: Stream, epoch: int, start: int = 0) -> Iterator[dict[str, torch.Tensor]]:
            return stretch.watch(real(self, epoch, start))

        program = netspec.compile(spec)
        with tempfile.TemporaryDirectory() as place, mock.patch.object(Stream, "batches", watched):
            netspec.train(program, run_dir=Path(place) / "run", progress="none")
        return self.batch * self.steps / stretch.seconds

    def by_hand(self, arrays: dict[str, Any], device: str) -> float:
        """Samples a second of a loop with all that makes it fast, and nothing else."""
        images, labels = (torch.from_numpy(arrays[name]).to(device) for name in ("image", "label"))
        model = self.module().to(device)
        if device == "cuda":
            model = model.to(memory_format=torch.channels_last)
        if self.compile:
            model = torch.compile(model)  # type: ignore[assignment]
        criterion = nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)
        stretch = Stretch(self.warm, self.steps, device)
        total = torch.zeros((), device=device)

        def drawn() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            while True:
                for places in torch.randperm(len(images), device=device).split(self.batch):
                    chosen = images.index_select(0, places)
                    if device == "cuda":
                        chosen = chosen.to(memory_format=torch.channels_last)
                    yield chosen, labels.index_select(0, places)

        for image, label in stretch.watch(drawn()):
            if stretch.seconds:
                break
            with torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16"):
                loss = criterion(model(image), label)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += loss.detach()
        return self.batch * self.steps / stretch.seconds

    def ratio(self, rounds: Iterable[int], device: str) -> float:
        """netspec's samples a second over those by hand."""
        import numpy

        arrays, ours, theirs = self.arrays(), list[float](), list[float]()
        with tempfile.TemporaryDirectory() as folder:
            numpy.savez(Path(folder) / "data.npz", **arrays)
            for turn in rounds:
                for mine in (True, False) if turn % 2 else (False, True):
                    if mine:
                        ours.append(self.by_netspec(Path(folder), device))
                    else:
                        theirs.append(self.by_hand(arrays, device))
        ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
        print(f"  {self.name}: {median(ours):.0f} samples/s, by hand {median(theirs):.0f}")
        return ratio


def contests(device: str, quick: bool) -> list[tuple[Contest, float]]:
    """What is measured, and the least ratio."""
    import torchvision

    lenet = {"model": {"inputs": {"image": ["N", 1, 28, 28]}, "layers": LENET}}
    found = [
        (
            Contest(
                name="LeNet",
                layers=lenet,
                module=lambda: netspec.compile({"netspec": 1, "name": "lenet", **lenet}).module(seed=0),
                shape=(1, 28, 28),
                batch=64,
                batches=4 if quick else 100,
                precision="fp32",
                compile=False,
                warm=5 if quick else 150,  # the first epoch ends with the imports of TensorBoard
                steps=4 if quick else 1000,
            ),
            1 / 1.02,
        )
    ]
    name, side, batch = ("resnet18", 64, 4) if quick else ("resnet50", 224, 128)
    deep = {
        "extends": str(SPECS / "imagenet" / f"{name}.yaml"),
        "params": {"num_classes": 10},
        "model": {"inputs": {"image": ["N", 3, side, side]}},
    }
    for compiled in (False, True) if device == "cuda" else (False,):
        contest = Contest(
            name=f"{name} bf16 channels_last{' compiled' if compiled else ''}",
            layers=deep,
            module=lambda: torchvision.models.get_model(name, num_classes=10),
            shape=(3, side, side),
            batch=batch,
            batches=4 if quick else 16,
            precision="bf16",
            compile=compiled,
            warm=5 if quick else 20,
            steps=4 if quick else 60,
        )
        found.append((contest, 0.98))
    return found


@dataclass
class Row:
    """What a part came to."""

    part: str
    figure: float | None
    bar: float | None
    verdict: str
    seconds: float
    note: str = ""


@dataclass
class Table:
    """Runs the parts one by one, each by itself, and keeps what they came to."""

    limit: float
    path: Path | None
    machine: dict[str, str]
    began: float = field(default_factory=time.monotonic)
    rows: list[Row] = field(default_factory=list)

    @property
    def spent(self) -> float:
        return time.monotonic() - self.began

    def rounds(self, count: int) -> Iterator[int]:
        """0, 1, … as long as another round, as long as the longest so far, is over in time; one at least."""
        longest = 0.0
        for turn in range(count):
            if turn and self.spent + longest > self.limit:
                return
            begin = time.monotonic()
            yield turn
            longest = max(longest, time.monotonic() - begin)

    def part(self, name: str, work: Callable[[], float], bar: float | None = None, *, judged: bool = True) -> None:
        """Run a part. Its figure has to reach the bar, or without one not to be 0; else it is `measured`."""
        begin = time.monotonic()
        if self.spent > self.limit:
            self._add(Row(name, None, bar, "left out", 0.0, f"{self.limit:.0f} s were over"))
            return
        try:
            figure = float(work())
            good = figure > 0 and (bar is None or figure >= bar)
            verdict = ("ok" if good else "FAILED") if judged else "measured"
            self._add(Row(name, figure, bar, verdict, time.monotonic() - begin))
        except Exception as error:  # one broken part must not hide the others
            note = f"{type(error).__name__}: {error}"
            self._add(Row(name, None, bar, "FAILED", time.monotonic() - begin, note))
        gc.collect()  # what a run that failed has left on the device
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        print(f"{row.verdict:8} {row.part} ({row.seconds:.1f} s) {row.note}", flush=True)
        if self.path is not None:
            self.path.write_text(self.json() + "\n", encoding="utf-8")

    def json(self) -> str:
        rows = [{**asdict(row), "seconds": round(row.seconds, 1)} for row in self.rows]
        return json.dumps({**self.machine, "seconds": round(self.spent, 1), "parts": rows})

    def show(self) -> None:
        width = max(len(row.part) for row in self.rows)
        print(f"\n{'part':{width}}  {'figure':>9}  {'bar':>6}  verdict")
        for row in self.rows:
            figure, bar = ("-" if value is None else f"{value:.4g}" for value in (row.figure, row.bar))
            print(f"{row.part:{width}}  {figure:>9}  {bar:>6}  {row.verdict}")
        print(self.json(), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="small models and few steps")
    parser.add_argument("--json", type=Path, help="a file for the figures, written after each part")
    parser.add_argument("--limit", type=float, default=540, help="seconds after which no part is begun")
    args = parser.parse_args()
    device: str = args.device
    if device == "cuda" and not torch.cuda.is_available():
        print("no GPU here: nothing was checked")
        return 0
    name = torch.cuda.get_device_name() if device == "cuda" else "the CPU"
    print(f"torch {torch.__version__}, {name}", flush=True)
    table = Table(args.limit, args.json, {"torch": torch.__version__, "device": name})
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        checks: dict[str, Callable[[], bool]] = {
            "both doors agree on digits": lambda: doors_agree("digits", device),
            "both doors agree on imagenet/resnet18": lambda: doors_agree("imagenet/resnet18", device),
            "bf16 trains": lambda: bf16_learns(root, device),
            "resuming is exact": lambda: resuming_is_exact(root, device),
            "no step waits for the device": lambda: keeps_going(root, device),
            "a process group of one": lambda: a_group_of_one(root, device),
        }
        table.part("digits: test accuracy", lambda: digits_learns(root, device), 0.985)
        for name, check in checks.items():
            table.part(name, check)
    rounds, judged = 1 if args.quick else args.rounds, device == "cuda" and not args.quick
    if device == "cuda":  # before the longest parts
        with tempfile.TemporaryDirectory() as folder:
            work = partial(lenet_graphs, Path(folder), table.rounds(rounds))
            table.part("LeNet with cuda_graphs, times as fast", work, 2)
    for contest, bar in contests(device, args.quick):
        work = partial(contest.ratio, table.rounds(rounds), device)
        table.part(f"{contest.name}, times by hand", work, bar, judged=judged)
    table.show()
    return 0 if all(row.verdict in ("ok", "measured") for row in table.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
