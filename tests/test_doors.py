"""One program, two doors: the live module and the emitted source are the same model, for every spec.

Beside the specs of the repository, random ones are drawn that are valid by construction; `pytest -m long` draws many.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from spec_strategies import specs

import netspec
from netspec.diagnostics import SpecError
from netspec.runtime.verify import emitted_class, example_inputs, same, verify

ROOT = Path(__file__).resolve().parent.parent
SPECS = sorted(
    file
    for file in (ROOT / "specs").rglob("*.yaml")
    if "blocks" not in file.parts and "\nextends:" not in file.read_text("utf-8")
)
"""Those with a model of their own: `test_zoo.py` takes the variants of a network."""
FEW = settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("file", SPECS, ids=lambda file: file.stem)
def test_both_doors_of_a_spec_are_equal(file: Path) -> None:
    assert verify(netspec.compile(file)) == []


def check(document: dict[str, Any]) -> None:
    """Compile a random document and hold its doors to each other."""
    try:
        found = verify(netspec.compile(document))
    except SpecError as error:
        found = [f"{d.span} {d.code} {d.message}" for d in error.diagnostics if d.severity == "error"]
    except Exception as error:
        # Raised again outside of here: a traceback through a temporary file would be another failure each time.
        found = [f"{type(error).__name__}: {error}", *traceback.format_exc().splitlines()[-12:]]
    assert not found, "\n".join(found)


@given(specs())
@FEW
def test_random_specs(document: dict[str, Any]) -> None:
    check(document)


@pytest.mark.long
@given(specs())
@MANY
def test_many_random_specs(document: dict[str, Any]) -> None:
    check(document)


def changes(made: type[torch.nn.Module]) -> Iterator[tuple[str, Any]]:
    """Other values for the arguments of a constructor: numbers, truth values, longer and shorter lists."""
    for name, parameter in inspect.signature(made).parameters.items():
        value = parameter.default
        if isinstance(value, bool):
            yield name, not value
        elif isinstance(value, int):
            yield name, value * 2
        elif isinstance(value, tuple) and value and all(isinstance(item, int) for item in value):
            yield from ((name, [item + 1 for item in value]), (name, [*value, value[-1]]), (name, list(value[:1])))


def check_arguments(document: dict[str, Any]) -> None:
    """An argument of the emitted constructor gives the model that the spec gives with this parameter."""
    made = emitted_class(netspec.compile(document))
    for name, value in changes(made):
        try:
            changed = netspec.compile({**document, "params": {**document["params"], name: value}})
        except SpecError:
            continue  # no model has this value
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            written = made(**{name: value}).eval()
        live = changed.module(0).eval()
        a, b = written.state_dict(), live.state_dict()
        assert list(a) == list(b), f"{name}={value}"
        assert all(same(a[key], b[key]) for key in a), f"{name}={value}"
        inputs = example_inputs(changed)
        with torch.no_grad():
            assert same(written(*inputs), live(*inputs)), f"{name}={value}"


@given(specs())
@settings(FEW, max_examples=60)
def test_constructor_arguments_of_random_specs(document: dict[str, Any]) -> None:
    check_arguments(document)


@pytest.mark.long
@given(specs())
@settings(MANY, max_examples=2000)
def test_constructor_arguments_of_many_random_specs(document: dict[str, Any]) -> None:
    check_arguments(document)


def test_source_of_random_specs_is_formatted_and_clean(tmp_path: Path) -> None:
    """What is emitted is as `ruff format` leaves it with its defaults, and `ruff check` has nothing to say."""

    @given(specs())
    @settings(FEW, max_examples=30)
    def write(document: dict[str, Any]) -> None:
        source = netspec.compile(document).source("random.yaml")
        (tmp_path / f"spec_{len(list(tmp_path.iterdir()))}.py").write_text(source, encoding="utf-8")

    write()
    for arguments in (("format", "--diff"), ("check", "--no-cache")):
        command = [sys.executable, "-m", "ruff", arguments[0], "--isolated", *arguments[1:], str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
