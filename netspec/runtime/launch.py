"""`netspec train --nproc`: starts the processes of a run with torchrun's own machinery, and answers for them.

The agent of `torch.distributed.run` starts them, lets them find each other, ends the others where one is lost, and
starts all anew as often as it may. Signals are passed on to the processes, which save and end by themselves.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

from netspec.runtime import checkpoint, directory
from netspec.runtime.cores import lent_cores
from netspec.runtime.errors import RunError

LAUNCHED: Final = "NETSPEC_LAUNCH"
"""In the environment of a process that `netspec train --nproc` has started."""
PATIENCE: Final = 60
"""Seconds for which a process may save after it was asked to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What is started, by the names of torchrun's options."""

    nproc: str = "1"
    nnodes: str = "1"
    node_rank: int | None = None
    rdzv_endpoint: str = ""
    rdzv_id: str | None = None
    max_restarts: int = 0


def launch(rule: Launch, work: Callable[[Sequence[str]], int], argv: Sequence[str], where: Path) -> int:
    """Have each process call `work(argv)`, a function of a module, and return the exit code of them all.

    where: the folder of the run, or that of the runs of its name, for what is said when a process is lost.
    Raises RunError NS950 for options that can't be, NS951 where a process was lost.
    """
    os.environ.setdefault("LOGLEVEL", "CRITICAL")  # what went wrong is told here
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, launch_agent
    from torch.distributed.run import determine_local_world_size, parse_min_max_nnodes

    try:
        nproc, (least, most) = determine_local_world_size(rule.nproc), parse_min_max_nnodes(rule.nnodes)
    except (ValueError, RuntimeError) as error:
        raise RunError("NS950", f"--nproc {rule.nproc} --nnodes {rule.nnodes}: {error}") from error
    if most > 1 and not rule.rdzv_endpoint:
        raise RunError(
            "NS950",
            f"{most} machines find each other at an address, and none is given",
            help="--rdzv-endpoint HOST:29500, the same on each, where HOST is one of them",
        )
    name = rule.rdzv_id or (f"netspec-{uuid.uuid4().hex[:12]}" if most == 1 else "netspec")
    static = rule.node_rank is not None and most > 1
    # Older versions of torch have a patience of their own, of 30 seconds.
    patience: dict[str, Any] = {"shutdown_timeout": PATIENCE} if hasattr(LaunchConfig, "shutdown_timeout") else {}
    config = LaunchConfig(
        min_nodes=least,
        max_nodes=most,
        nproc_per_node=nproc,
        run_id=name,
        rdzv_backend="static" if static else "c10d",
        rdzv_endpoint=rule.rdzv_endpoint or "localhost:0",
        rdzv_configs={"rank": rule.node_rank} if static else {},
        max_restarts=rule.max_restarts,
        signals_to_handle="SIGHUP,SIGQUIT",
        **patience,
    )
    os.environ[LAUNCHED] = name
    # The store of the processes is theirs: in one that the agent keeps they would find those that were lost.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, lent_cores() // nproc)))
    for library in ("torch.distributed", "torch.multiprocessing"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    with passing_on() as told:
        try:
            codes = launch_agent(config, work, [list(argv)])
        except ChildFailedError as error:
            if told:
                return 128 + told[0]
            rank, failure = error.get_first_failure()
            raise lost(rank, failure.exitcode, name, where, rule) from None
    return max(code or 0 for code in codes.values())


@contextmanager
def passing_on() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM go to the processes, each of which answers as one alone does; the list holds what came."""
    told: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        told.append(number)
        children = multiprocessing.active_children()
        for child in children:
            if child.pid is not None:
                os.kill(child.pid, number)
        if not children:
            raise SystemExit(128 + number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def lost(rank: int, code: int, name: str, where: Path, rule: Launch) -> RunError:
    """The error that says which process was lost, and how the run goes on."""
    how = f"ended with exit code {code}"
    if code < 0:
        how = f"was killed by {signal.Signals(-code).name}"
    folders = [where, *where.glob("*/")]
    run = next((one for one in folders if directory.read_json(one / directory.SUMMARY).get("launch") == name), None)
    saved = checkpoint.stored(run / directory.CHECKPOINTS) if run is not None else []
    help = "nothing was saved yet: start the run anew"
    if saved:
        help = f"its last checkpoint is {saved[-1].path.name}: netspec train --resume {run} --nproc {rule.nproc}"
        help += "; any number of processes can go on with it"
    if code == -signal.SIGKILL:
        help += ". The system kills so where memory is short"
    return RunError("NS951", f"process {rank} {how}, and the others were ended", help=help)
