"""How long netspec takes to say whether a spec is good, against importing torch and building the same model by hand.

    python benchmarks/startup.py

Whole processes, each new, in interleaved rounds; medians. Only the ratios mean anything on another machine. Then
compiling against building: the first of a new process, after its imports, when no cache holds anything yet, and again
inside one process, where both have run before. Last, how the time of compiling grows with the number of layers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from math import log
from pathlib import Path
from statistics import median
from typing import Any

from children import environment

ROOT = Path(__file__).resolve().parent.parent
SPEC = ROOT / "specs" / "imagenet" / "resnet50.yaml"
DEEP = ROOT / "specs" / "imagenet" / "resnet152.yaml"
LARGEST_EXPONENT = 1.14
"""Twice the layers in at most 2.2 times the time."""
IMPORTS = """\
import importlib, pkgutil, netspec, yaml, fractions, netspec.compiler
for package in ("catalog", "recipe", "text", "schema", "plugin"):
    found = importlib.import_module(f"netspec.{package}")
    for module in pkgutil.iter_modules(found.__path__, f"netspec.{package}."):
        importlib.import_module(module.name)
"""
"""What a compile imports, most of it late; nothing is compiled by it."""
BYTECODE = tempfile.TemporaryDirectory()
NETSPEC = str(Path(sys.executable).with_name("netspec"))


def process(*argv: str) -> float:
    """Seconds that a new process takes."""
    start = time.perf_counter()
    subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, env=environment(BYTECODE.name))
    return time.perf_counter() - start


def first(imports: str, work: str) -> float:
    """Seconds of the processor that the first run of some work takes in a new process, after its imports."""
    code = f"import time\n{imports}\nstart = time.process_time()\n{work}\nprint(time.process_time() - start)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        env=environment(BYTECODE.name),
    )
    return float(done.stdout)


def interleaved(rounds: int, timed: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The median of each, measured in turn so that a slow moment of the machine hits all of them."""
    times: dict[str, list[float]] = {}
    for turn in range(rounds + 1):
        for name, measure in timed.items():
            found = measure()
            if turn:  # the first writes bytecode
                times.setdefault(name, []).append(found)
    return {name: median(measured) for name, measured in times.items()}


def report(name: str, ours: float, peer: str, theirs: float, target: float) -> bool:
    """Print one ratio; True where it is within its target."""
    ratio = ours / theirs
    good = ratio <= target
    print(f"{name:<42}{ours * 1e3:9.1f} ms")
    print(f"{peer:<42}{theirs * 1e3:9.1f} ms")
    print(f"{'':<8}ratio {ratio:.3f}, target {target} {'met' if good else 'MISSED'}\n")
    return good


def chain(count: int) -> dict[str, Any]:
    """A spec of that many layers, each written out."""
    layers = [{"type": "Linear", "out_features": 8} for _ in range(count)]
    return {"netspec": 1, "name": "chain", "model": {"inputs": {"x": ["N", 8]}, "layers": layers}}


def blocks(count: int) -> dict[str, Any]:
    """A spec of that many uses of one residual block, each written out."""
    residual = {
        "inputs": {"x": ["N", "C"]},
        "layers": {"norm": "LayerNorm", "fc": {"type": "Linear", "out_features": "$C"}, "sum": {"compute": "fc + x"}},
    }
    model = {"inputs": {"x": ["N", 8]}, "layers": [{"type": "Residual"} for _ in range(count)]}
    return {"netspec": 1, "name": "blocks", "blocks": {"Residual": residual}, "model": model}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds

    name, peer = f"netspec validate {SPEC.relative_to(ROOT)}", "python -c 'import torch'"
    process(NETSPEC, "validate", str(SPEC))  # the first run writes bytecode
    cold = interleaved(
        rounds,
        {
            name: lambda: process(NETSPEC, "validate", str(SPEC)),
            "netspec --help": lambda: process(NETSPEC, "--help"),
            peer: lambda: process(sys.executable, "-c", "import torch"),
        },
    )
    good = report(name, cold[name], peer, cold[peer], 0.2)
    good &= report("netspec --help", cold["netspec --help"], peer, cold[peer], 0.1)

    name, peer = f"first netspec.compile({DEEP.name})", f"first torchvision.models.{DEEP.stem}()"
    late = "the same, what it imports late included"
    fresh = interleaved(
        rounds,
        {
            name: lambda: first(IMPORTS, f"netspec.compile({str(DEEP)!r})"),
            late: lambda: first("import netspec", f"netspec.compile({str(DEEP)!r})"),
            peer: lambda: first(
                "import torch; from torchvision import models; torch.set_num_threads(1)", f"models.{DEEP.stem}()"
            ),
        },
    )
    good &= report(name, fresh[name], peer, fresh[peer], 0.1)
    print(f"{late:<42}{fresh[late] * 1e3:9.1f} ms\n")

    import torch
    from torchvision import models

    import netspec

    torch.set_num_threads(1)

    def timed(work: Callable[[], object]) -> Callable[[], float]:
        def measure() -> float:
            start = time.process_time()
            work()
            return time.process_time() - start

        return measure

    for spec in (SPEC, DEEP):
        name, peer = f"netspec.compile({spec.name}) again", f"torchvision.models.{spec.stem}() again"
        netspec.compile(spec)
        builder = partial(models.get_model, spec.stem)
        warm = interleaved(rounds, {name: timed(partial(netspec.compile, spec)), peer: timed(builder)})
        good &= report(name, warm[name], peer, warm[peer], 0.1)

    for what, make, counts in (("layers", chain, (2_500, 10_000)), ("blocks", blocks, (500, 2_000))):
        specs = {count: make(count) for count in counts}
        grown = interleaved(min(rounds, 3), {str(n): timed(partial(netspec.compile, s)) for n, s in specs.items()})
        few, many = (grown[str(count)] for count in counts)
        exponent = log(many / few) / log(counts[1] / counts[0])
        good &= exponent <= LARGEST_EXPONENT
        print(f"{f'{counts[1]:,} {what}, written out:':<42}{many * 1e3:9.1f} ms")
        print(f"{'':<8}grows as {what} ** {exponent:.2f}, target {LARGEST_EXPONENT}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
