"""`netspec.load`: a trained run for plain Python, called on tensors or asked about files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netspec.program import Program
from netspec.runtime.card import card
from netspec.runtime.device import autocast, choose_device
from netspec.runtime.evaluate import TrainedModel, load_run
from netspec.runtime.generate import TOKENS, Drawing, write
from netspec.runtime.notes import noted
from netspec.runtime.predict import class_names, predictions


class Trained:
    """A run's model with its weights, on its device, in evaluation mode.

    `model` is the module itself; a call of this object applies it to tensors without gradients and in the precision of
    the spec. `classes` are the names of the classes, None for a model that tells none apart.
    """

    def __init__(self, run: TrainedModel) -> None:
        self.run = run

    @property
    def model(self) -> nn.Module:
        return self.run.model

    @property
    def device(self) -> torch.device:
        return self.run.device

    @property
    def program(self) -> Program:
        return self.run.program

    @property
    def checkpoint(self) -> Path:
        return self.run.checkpoint

    @property
    def classes(self) -> tuple[str, ...] | None:
        found = class_names(self.run)
        return tuple(found) if found is not None else None

    @property
    def card(self) -> dict[str, Any]:
        """Inputs, outputs, preprocessing and classes, as an export of it holds them."""
        return card(self.run)

    def to(self, device: str) -> Trained:
        """The same on another device; the module is moved. Raises RunError NS906 where there is no such device."""
        where = choose_device(device)
        return Trained(replace(self.run, model=self.model.to(where), device=where))

    def __call__(self, *inputs: Tensor) -> Any:
        """What the model gives for a batch of each of its inputs, ready for it; a tensor, or a named tuple of them."""
        context = autocast(self.run.recipe.precision, self.device)
        with noted(self.program, self.model, self.run.directory), torch.no_grad(), context():
            return self.model(*[value.to(self.device) for value in inputs])

    def preprocess(self, inputs: Any) -> Tensor:
        """The model's first input for files, images or rows, [N, …] on the device: what `predict` gives to the model.

        Raises RunError NS92x where one can't be read, NS923 where their shapes differ.
        """
        from netspec.runtime.data.pipeline import collate

        field = next(iter(self.run.recipe.inputs.values()))
        samples = [({field: fields[field]}, name) for name, fields in self._samples(inputs)]
        batch = collate([sample for sample, _ in samples], lambda index: samples[index][1])
        return batch[field].to(self.device)

    def predict(self, inputs: Any, *, batch_size: int = 64) -> list[dict[str, Any]]:
        """A prediction for each, as `netspec predict` prints them: `prediction`, and of a classifier `class` and
        `probabilities` by name.

        inputs: a path or a list of them (images, folders, CSV files, .npy, .npz); or PIL images, or arrays, uint8
        [H, W] or [H, W, C], or rows of numbers. One image or row by itself is a list of one. They go through the
        transforms of the evaluation data first.
        """
        return list(predictions(self.run, self._samples(inputs), batch_size))

    def generate(
        self,
        prompt: str,
        *,
        tokens: int = TOKENS,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int = 0,
    ) -> str:
        """What a run over texts writes after a prompt, as `netspec predict --text` does.

        tokens: how many. temperature: what the scores are divided by; 0 takes the likeliest token each time. top_k: one
        of so many likeliest is drawn. Raises RunError NS924 for a prompt that is empty or has characters that the run
        does not know, NS932 where its model doesn't write, ValueError for numbers out of their range.
        """
        drawing = Drawing(tokens=tokens, temperature=temperature, top_k=top_k, seed=seed)
        return str(next(write(self.run, [(prompt, prompt)], drawing))["prediction"])

    def _samples(self, inputs: Any) -> Any:
        from netspec.runtime.data import preprocess_files, preprocess_values

        recipe, state = self.program.recipe.data, self.run.data_state
        values: Sequence[Any] = [inputs] if _is_one(inputs, images="image" in state["fields"]) else inputs
        if len(values) and all(isinstance(value, str | os.PathLike) for value in values):
            return preprocess_files(recipe, [Path(value) for value in values], state=state)
        return preprocess_values(recipe, values, state=state)

    def __repr__(self) -> str:
        weights = sum(parameter.numel() for parameter in self.model.parameters())
        return f"<{self.program.name}, {weights:,} weights of {self.checkpoint.name}, on {self.device}>"


def _is_one(value: Any, *, images: bool) -> bool:
    """Whether it is one sample, or a path, and not a list of them."""
    from PIL import Image

    if isinstance(value, str | os.PathLike | Image.Image):
        return True
    if images:
        return isinstance(value, np.ndarray) and (value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (3, 4)))
    return len(value) > 0 and np.ndim(value[0]) == 0 and not isinstance(value[0], str | os.PathLike)


def load(
    run_dir: str | Path,
    *,
    checkpoint: str | None = None,
    device: str | None = None,
    trust: bool = False,
) -> Trained:
    """A trained run from its folder alone.

        >>> bees = netspec.load("runs/finetune_bees/1")
        >>> bees.predict("photo.jpg")[0]["class"]
        >>> bees(torch.randn(8, 3, 224, 224)).shape

    checkpoint: `best`, `last` or `step-N` (default: the best where the spec monitors a figure, else the last). device:
    such as `cuda:1` (default: the spec's). trust: run a `model.py` that is not what the run's spec says.

    Raises RunError where there is no run, no whole checkpoint, or no such device.
    """
    return Trained(load_run(run_dir, checkpoint_name=checkpoint, device=device, trust=trust))
