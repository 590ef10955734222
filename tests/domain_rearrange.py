"""The declared domain of the catalog's oracle: rearranging, and functions whose weights are tensors."""

from __future__ import annotations

from random import Random
from typing import Any

from domain_base import ARGUMENTS, COMPARES, INPUTS, Inputs, dim, dtype, first, images, ranks, shape
from domain_functions import list_of_dims, stack_tensors, two

from netspec.shapes import TensorType


def other_shape(random: Random) -> Inputs:
    sizes = list(shape(random, random.randint(0, 3), 4))
    other = sizes[:]
    random.shuffle(other)
    if random.random() < 0.1:
        other = [*other, 2]
    return [TensorType(tuple(sizes), dtype(random)), TensorType(tuple(other), dtype(random))]


INPUTS["reshape_as"] = other_shape
INPUTS["expand_as"] = two
INPUTS["broadcast_to"] = ranks(0, 1, 2, 3, largest=2)


def wider(random: Random, inputs: Inputs) -> list[int]:
    sizes = [random.choice((size, 3 if size == 1 else size)) for size in first(inputs)]
    if random.random() < 0.1 and sizes:
        sizes[0] += 1
    return [*(random.randint(1, 3) for _ in range(random.randint(0, 2))), *sizes][random.random() < 0.05 :]


ARGUMENTS["broadcast_to"] = {"size": wider}
for _name in ("axis0", "axis1"):
    ARGUMENTS.setdefault("swapaxes", {})[_name] = dim
ARGUMENTS["narrow"] = {
    "start": lambda random, inputs: random.choice((0, 0, 1, -1, -2, 3)),
    "length": lambda random, inputs: random.choice((1, 1, 2, 3)),
}
ARGUMENTS["select"] = {"index": lambda random, inputs: random.choice((0, 0, 1, -1, 2))}


def other_dim(random: Random, inputs: Inputs) -> int:
    return dim(random, inputs)


for _name in ("diagonal", "diag_embed"):
    ARGUMENTS[_name] = {
        "offset": lambda random, inputs: random.choice((0, 0, 1, -1)),
        "dim1": other_dim,
        "dim2": other_dim,
    }
INPUTS["diagonal"] = ranks(2, 2, 3)
INPUTS["diag"] = ranks(1, 2)
ARGUMENTS["diag"] = {"diagonal": lambda random, inputs: random.choice((0, 0, 1, -1))}
INPUTS["rot90"] = ranks(2, 3)
ARGUMENTS["rot90"] = {"k": lambda random, inputs: random.randint(-2, 4), "dims": list_of_dims}
for _name in ("fliplr", "flipud"):
    INPUTS[_name] = ranks(1, 2, 3)


def side_by_side(random: Random) -> Inputs:
    (parts,) = stack_tensors(random)
    return [tuple(TensorType(tuple(s + (random.random() < 0.05) for s in x.shape), x.dtype) for x in parts)]


for _name in ("hstack", "vstack", "dstack"):
    INPUTS[_name] = side_by_side


def vectors(random: Random) -> Inputs:
    kind = dtype(random)
    return [
        tuple(
            TensorType(
                shape(random, 1 if random.random() < 0.9 else random.choice((0, 2))),
                kind if random.random() < 0.95 else dtype(random),
            )
            for _ in range(random.randint(1, 3))
        )
    ]


INPUTS["meshgrid"] = vectors
COMPARES |= {"reshape_as", "expand_as", "broadcast_to", "narrow", "diagonal", "diag", "hstack", "vstack", "dstack"}


def with_weight(count: int, transposed: bool) -> Any:
    def draw(random: Random) -> Inputs:
        x = images(count)(random)[0]
        kind = random.choice(("float32", "float32", "float32", dtype(random)))
        channels = x.shape[-count - 1] if len(x.shape) > count else 2
        out = random.choice((1, 2, 4))
        if random.random() < 0.08:
            channels += 1
        if transposed:
            pair = (channels, out)
        else:
            pair = (out, channels if random.random() < 0.8 or channels % 2 else channels // 2)
        window = shape(random, count, 3)
        rows = out if random.random() < 0.93 else 3
        return [
            TensorType(x.shape, kind),
            TensorType(
                (*pair, *window) if random.random() < 0.96 else pair, kind if random.random() < 0.95 else "float64"
            ),
            TensorType((rows,), kind) if random.random() < 0.4 else None,
        ]

    return draw


for _count in (1, 2, 3):
    for _transposed in (False, True):
        _name = f"conv_transpose{_count}d" if _transposed else f"conv{_count}d"
        INPUTS[_name] = with_weight(_count, _transposed)
        ARGUMENTS[_name] = {"groups": lambda random, inputs: random.choice((1, 1, 1, 2))}
        COMPARES.add(_name)


def linear_inputs(random: Random) -> Inputs:
    sizes = shape(random, random.randint(0, 3), 4)
    kind = random.choice(("float32", "float32", dtype(random)))
    size = sizes[-1] if sizes and random.random() < 0.93 else 3
    out = random.randint(1, 4)
    weight = (out, size) if random.random() < 0.95 else (size,)
    return [
        TensorType(sizes, kind),
        TensorType(weight, kind if random.random() < 0.95 else dtype(random)),
        TensorType((out if random.random() < 0.93 else out + 1,), kind) if random.random() < 0.5 else None,
    ]


def slopes(random: Random) -> Inputs:
    sizes = shape(random, random.randint(0, 4), 4)
    kind = dtype(random)
    count = sizes[1] if len(sizes) > 1 and random.random() < 0.6 else 1
    mine = (count + (random.random() < 0.05),) if random.random() < 0.9 else ()
    return [TensorType(sizes, kind), TensorType(mine, kind if random.random() < 0.95 else dtype(random))]


def grouped(random: Random) -> Inputs:
    (x,) = images(random.choice((0, 1, 2)), batched=True)(random)
    channels = x.shape[1] if len(x.shape) > 1 else 2

    def weight() -> TensorType | None:
        size = channels + (random.random() < 0.05)
        return (
            TensorType((size,), x.dtype if random.random() < 0.95 else dtype(random)) if random.random() < 0.5 else None
        )

    return [x, weight(), weight()]


def scaled(random: Random) -> Inputs:
    sizes = shape(random, random.randint(1, 4))
    kind = dtype(random)
    mine = sizes[-1:] if random.random() < 0.93 else (*sizes[-1:], 1)
    weight = TensorType(mine, kind if random.random() < 0.95 else dtype(random))
    return [TensorType(sizes, kind), weight if random.random() < 0.6 else None]


INPUTS["linear"] = linear_inputs
INPUTS["prelu"] = slopes
INPUTS["group_norm"] = grouped
ARGUMENTS["group_norm"] = {"num_groups": lambda random, inputs: random.choice((1, 2, 3))}
INPUTS["rms_norm"] = scaled
ARGUMENTS["rms_norm"] = {"normalized_shape": lambda random, inputs: list(first(inputs)[-random.choice((1, 1, 1, 2)) :])}
ARGUMENTS["gumbel_softmax"] = {"tau": lambda random, inputs: random.choice((0.5, 1, 2.0))}


def maps(random: Random) -> Inputs:
    count = random.choice((2, 2, 3))
    sizes = (random.randint(1, 3), count, count + (random.random() < 0.95))
    return [TensorType(sizes, dtype(random))]


def output_image(random: Random, inputs: Inputs) -> list[int]:
    sizes = first(inputs)
    count = sizes[1] if random.random() < 0.95 else 1
    return [sizes[0] + (random.random() < 0.05), 2, *shape(random, count, 4)]


def sampled(random: Random) -> Inputs:
    count = random.choice((2, 2, 3)) if random.random() < 0.95 else 1
    x = shape(random, count + 2, 4)
    grid = (x[0] + (random.random() < 0.05), *shape(random, count, 4), count + (random.random() < 0.05))
    kind = random.choice(("float32", "float32", dtype(random)))
    return [TensorType(x, kind), TensorType(grid, kind if random.random() < 0.95 else dtype(random))]


INPUTS["affine_grid"] = maps
ARGUMENTS["affine_grid"] = {"size": output_image}
INPUTS["grid_sample"] = sampled
COMPARES |= {"linear", "prelu", "group_norm", "rms_norm", "affine_grid", "grid_sample"}
