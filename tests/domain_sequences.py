"""The declared domain of the catalog's oracle: recurrent layers, attention and transformers; torchvision's modules."""

from __future__ import annotations

from random import Random
from typing import Any

from domain_base import ARGUMENTS, GUESSES, INPUTS, TOGETHER, Draw, Inputs, dtype, images, ranks, shape, stated
from domain_functions import permutation

from netspec.shapes import TensorType

INPUTS["StochasticDepth"] = ranks(0, 1, 2, 3, 4)
for _count in (2, 3):
    INPUTS[f"DropBlock{_count}d"] = images(_count, batched=True)
    ARGUMENTS[f"DropBlock{_count}d"] = {"block_size": lambda random, inputs: random.choice((1, 1, 2, 3))}
ARGUMENTS["Permute"] = {"dims": permutation}
INPUTS["FrozenBatchNorm2d"] = images(2, batched=True)
ARGUMENTS["FrozenBatchNorm2d"] = {"num_features": stated(1)}
GUESSES["FrozenBatchNorm2d"] = {"num_features": 1}


def kind(random: Random) -> str:
    return "float32" if random.random() < 0.97 else dtype(random)


def off(random: Random, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Now and then a size is another one."""
    if random.random() < 0.1 and sizes:
        changed = list(sizes)
        changed[random.randrange(len(changed))] += 1
        return tuple(changed)
    return sizes


def recurrent(states: int) -> Any:
    """A sequence, and first states for 2 rows of size 3, as one layer that reads both ways takes them."""

    def draw(random: Random) -> Inputs:
        rank = random.choice((2, 3, 3, 3)) if random.random() < 0.95 else random.randint(1, 4)
        x = shape(random, rank, 4)
        found: Inputs = [TensorType(x, kind(random))]
        batch = (x[random.choice((0, 1))],) if rank == 3 else ()
        given = random.random() < 0.4
        for _ in range(states):
            sizes = off(random, (random.choice((1, 2, 2)), *batch, 3))
            found.append(TensorType(sizes, kind(random)) if given and random.random() < 0.95 else None)
        return found

    return draw


def cell(states: int) -> Any:
    def draw(random: Random) -> Inputs:
        rank = random.choice((1, 2, 2)) if random.random() < 0.95 else random.randint(0, 3)
        x = shape(random, rank, 4)
        found: Inputs = [TensorType(x, kind(random))]
        given = random.random() < 0.5
        for _ in range(states):
            found.append(TensorType(off(random, (*x[:-1], 3)), kind(random)) if given else None)
        return found

    return draw


_hidden: dict[str, Draw] = {
    "hidden_size": lambda random, inputs: 3,
    "input_size": stated(-1),
    "num_layers": lambda random, inputs: random.choice((1, 1, 2)),
    "proj_size": lambda random, inputs: random.choice((0, 0, 1, 2, 3)),
    "dropout": lambda random, inputs: random.choice((0.0, 0.5)),
}
for _name, _states in (("RNN", 1), ("LSTM", 2), ("GRU", 1)):
    INPUTS[_name] = recurrent(_states)
    INPUTS[f"{_name}Cell"] = cell(_states)
    for _either in (_name, f"{_name}Cell"):
        ARGUMENTS[_either] = dict(_hidden)
        GUESSES[_either] = {"input_size": -1}


def attention(extra: int) -> Any:
    """Queries, keys and values with 4 features, mostly, and two masks."""

    def draw(random: Random) -> Inputs:
        queries, keys, batch, heads = random.randint(1, 3), random.randint(1, 3), random.randint(1, 3), 2
        first = random.random() < 0.5
        batched = random.random() < 0.8

        def sequence(length: int) -> TensorType:
            width = 4 if random.random() < 0.96 else random.choice((2, 6))
            sizes: tuple[int, ...] = (length, width)
            if batched:
                sizes = (batch, *sizes) if first else (length, batch, width)
            return TensorType(off(random, sizes) if random.random() < 0.2 else sizes, kind(random))

        def mask(columns: int, rows: int = queries) -> TensorType:
            sizes = (rows, columns) if random.random() < 0.7 else (batch * heads if batched else heads, rows, columns)
            return TensorType(off(random, sizes), random.choice(("bool", "float32", "float32", kind(random))))

        def padding(columns: int) -> TensorType:
            sizes = (batch, columns) if batched else (columns,)
            return TensorType(off(random, sizes), random.choice(("bool", "bool", "float32", kind(random))))

        def maybe(x: TensorType) -> TensorType | None:
            return x if random.random() < 0.3 else None

        if extra == 3:
            return [*(sequence(n) for n in (queries, keys, keys)), maybe(padding(keys)), maybe(mask(keys))]
        if extra == 1:
            return [sequence(queries), maybe(mask(queries)), maybe(padding(queries))]
        found = [sequence(queries), sequence(keys), maybe(mask(queries)), maybe(mask(keys))]
        return [*found, maybe(padding(queries)), maybe(padding(keys))]

    return draw


def both_sequences(random: Random) -> Inputs:
    """A source and a target of one batch, mostly, and their masks."""
    target, memory, tgt_mask, memory_mask, tgt_padding, memory_padding = attention(2)(random)
    rows = memory.shape[random.choice((0, 1))] if len(memory.shape) > 1 else 2
    src_mask = TensorType((rows, rows), "float32") if random.random() < 0.3 else None
    return [memory, target, src_mask, tgt_mask, memory_mask, memory_padding, tgt_padding, memory_padding]


def few_layers(random: Random, inputs: Inputs) -> Any:
    """The defaults, 6 layers of 2048 features, would take longer than all the rest."""
    return {
        "num_encoder_layers": random.choice((1, 1, 2)),
        "num_decoder_layers": random.choice((1, 1, 2)),
        "dim_feedforward": random.choice((1, 5)),
    }


def wide(random: Random, inputs: Inputs) -> int | None:
    return random.choice((None, 4, 4, 6))


for _name, _extra in (("MultiheadAttention", 3), ("TransformerEncoderLayer", 1), ("TransformerDecoderLayer", 2)):
    INPUTS[_name] = attention(_extra)
    ARGUMENTS[_name] = {
        "embed_dim": stated(-1),
        "d_model": stated(-1),
        "num_heads": lambda random, inputs: random.choice((1, 2, 2, 2, 4, 3)),
        "nhead": lambda random, inputs: random.choice((1, 2, 2, 2, 4, 3)),
        "dim_feedforward": lambda random, inputs: random.choice((1, 5)),
        "kdim": wide,
        "vdim": wide,
        "is_causal": lambda random, inputs: random.random() < 0.05,
        "tgt_is_causal": lambda random, inputs: random.random() < 0.05,
        "memory_is_causal": lambda random, inputs: random.random() < 0.05,
    }
    GUESSES[_name] = {"embed_dim": -1, "d_model": -1}
INPUTS["Transformer"] = both_sequences
ARGUMENTS["Transformer"] = ARGUMENTS["TransformerDecoderLayer"] | {
    "src_is_causal": lambda random, inputs: random.choice((None, None, False, False, True)),
    "tgt_is_causal": lambda random, inputs: random.choice((None, None, False, False, True)),
}
TOGETHER["Transformer"] = few_layers
GUESSES["Transformer"] = {"d_model": -1}
