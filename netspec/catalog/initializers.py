"""How weights start: the functions of torch.nn.init, named without their underscore."""

from __future__ import annotations

from netspec.catalog.entry import Argument, Entry

_NONLINEARITIES = (
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "selu",
)


def _number(name: str, default: float, doc: str) -> Argument:
    return Argument(name=name, kind="float", default=default, doc=doc)


def _gain() -> Argument:
    return _number("gain", 1.0, "factor on the spread")


_KAIMING = (
    _number("a", 0, 'slope of the negative part, with nonlinearity "leaky_relu"'),
    Argument(
        name="mode",
        kind="choice",
        default="fan_in",
        choices=("fan_in", "fan_out"),
        doc='"fan_in" keeps the variance going forward, "fan_out" going backward',
    ),
    Argument(
        name="nonlinearity",
        kind="choice",
        default="leaky_relu",
        choices=_NONLINEARITIES,
        doc="the activation that follows",
    ),
)

_ROWS: tuple[tuple[str, tuple[Argument, ...], str], ...] = (
    ("uniform", (_number("a", 0.0, "lower end"), _number("b", 1.0, "upper end")), "Draws from a range evenly."),
    (
        "normal",
        (_number("mean", 0.0, "the mean"), _number("std", 1.0, "the standard deviation")),
        "Draws from a normal distribution.",
    ),
    (
        "trunc_normal",
        (
            _number("mean", 0.0, "the mean"),
            _number("std", 1.0, "the standard deviation"),
            _number("a", -2.0, "lower end, in absolute terms"),
            _number("b", 2.0, "upper end, in absolute terms"),
        ),
        "Draws from a normal distribution that is cut off at both ends.",
    ),
    ("constant", (Argument(name="val", kind="float", doc="the value"),), "Sets all to one value."),
    ("ones", (), "Sets all to one."),
    ("zeros", (), "Sets all to zero."),
    ("eye", (), "Makes a matrix the identity."),
    (
        "dirac",
        (Argument(name="groups", kind="int", default=1, minimum=1, doc="groups of the convolution"),),
        "Makes a convolution pass its input through.",
    ),
    ("xavier_uniform", (_gain(),), "Draws evenly, with a spread for sigmoid and tanh by both fans (Glorot)."),
    ("xavier_normal", (_gain(),), "Draws normally, with a spread for sigmoid and tanh by both fans (Glorot)."),
    ("kaiming_uniform", _KAIMING, "Draws evenly, with a spread for ReLU by one fan (He)."),
    ("kaiming_normal", _KAIMING, "Draws normally, with a spread for ReLU by one fan (He)."),
    ("orthogonal", (_gain(),), "Makes the rows of the matrix orthogonal."),
    (
        "sparse",
        (
            Argument(name="sparsity", kind="float", minimum=0, maximum=1, doc="share of zeros in each column"),
            _number("std", 0.01, "standard deviation of the others"),
        ),
        "Draws normally and sets a share of each column to zero; for matrices.",
    ),
)

ENTRIES: tuple[Entry, ...] = tuple(
    Entry(
        name=name,
        category="initializer",
        target=f"torch.nn.init.{name}_",
        arguments=arguments,
        inputs=(),
        doc=doc,
    )
    for name, arguments, doc in _ROWS
)
