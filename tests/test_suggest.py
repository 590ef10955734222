from __future__ import annotations

import pytest

from netspec.suggest import suggest

LAYERS = ["Conv1d", "Conv2d", "ConvTranspose2d", "BatchNorm2d", "Linear", "ReLU", "LeakyReLU", "flatten"]
ARGUMENTS = ["in_channels", "out_channels", "kernel_size", "stride", "padding", "bias"]


@pytest.mark.parametrize(
    ("word", "names", "meant"),
    [
        ("conv2d", LAYERS, "Conv2d"),
        ("Conv2D", LAYERS, "Conv2d"),
        ("Relu", LAYERS, "ReLU"),
        ("Lienar", LAYERS, "Linear"),
        ("BatchNorm", LAYERS, "BatchNorm2d"),
        ("Conv", LAYERS, "Conv1d"),
        ("kernal_size", ARGUMENTS, "kernel_size"),
        ("kernelsize", ARGUMENTS, "kernel_size"),
        ("channels_out", ARGUMENTS, "out_channels"),
        ("rl", ["momentum", "lr"], "lr"),
        ("stirde", ARGUMENTS, "stride"),
        ("x", ["y", "z"], None),
        ("Transformer", LAYERS, None),
        ("", LAYERS, None),
        ("anything", [], None),
    ],
)
def test_suggest(word: str, names: list[str], meant: str | None) -> None:
    assert suggest(word, names) == meant


def test_the_nearer_name_wins_over_the_earlier() -> None:
    assert suggest("Conv2s", LAYERS) == "Conv2d"
