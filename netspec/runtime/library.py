"""Library models used whole: built with their weights, their children replaced, and looked at before that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self
from unittest.mock import patch

import torch
from torch import nn

from netspec.catalog import lookup
from netspec.catalog.models import FILES
from netspec.origins import untraced
from netspec.plugin.load import texts_of
from netspec.probing import Seen
from netspec.program import Call, Node, Program
from netspec.runtime import calls, probe
from netspec.runtime.errors import RunError


def make(call: Call, child: Callable[[Node], nn.Module]) -> nn.Module:
    """The model of a call; `child` makes the layers that take the place of its own.

    Raises RunError NS915 where its weights cannot be had.
    """
    assert call.whole is not None
    arguments = {name: untraced(argument.value) for name, argument in call.arguments.items()}
    weights = arguments.pop("weights", None)
    build = calls.resolve(call.entry.target)
    with weights_told():
        if weights is None:
            module = build(**arguments)
        elif weights.endswith(FILES):
            module = build(**arguments)
            module.load_state_dict(read_weights(weights))
        else:
            module = build(weights="DEFAULT" if weights == "default" else weights, **arguments)
    for path, node in call.whole.replaced.items():
        module.set_submodule(path, child(node))
    assert isinstance(module, nn.Module)
    return module


def read_weights(file: str) -> Mapping[str, torch.Tensor]:
    """The tensors of a file by name. Nothing in it is run."""
    if file.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(file)
    found: Mapping[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return found


@contextmanager
def weights_told() -> Iterator[None]:
    """Say in words why weights could not be had: no network and nothing in the cache, no such file, others' weights."""
    try:
        yield
    except OSError as error:  # urllib's errors are among them
        raise RunError(
            "NS915",
            f"the weights of a library's model cannot be had: {error}",
            help="torchvision looks into `hub/checkpoints` below $TORCH_HOME before it downloads; "
            "a file is named with `weights: path.safetensors`",
        ) from error
    except RuntimeError as error:
        if not str(error).startswith(("invalid hash value", "Error(s) in loading state_dict")):
            raise
        raise RunError("NS915", f"the weights of a library's model are not its own: {error}") from error


def uses_models(program: Program) -> bool:
    """Whether a program names a library's model."""
    return any(lookup(text, "model") is not None for text in texts_of(program.document))


class _Unread(dict[str, Any]):
    """Weights that nobody reads: others are loaded in their place."""


@contextmanager
def without_weights(program: Program) -> Iterator[None]:
    """Build a program's models without fetching their weights, for a checkpoint that holds all of them anyhow.

    A run can be evaluated where neither the network nor the file of the weights is.
    """
    if not uses_models(program):
        yield
        return
    import safetensors.torch
    from torchvision.models import WeightsEnum

    load_state_dict = nn.Module.load_state_dict

    def load(self: nn.Module, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
        return None if isinstance(state_dict, _Unread) else load_state_dict(self, state_dict, *args, **kwargs)

    unread = lambda *args, **kwargs: _Unread()  # noqa: E731
    with (
        patch.object(nn.Module, "load_state_dict", load),
        patch.object(WeightsEnum, "get_state_dict", unread),
        patch.object(safetensors.torch, "load_file", unread),
        patch.object(torch, "load", unread),
    ):
        yield


class Probe:
    """A model without storage, its children replaced, to be run on shapes."""

    def __init__(self, call: Call, settings: Mapping[str, Any]) -> None:
        from netspec.runtime.modules import child

        self.entry = call.entry
        key = probe._key(settings)
        with probe.quietly():
            self.module = probe._made(call.entry.target, key, "meta")
            with torch.device("meta"):
                for path, node in call.whole.replaced.items() if call.whole is not None else ():
                    self.module.set_submodule(path, child(node).eval())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        del self.module

    def run(self, types: Mapping[str, Any], watched: Sequence[str] = ()) -> Seen | str:
        """What it gives for inputs of these types."""
        return probe.look(self.entry, self.module, {}, types, watched, "meta")

    def parts(self) -> probe.Parts:
        """What it is made of."""
        return probe.describe(self.module)
