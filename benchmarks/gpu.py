"""Everything that needs a GPU, checked and measured in one call.

    python benchmarks/gpu.py [--quick]

Checks: both doors give the same bits on the device; digits trains there to its accuracy, in fp32 and in bf16; a run
that is cut and resumed ends with the weights of one that was not; between two points of the log no step waits for the
device; a process group of one gives the gradients of none. Measures, in alternating rounds, medians of the ratios:
images a second of ResNet-50 in bf16 and `channels_last`, plain and compiled, and the step of LeNet, each by `netspec
train` with its log and its look for numbers that are not finite against a loop by hand over torchvision's model or the
same layers, without; samples a second of LeNet with `cuda_graphs` against without, whose ratio has to be 2.

Without a GPU it says so and exits 0; `--device cpu` runs all but the graphs and the compiler on the CPU, where the
ratios meet no bar. `--quick` takes small models and few steps, to see that it works.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
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


def digits(folder: Path, device: str, **settings: Any) -> Any:
    """A run of specs/digits.yaml on the device."""
    overrides = {"train.device": device, **{f"train.{key}": value for key, value in settings.items()}}
    program = netspec.compile(SPECS / "digits.yaml", set=overrides)
    return netspec.train(program, run_dir=folder, progress="none")


def digits_learns(root: Path, device: str) -> bool:
    run = digits(root / "learns", device)
    accuracy = run.results["test"]["accuracy"]
    print(f"  digits on the device: test accuracy {accuracy:.4f} in {run.seconds:.1f} s")
    return bool(accuracy >= 0.985)


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
        program = netspec.compile(
            SPECS / "digits.yaml",
            set={
                "train.device": device,
                "train.epochs": 6,
                "train.scheduler": schedule,
            },
        )
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


def lenet_graphs(root: Path, rounds: int) -> float:
    """How many times as fast LeNet trains with `cuda_graphs`; the rounds alternate."""
    import numpy

    draw, images, said = numpy.random.default_rng(0), root / "images.npz", list[str]()
    pixels = draw.standard_normal((25600, 1, 28, 28)).astype("float32")
    numpy.savez(images, image=pixels, label=draw.integers(0, 10, 25600))
    ratios = []
    for turn in range(rounds):
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

    def ratio(self, rounds: int, device: str) -> float:
        """netspec's samples a second over those by hand."""
        import numpy

        arrays, ours, theirs = self.arrays(), list[float](), list[float]()
        with tempfile.TemporaryDirectory() as folder:
            numpy.savez(Path(folder) / "data.npz", **arrays)
            for turn in range(rounds):
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


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="small models and few steps")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("no GPU here: nothing was checked")
        return 0
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name() if args.device == 'cuda' else 'the CPU'}")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        checks: dict[str, Callable[[], bool]] = {
            "both doors agree on digits": lambda: doors_agree("digits", args.device),
            "both doors agree on imagenet/resnet18": lambda: doors_agree("imagenet/resnet18", args.device),
            "digits reaches 0.985": lambda: digits_learns(root, args.device),
            "bf16 trains": lambda: bf16_learns(root, args.device),
            "resuming is exact": lambda: resuming_is_exact(root, args.device),
            "no step waits for the device": lambda: keeps_going(root, args.device),
            "a process group of one": lambda: a_group_of_one(root, args.device),
        }
        for name, check in checks.items():
            try:
                good = check()
            except Exception as error:  # one broken check must not hide the others
                good = False
                print(f"  {type(error).__name__}: {error}")
            failed += not good
            print(f"{'ok    ' if good else 'FAILED'} {name}")
    for contest, bar in contests(args.device, args.quick):
        try:
            ratio = contest.ratio(1 if args.quick else args.rounds, args.device)
        except Exception as error:
            print(f"  {type(error).__name__}: {error}")
            ratio = 0.0
        good = ratio > 0 and (ratio >= bar or args.quick or args.device == "cpu")
        failed += not good
        print(f"{'ok    ' if good else 'FAILED'} {contest.name}: {ratio:.3f} x by hand ({bar:.2f} asked for)")
    if args.device == "cuda":
        with tempfile.TemporaryDirectory() as folder:
            ratio = lenet_graphs(Path(folder), args.rounds)
        failed += ratio < 2
        print(f"{'ok    ' if ratio >= 2 else 'FAILED'} LeNet with cuda_graphs: {ratio:.2f} times as fast (2 asked for)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
