"""Texts by a run over `Text` data: from a prompt on, token by token, each drawn by the scores that the model gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from netspec.program import Program
from netspec.recipe.data import Source
from netspec.runtime.data.tokens import Tokens
from netspec.runtime.device import autocast
from netspec.runtime.errors import RunError
from netspec.runtime.evaluate import TrainedModel
from netspec.runtime.notes import noted
from netspec.runtime.predict import first_loss
from netspec.shapes import TensorType

FIELD: Final = "tokens"
"""The field of a source of texts that a model reads."""
_BY_CLASS: Final = ("CrossEntropyLoss", "NLLLoss")
TOKENS: Final = 200
"""How many tokens are written, where nobody says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How a text goes on. Temperature 0 takes the likeliest token each time, and nothing is drawn."""

    tokens: int = TOKENS
    temperature: float = 1.0
    """The scores are divided by it: below 1 likely tokens become likelier."""
    top_k: int | None = None
    """One of so many tokens with the highest scores is drawn; None: one of all."""
    seed: int = 0
    """Of a generator that every prompt has for itself, on the CPU."""

    def __post_init__(self) -> None:
        if self.tokens < 0 or not 0 <= self.temperature < float("inf") or (self.top_k is not None and self.top_k < 1):
            raise ValueError("tokens and temperature are numbers from 0, top_k is one from 1")


def source_of_text(program: Program | None) -> Source | None:
    """The source of texts that a program's data are read from, if they are."""
    recipe = program.recipe.data if program is not None and program.recipe is not None else None
    found = next(iter(recipe.splits.values())).source if recipe is not None and recipe.splits else None
    return found if found is not None and found.type == "Text" else None


class Writer:
    """A run's model as one that writes.

    It has one input, the tokens [N, T], and gives scores of each next token, [N, T, classes] or as the losses of
    classes take them [N, classes, T]. Scores beyond the tokens of the data are left out. It reads as many of the last
    tokens as the samples of its data had. Raises RunError NS932 where the model is another one.
    """

    def __init__(self, run: TrainedModel) -> None:
        source = source_of_text(run.program)
        if source is None:
            raise RunError("NS932", "this run has not learnt from a text", help="`netspec predict RUN FILE…`")
        self.run = run
        self.tokens = Tokens.of(source, run.data_state["source"])
        self.window: int = source.arguments["length"]
        self.whole = _check_input(run)
        """Whether it takes windows of that length alone."""
        self.output, self.last = _scores(run)

    def check(self, prompt: Tensor, name: str) -> None:
        """Raise RunError NS932 where a prompt is too short for the model."""
        if self.whole and len(prompt) < self.window:
            raise RunError(
                "NS932",
                f"{name} has {len(prompt)} tokens, and the model takes {self.window} and no fewer",
                help="a longer prompt, or a model that says `[N, T]` of its input",
            )

    def write(self, prompt: Tensor, drawing: Drawing) -> list[int]:
        """The tokens that follow a prompt, int64 [T]."""
        generator = torch.Generator().manual_seed(drawing.seed)
        context, found = prompt[-self.window :], []
        for _ in range(drawing.tokens):
            token = _drawn(self.scores(context), drawing, generator)
            found.append(token)
            context = torch.cat([context, torch.tensor([token])])[-self.window :]
        return found

    def scores(self, context: Tensor) -> Tensor:
        """The scores of each token to come after these, float32 [classes] on the CPU."""
        run = self.run
        with (
            noted(run.program, run.model, run.directory),
            torch.no_grad(),
            autocast(run.recipe.precision, run.device)(),
        ):
            found = run.model(context[None].to(run.device))
        value = found if isinstance(found, Tensor) else getattr(found, self.output)
        last: Tensor = (value[0, -1] if self.last else value[0, :, -1])[: self.tokens.count].float().cpu()
        if last.isnan().any():
            raise RunError("NS932", "the model's scores are no numbers", help="`--checkpoint` names another one")
        return last


def write(
    run: TrainedModel, prompts: Sequence[tuple[str, str | bytes | Path]], drawing: Drawing
) -> Iterator[dict[str, Any]]:
    """`{"input": name, "prediction": text}` for each prompt with its name; the text is what follows the prompt.

    A prompt is a text, the path of a file, or what such a file would hold. All are looked at before anything is
    written. Raises RunError NS92x for a file that can't be read, NS924 for a prompt with a character that the run does
    not know, and NS932 where the model doesn't write.
    """
    writer = Writer(run)
    rows = [(name, *_read(writer.tokens, prompt, number)) for number, (name, prompt) in enumerate(prompts, 1)]
    for _, row, told in rows:
        writer.check(row, told)
    for name, row, _ in rows:
        yield {"input": name, "prediction": writer.tokens.text(writer.write(row, drawing))}


def _read(tokens: Tokens, prompt: str | bytes | Path, number: int) -> tuple[Tensor, str]:
    """A prompt as tokens, and what messages call it."""
    if isinstance(prompt, Path):
        return tokens.of_file(prompt), str(prompt)
    if isinstance(prompt, bytes):
        return tokens.of_content(prompt, "the standard input"), "the standard input"
    return tokens.of_text(prompt, f"prompt {number}"), f"prompt {number}"


def _drawn(scores: Tensor, drawing: Drawing, generator: torch.Generator) -> int:
    """One token by its scores [classes]."""
    if drawing.temperature == 0:
        return int(scores.argmax())
    if drawing.top_k is not None and drawing.top_k < len(scores):
        least = scores.topk(drawing.top_k).values[-1]
        scores = scores.masked_fill(scores < least, -torch.inf)
    # Without the subtraction a small temperature would make infinities of them.
    shares = ((scores - scores.max()) / drawing.temperature).softmax(0)
    return int(torch.multinomial(shares, 1, generator=generator))


def _check_input(run: TrainedModel) -> bool:
    """Whether the model's only input has a fixed length."""
    fields = run.recipe.inputs
    types = list(run.program.inputs.values())
    if list(fields.values()) != [FIELD] or not isinstance(types[0], TensorType) or len(types[0].shape) != 2:
        told = ", ".join(f"{name} {type_}" for name, type_ in run.program.inputs.items())
        raise RunError("NS932", f"a model that writes takes `{FIELD}` [N, T] alone, and this one takes {told}")
    return isinstance(types[0].shape[1], int)


def _scores(run: TrainedModel) -> tuple[str, bool]:
    """The output with the scores of the tokens, and whether they are its last dimension, or the one before."""
    (taken,) = run.program.inputs.values()
    assert isinstance(taken, TensorType)
    rows, length = taken.shape
    found = {}
    for name, given in run.program.outputs.items():
        if not isinstance(given, TensorType) or len(given.shape) != 3 or given.shape[0] != rows:
            continue
        fits = [place for place in (2, 1) if given.shape[3 - place] == length]
        if fits:
            found[name] = fits
    main = first_loss(run)
    output = main.inputs[0].name if main.inputs[0].name in found else next(iter(found), None)
    if output is None:
        told = ", ".join(f"{name} {type_}" for name, type_ in run.program.outputs.items())
        raise RunError(
            "NS932",
            f"a model that writes gives scores of each next token, [N, T, classes] or [N, classes, T], and this one "
            f"gives {told}",
        )
    # As many classes as places: a loss of classes that takes the output as it is has them in its dimension 1.
    places = found[output]
    direct = main.type in _BY_CLASS and main.inputs[0].name == output
    return output, (1 if direct else 2) == 2 if len(places) == 2 else places[0] == 2
