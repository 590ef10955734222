"""Randomness that is a function of where it happens, and leaves torch's global generators as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_MASK = (1 << 64) - 1


def mix(*parts: int) -> int:
    """A 63-bit seed from integers; near inputs give unrelated seeds (the finaliser of SplitMix64 after each part)."""
    state = 0
    for part in parts:
        state = (state + part + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def generator(*parts: int) -> torch.Generator:
    """A private generator on the CPU, seeded by the mixed parts."""
    return torch.Generator().manual_seed(mix(*parts))


@contextmanager
def preserved(device: torch.device | None = None) -> Iterator[None]:
    """The global generator of the CPU, and of `device` where that is a GPU, are afterwards as they were before."""
    state = torch.get_rng_state()
    cuda_state = torch.cuda.get_rng_state(device) if device is not None and device.type == "cuda" else None
    try:
        yield
    finally:
        torch.set_rng_state(state)
        if cuda_state is not None and device is not None:
            torch.cuda.set_rng_state(cuda_state, device)


def reseed(seed: int, device: torch.device | None = None) -> None:
    """Seed the global generators for the transform that draws from them next. Only inside `preserved`."""
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)  # `cuda.manual_seed` is for the current device alone
