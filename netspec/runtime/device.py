"""Where a model runs and in which number formats: device, threads, precision, and the note of the environment."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from netspec.recipe.train import Precision
from netspec.runtime.cores import lent_cores
from netspec.runtime.errors import RunError
from netspec.runtime.processes import ALONE, Processes

WORTH_A_THREAD: Final = 5e8
"""Floating-point operations of a training step, some 10 ms, for which a CPU thread pays; with less, handing over the
work costs more than it brings, and far more where other processes want the cores."""

Context = Callable[[], AbstractContextManager[Any]]


def choose_device(name: str, processes: Processes = ALONE) -> torch.device:
    """`auto` is the first GPU, else Apple's, else the CPU; a device by name has to exist.

    Each of several processes on a machine has the GPU of its own number. Raises RunError NS906, or NS952 where there
    are fewer GPUs than processes.
    """
    if processes.count > 1:
        name = _device_of(name, processes)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and ((device and device.index) or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if device is None or not available.get(device.type, False):
        have = [kind for kind, there in (("cuda", torch.cuda.is_available()), ("mps", available["mps"])) if there]
        raise RunError(
            "NS906",
            f"this machine has no device `{name}` that torch can use",
            help=f"`device: auto` takes the best there is; here: {', '.join([*have, 'cpu'])}",
        )
    return device


def at(device: torch.device) -> AbstractContextManager[Any]:
    """While it is open, a GPU that is named by its number is the one that torch takes where nothing names one: pinned
    memory, kernels of compilers, generators."""
    return torch.cuda.device(device) if device.type == "cuda" and device.index is not None else nullcontext()


def _device_of(name: str, processes: Processes) -> str:
    """The device of one of several processes: a GPU of its own, or the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return name
    if not name.startswith("cuda") or (":" in name and processes.local_count > 1):
        raise RunError(
            "NS952",
            f"`device: {name}` is one device, and {processes.local_count} processes train on this machine",
            help="`device: cuda` gives each process a GPU of its own; `device: cpu` has them all on the CPU",
        )
    if ":" in name or not torch.cuda.is_available():  # the latter has a message of its own
        return name
    there = torch.cuda.device_count()
    if processes.local_count > there:
        raise RunError(
            "NS952",
            f"{processes.local_count} processes on this machine want a GPU each, and it has {there}",
            help=f"--nproc {there}, or `--set train.device=cpu`",
        )
    return f"cuda:{processes.local_rank}"


def set_precision(precision: Precision, device: torch.device) -> None:
    """Say to torch what a float32 product on a GPU may be computed in. TF32 keeps 10 of 23 bits of each factor."""
    if device.type == "cuda":
        tf32 = precision != "fp32"
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32


def autocast(precision: Precision, device: torch.device) -> Context:
    """A function that opens the context for a forward pass: autocast for the 16-bit formats, nothing for the others."""
    if precision in ("fp32", "tf32"):
        return nullcontext
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return lambda: torch.autocast(device.type, dtype)


def make_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler | None:
    """fp16 has so small a range that gradients vanish without a factor; the other formats need none."""
    return torch.amp.GradScaler(device.type) if precision == "fp16" else None


@contextmanager
def threads_kept() -> Iterator[None]:
    """What is chosen within is torch's number of threads no longer than that: a run leaves no wish behind."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def set_threads(threads: int | None, device: torch.device, flops: Callable[[], float], *, among: int = 1) -> int:
    """Set torch's number of CPU threads and return it.

    Without a wish: one for each `WORTH_A_THREAD` operations of a step, and at least one; but not more than torch's own
    number, which `OMP_NUM_THREADS` sets, and than the cores lent. How busy the machine is does not count: two runs of a
    spec are to give the same bits. `flops` is asked for the operations of one step only where that matters. among: so
    many processes train on this machine, and share its cores and the step.
    """
    if threads is None:
        threads = min(torch.get_num_threads(), max(1, lent_cores() // among))
        if device.type == "cpu" and threads > 1:
            threads = max(1, min(threads, int(flops() / WORTH_A_THREAD)))
    torch.set_num_threads(threads)
    return threads


def step_flops(model: nn.Module, forward: Callable[[], object]) -> float:
    """About how many floating-point operations a training step takes: 6 per weight of each linear or convolution and
    output position, counted over one forward pass in evaluation mode, which leaves the model as it was."""
    total = 0.0

    def count(module: nn.Module, _: object, output: object) -> None:
        nonlocal total
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.dim() > 1 and isinstance(output, Tensor) and not _is_lookup(module):
            total += 6.0 * output.numel() * weight.numel() / weight.shape[0]

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    training = [module.training for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            forward()
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in zip(model.modules(), training, strict=True):
            module.training = mode
    return total


def _is_lookup(module: nn.Module) -> bool:
    return isinstance(module, nn.Embedding | nn.EmbeddingBag)


def environment(device: torch.device, threads: int, precision: Precision) -> Mapping[str, Any]:
    """What a figure of this run depends on beside the spec: versions, machine, device, threads."""
    from importlib.metadata import PackageNotFoundError, version

    packages = {}
    for package in (
        "netspec",
        "torch",
        "torchvision",
        "numpy",
        "safetensors",
        "scikit-learn",
        "pandas",
        "torchmetrics",
    ):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "packages": packages,
        "system": f"{platform.system()} {platform.machine()}",
        "device": str(device),
        "threads": threads,
        "cores": lent_cores(),
        "precision": precision,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
        found["cuda"] = torch.version.cuda
    return found
