"""Layers and functions that enlarge or reduce images, or trade channels for places."""

from __future__ import annotations

from math import floor
from typing import Any

from netspec.catalog.entry import Argument, Entry, Inferred, Rule
from netspec.catalog.rules import (
    ALL,
    FLOATING,
    Arguments,
    Inputs,
    accepting,
    one,
    refuse,
    rule,
    surely_below,
    tensor,
)
from netspec.shapes import Dim, Size, TensorType

_RANKS = {
    "nearest": (3, 4, 5),
    "nearest-exact": (3, 4, 5),
    "area": (3, 4, 5),
    "linear": (3,),
    "bilinear": (4,),
    "bicubic": (4,),
    "trilinear": (5,),
}


def _dtypes(name: str, mode: str, x: TensorType, antialias: bool) -> None:
    if x.dtype == "uint8" and mode in ("bilinear", "bicubic"):
        # By kernels of the processor at hand, which fail for some sizes.
        refuse(f'{name} with mode "{mode}" takes floating point, and got uint8', code="NS406")
    if antialias and x.dtype in ("float16", "bfloat16"):
        refuse(f"{name} with antialias takes float32 or float64, and got {x.dtype}", code="NS406")
    accepting(name, x, (*FLOATING, "uint8") if mode.startswith("nearest") else FLOATING)


def _scaled(name: str, size: Size, factor: Any) -> Size:
    if not isinstance(size, Dim) and not isinstance(factor, int):
        top, bottom = float(factor).as_integer_ratio()
        return floor(size * factor) if top > 1 << 20 or bottom > 1 << 20 else size * top // bottom
    if isinstance(factor, int):
        return size * factor
    top, bottom = float(factor).as_integer_ratio()
    if top > 1 << 20:  # 1/3, say: what the floor gives depends on how the product is rounded
        refuse(
            f"{name}: {size} times {factor} is not known when compiled",
            help="give the input that size as a number, or choose a factor such as 2 or 0.5",
            argument="scale_factor",
            code="NS407",
        )
    return size * top // bottom


def _resize(name: str, fixed_mode: str | None = None) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        mode = fixed_mode or arguments["mode"]
        size, factor = arguments["size"], arguments["scale_factor"]
        if (size is None) == (factor is None):
            refuse(
                f"{name} takes either size or scale_factor, and got {'neither' if size is None else 'both'}",
                argument="size",
                code="NS404",
            )
        _modes(name, mode, x, arguments)
        count = len(x.shape) - 2
        given = size if factor is None else factor
        if isinstance(given, list | tuple) and len(given) != count:
            refuse(
                f"{name} of {x} takes one number or {count}, and got {len(given)}",
                argument="size" if factor is None else "scale_factor",
                code="NS404",
            )
        values = tuple(given) if isinstance(given, list | tuple) else (given,) * count
        sizes = values
        if factor is not None:
            sizes = tuple(_scaled(name, before, by) for before, by in zip(x.shape[2:], values, strict=True))
        for result in sizes:
            if surely_below(result, 1):
                refuse(
                    f"{name} leaves nothing of {x}",
                    argument="size" if factor is None else "scale_factor",
                    code="NS406",
                )
        _dtypes(name, mode, x, arguments.get("antialias", False))
        return one((*x.shape[:2], *sizes), x.dtype)

    return infer


def _modes(name: str, mode: str, x: TensorType, arguments: Arguments) -> None:
    wanted = _RANKS[mode]
    if len(x.shape) not in wanted:
        layouts = {3: "[N, C, L]", 4: "[N, C, H, W]", 5: "[N, C, D, H, W]"}
        others = [other for other, ranks in _RANKS.items() if len(x.shape) in ranks]
        refuse(
            f'{name} with mode "{mode}" takes {" or ".join(layouts[rank] for rank in wanted)}, and got {x}',
            help=f"modes for this shape: {', '.join(others)}" if others else None,
            argument="mode",
        )
    if mode in ("nearest", "nearest-exact", "area") and arguments.get("align_corners") is not None:
        refuse(
            f'{name} takes align_corners with the linear modes and bicubic only, and mode is "{mode}"',
            help="leave align_corners out",
            argument="align_corners",
            code="NS404",
        )
    if arguments.get("recompute_scale_factor") and arguments["size"] is not None:
        refuse(
            f"{name} takes recompute_scale_factor with a scale_factor only",
            argument="recompute_scale_factor",
            code="NS404",
        )
    if arguments.get("antialias") and mode not in ("bilinear", "bicubic"):
        refuse(
            f'{name} takes antialias with bilinear and bicubic only, and mode is "{mode}"',
            argument="antialias",
            code="NS404",
        )


def _shuffle(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        if len(x.shape) < 3:
            refuse(f"{name} takes [..., C, H, W], and got {x}")
        accepting(name, x, ALL)
        factor = arguments["upscale_factor"]
        *lead, channels, height, width = x.shape
        return one(
            (*lead, divided(name, channels, factor * factor, "channels"), height * factor, width * factor), x.dtype
        )

    return infer


def _unshuffle(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        if len(x.shape) < 3:
            refuse(f"{name} takes [..., C, H, W], and got {x}")
        accepting(name, x, ALL)
        factor = arguments["downscale_factor"]
        *lead, channels, height, width = x.shape
        places = (divided(name, height, factor, "rows"), divided(name, width, factor, "columns"))
        return one((*lead, channels * factor * factor, *places), x.dtype)

    return infer


def divided(name: str, size: Size, by: Size, what: str) -> Size:
    """size / by, refused where it is not whole."""
    rest = size % by
    if isinstance(rest, Dim) or rest == 0:
        return size // by
    refuse(f"{name}: {by} does not divide the {size} {what}", help=f"make the {what} a multiple of {by}", code="NS404")


def _channel_shuffle(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        if len(x.shape) < 3:
            refuse(f"{name} takes [N, C, ...] of 3 dimensions or more, and got {x}")
        accepting(name, x, ALL)
        divided(name, x.shape[1], arguments["groups"], "channels")
        return one(x.shape, x.dtype)

    return infer


def _size_arguments(atom: str) -> tuple[Argument, Argument]:
    two = atom == "2"
    return (
        Argument(
            name="size",
            kind="size2?" if two else "size|sizes?",
            default=None,
            minimum=1,
            doc="the output's height and width; or give scale_factor",
        ),
        Argument(
            name="scale_factor",
            kind="float|float2?" if two else "float|floats?",
            default=None,
            minimum=0,
            doc="the output's size over the input's; or give size",
        ),
    )


def _upsample_arguments(function: bool) -> tuple[Argument, ...]:
    common = (
        *_size_arguments("n"),
        Argument(
            name="mode", kind="choice", default="nearest", choices=tuple(_RANKS), doc="how new values are made of old"
        ),
        Argument(
            name="align_corners",
            kind="bool?",
            default=None,
            doc="whether corner values keep their place (the linear modes and bicubic)",
        ),
        Argument(
            name="recompute_scale_factor",
            kind="bool?",
            default=None,
            doc="whether the factor is computed again from the rounded size",
        ),
    )
    if not function:
        return common
    return (
        *common,
        Argument(name="antialias", kind="bool", default=False, doc="whether to smooth when reducing"),
    )


_UP = Argument(
    name="upscale_factor", kind="int", minimum=1, positional=True, doc="how many times higher and wider it becomes"
)
_DOWN = Argument(
    name="downscale_factor", kind="int", minimum=1, positional=True, doc="how many times lower and narrower it becomes"
)
_GROUPS = Argument(name="groups", kind="int", minimum=1, positional=True, doc="groups whose channels are interleaved")
_UP_DOC = "Turns channels into places: [C*r*r, H, W] becomes [C, H*r, W*r]."
_DOWN_DOC = "Turns places into channels: [C, H*r, W*r] becomes [C*r*r, H, W]."
_SHUFFLE_DOC = "Interleaves the channels of groups."


def _layer(name: str, arguments: tuple[Argument, ...], rule: Rule, doc: str, ancestors: tuple[str, ...] = ()) -> Entry:
    return Entry(
        name=name,
        category="layer",
        target=f"torch.nn.{name}",
        arguments=arguments,
        rule=rule,
        role="reshape",
        doc=doc,
        ancestors=ancestors,
    )


def _function(name: str, arguments: tuple[Argument, ...], rule: Rule, doc: str) -> Entry:
    return Entry(
        name=name,
        category="function",
        target=f"torch.nn.functional.{name}",
        arguments=arguments,
        rule=rule,
        role="reshape",
        doc=doc,
    )


_RESIZE_DOC = "Resizes sequences, images or volumes."

ENTRIES: tuple[Entry, ...] = (
    _layer("Upsample", _upsample_arguments(False), _resize("Upsample"), _RESIZE_DOC),
    _layer(
        "UpsamplingNearest2d",
        _size_arguments("2"),
        _resize("UpsamplingNearest2d", "nearest"),
        "Resizes images by repeating values.",
        ("Upsample",),
    ),
    _layer(
        "UpsamplingBilinear2d",
        _size_arguments("2"),
        _resize("UpsamplingBilinear2d", "bilinear"),
        "Resizes images linearly, with aligned corners.",
        ("Upsample",),
    ),
    _function("interpolate", _upsample_arguments(True), _resize("interpolate"), _RESIZE_DOC),
    _layer("PixelShuffle", (_UP,), _shuffle("PixelShuffle"), _UP_DOC),
    _function("pixel_shuffle", (_UP,), _shuffle("pixel_shuffle"), _UP_DOC),
    _layer("PixelUnshuffle", (_DOWN,), _unshuffle("PixelUnshuffle"), _DOWN_DOC),
    _function("pixel_unshuffle", (_DOWN,), _unshuffle("pixel_unshuffle"), _DOWN_DOC),
    _layer("ChannelShuffle", (_GROUPS,), _channel_shuffle("ChannelShuffle"), _SHUFFLE_DOC),
    _function("channel_shuffle", (_GROUPS,), _channel_shuffle("channel_shuffle"), _SHUFFLE_DOC),
)
