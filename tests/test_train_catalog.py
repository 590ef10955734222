"""The optimizers, schedulers and metrics of the catalog are those that the installed libraries have."""

from __future__ import annotations

import inspect

import pytest
import torch

from netspec import catalog
from netspec.catalog import REQUIRED, Entry, kinds
from netspec.catalog.versions import lacking

OPTIMIZERS = [
    name
    for name, value in vars(torch.optim).items()
    if isinstance(value, type) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
]
SCHEDULER = torch.optim.lr_scheduler.LRScheduler
SCHEDULERS = [
    name
    for name, value in vars(torch.optim.lr_scheduler).items()
    if isinstance(value, type) and issubclass(value, SCHEDULER) and not name.startswith("_") and value is not SCHEDULER
]


def test_every_optimizer_and_scheduler_of_torch_is_there() -> None:
    assert set(catalog.names("optimizer")) == set(OPTIMIZERS)
    assert set(catalog.names("scheduler")) == set(SCHEDULERS)


@pytest.mark.parametrize("name", [*OPTIMIZERS, *SCHEDULERS])
def test_arguments_and_defaults_are_those_of_torch(name: str) -> None:
    entry = catalog.lookup(name, "optimizer") or catalog.lookup(name, "scheduler")
    assert entry is not None
    factory = getattr(torch.optim, name, None) or getattr(torch.optim.lr_scheduler, name)
    expected = {
        parameter.name: REQUIRED if parameter.default is inspect.Parameter.empty else parameter.default
        for parameter in inspect.signature(factory).parameters.values()
        if parameter.name not in ("params", "optimizer", "last_epoch")
    }
    told = [argument for argument in entry.arguments if not lacking(argument.since, entry.target)]
    assert {argument.name: argument.default for argument in told} == expected
    assert [argument.name for argument in told] == list(expected)


@pytest.mark.parametrize("category", ["optimizer", "scheduler", "metric"])
def test_entries_are_complete(category: str) -> None:
    entries: list[Entry] = [e for n in catalog.names(category) if (e := catalog.lookup(n, category))]  # type: ignore[arg-type]
    assert entries
    for entry in entries:
        assert entry.doc.endswith(".")
        for argument in entry.arguments:
            assert argument.doc, f"{entry.name}.{argument.name}"
            assert kinds.describe(argument)
            if argument.default is not REQUIRED:
                assert kinds.accepts(argument, argument.default) is None, f"{entry.name}.{argument.name}"
