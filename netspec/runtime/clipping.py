"""Shorter gradients, before an update takes them."""

from __future__ import annotations

import torch

from netspec.recipe.train import ClipGrad


def clip(parameters: list[torch.nn.Parameter], rule: ClipGrad) -> None:
    """Shorten the gradients: all of them together to a norm, or each number to a range."""
    if rule.norm is not None:
        torch.nn.utils.clip_grad_norm_(parameters, rule.norm)
    if rule.value is not None:
        torch.nn.utils.clip_grad_value_(parameters, rule.value)
