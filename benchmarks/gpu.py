"""Everything that needs a GPU, checked and measured in one call.

    python benchmarks/gpu.py

Checks: both doors give the same bits on the device; digits trains there to its accuracy, in fp32 and in bf16; a run
that is cut and resumed ends with the weights of one that was not. Measures, interleaved in one process, medians:
images a second of ResNet-50 in bf16 and `channels_last`, ours against torchvision's; samples a second of LeNet with
`cuda_graphs` against without, whose ratio has to be 2. Without a GPU it says so and
exits 0; `--device cpu` runs the checks alone on the CPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

import netspec
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


def by_hand(model: nn.Module, image: torch.Tensor, label: torch.Tensor, steps: int) -> float:
    """Steps a second of a plain loop in bf16 over one resident batch."""
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)
    for warm in (5, steps):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(warm):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cuda", torch.bfloat16):
                loss = criterion(model(image), label)
            loss.backward()
            optimizer.step()
        torch.cuda.synchronize()
    return steps / (time.perf_counter() - start)


def resnet50_images(steps: int, rounds: int) -> tuple[float, float]:
    """Images a second of the emitted ResNet-50 and of torchvision's, `channels_last`, batch 128."""
    import torchvision

    image = torch.randn(128, 3, 224, 224, device="cuda").to(memory_format=torch.channels_last)
    label = torch.randint(0, 1000, (128,), device="cuda")
    program = netspec.compile(SPECS / "imagenet" / "resnet50.yaml")
    ours = emitted_module(program, 0).cuda().to(memory_format=torch.channels_last)
    theirs = torchvision.models.resnet50().cuda().to(memory_format=torch.channels_last)
    a, b = [], []
    for _ in range(rounds):
        a.append(by_hand(ours, image, label, steps) * 128)
        b.append(by_hand(theirs, image, label, steps) * 128)
    return median(a), median(b)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
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
        }
        for name, check in checks.items():
            try:
                good = check()
            except Exception as error:  # one broken check must not hide the others
                good = False
                print(f"  {type(error).__name__}: {error}")
            failed += not good
            print(f"{'ok    ' if good else 'FAILED'} {name}")
    if args.device == "cuda":
        ours, theirs = resnet50_images(args.steps, args.rounds)
        print(
            f"ResNet-50 bf16 channels_last: {ours:.0f} images/s, torchvision's {theirs:.0f}: ratio {ours / theirs:.3f}"
        )
        with tempfile.TemporaryDirectory() as folder:
            ratio = lenet_graphs(Path(folder), args.rounds)
        failed += ratio < 2
        print(f"{'ok    ' if ratio >= 2 else 'FAILED'} LeNet with cuda_graphs: {ratio:.2f} times as fast (2 asked for)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
