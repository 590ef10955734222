"""The words for how a run is made fast: what `torch.compile` may be told."""

from __future__ import annotations

from typing import Final

MODES: Final = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
"""What inductor may optimise for."""
GRAPHED: Final = ("reduce-overhead", "max-autotune")
"""Modes in which inductor records CUDA graphs of its own."""
BACKENDS: Final = ("inductor", "aot_eager", "cudagraphs", "eager", "openxla", "tvm")
"""Compilers that torch knows by name; an installed package may bring more."""
