"""The optimizers of torch.optim, with torch's arguments and defaults."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from netspec.catalog.entry import Argument, Entry


def _number(name: str, default: float, doc: str, minimum: float | None = 0.0) -> Argument:
    return Argument(name=name, kind="float", default=default, doc=doc, minimum=minimum)


def _flag(name: str, doc: str, default: bool | None = False) -> Argument:
    return Argument(name=name, kind="bool?" if default is None else "bool", default=default, doc=doc)


def _pair(name: str, default: tuple[float, float], doc: str) -> Argument:
    return Argument(name=name, kind="float2", default=default, doc=doc)


def _rate(default: float) -> Argument:
    return _number("lr", default, "The learning rate: how far a step goes.")


def _decay(default: float = 0.0) -> Argument:
    return _number("weight_decay", default, "How strongly weights are pulled towards zero.")


def _eps(default: float) -> Argument:
    return _number("eps", default, "Added to a denominator, so that it is never zero.")


_BETAS: Final = _pair("betas", (0.9, 0.999), "How slowly the averages of the gradient and of its square forget.")
_AMSGRAD: Final = _flag("amsgrad", "Divide by the largest average so far, so that steps never grow again.")
_DECOUPLED: Final = _flag(
    "decoupled_weight_decay", "Decay the weights themselves, as AdamW does, and not the gradient."
)
_FOREACH: Final = _flag("foreach", "Work on lists of tensors at once; null lets torch choose.", None)
_MAXIMIZE: Final = _flag("maximize", "Climb instead of descending.")
_CAPTURABLE: Final = _flag("capturable", "Keep the counters on the GPU, for CUDA graphs.")
_DIFFERENTIABLE: Final = _flag("differentiable", "Let gradients flow through the step itself.")
_FUSED: Final = _flag("fused", "One kernel for the whole step; netspec takes it where torch has it.", None)


def _optimizer(name: str, doc: str, *arguments: Argument) -> Entry:
    return Entry(name=name, category="optimizer", target=f"torch.optim.{name}", arguments=arguments, inputs=(), doc=doc)


def _whole(name: str, default: Any, doc: str, kind: str = "int") -> Argument:
    return Argument(name=name, kind=kind, default=default, doc=doc, minimum=1)


ENTRIES: Final = (
    _optimizer(
        "SGD",
        "Stochastic gradient descent, with momentum if wanted.",
        _rate(1e-3),
        _number("momentum", 0.0, "The share of the last step that is taken again."),
        _number("dampening", 0.0, "How much less the new gradient counts beside the momentum."),
        _decay(),
        _flag("nesterov", "Look at the gradient where the momentum would lead."),
        _MAXIMIZE,
        _FOREACH,
        _DIFFERENTIABLE,
        _FUSED,
    ),
    _optimizer(
        "Adam",
        "Steps scaled by running averages of the gradient and of its square.",
        _rate(1e-3),
        _BETAS,
        _eps(1e-8),
        _decay(),
        _AMSGRAD,
        _FOREACH,
        _MAXIMIZE,
        _CAPTURABLE,
        _DIFFERENTIABLE,
        _FUSED,
        _DECOUPLED,
    ),
    _optimizer(
        "AdamW",
        "Adam whose weight decay acts on the weights and not on the gradient.",
        _rate(1e-3),
        _BETAS,
        _eps(1e-8),
        _decay(1e-2),
        _AMSGRAD,
        _MAXIMIZE,
        _FOREACH,
        _CAPTURABLE,
        _DIFFERENTIABLE,
        _FUSED,
    ),
    _optimizer(
        "Adamax",
        "Adam with the largest recent gradient in place of the mean square.",
        _rate(2e-3),
        _BETAS,
        _eps(1e-8),
        _decay(),
        _FOREACH,
        _MAXIMIZE,
        _DIFFERENTIABLE,
        _CAPTURABLE,
    ),
    _optimizer(
        "NAdam",
        "Adam with Nesterov's momentum.",
        _rate(2e-3),
        _BETAS,
        _eps(1e-8),
        _decay(),
        _number("momentum_decay", 4e-3, "How fast the momentum's share rises."),
        _DECOUPLED,
        _FOREACH,
        _MAXIMIZE,
        _CAPTURABLE,
        _DIFFERENTIABLE,
    ),
    _optimizer(
        "RAdam",
        "Adam that holds back while its averages are still uncertain.",
        _rate(1e-3),
        _BETAS,
        _eps(1e-8),
        _decay(),
        _DECOUPLED,
        _FOREACH,
        _MAXIMIZE,
        _CAPTURABLE,
        _DIFFERENTIABLE,
    ),
    _optimizer(
        "RMSprop",
        "Steps divided by the root of the gradient's mean square.",
        _rate(1e-2),
        _number("alpha", 0.99, "How slowly the mean square forgets."),
        _eps(1e-8),
        _decay(),
        _number("momentum", 0.0, "The share of the last step that is taken again."),
        _flag("centered", "Divide by the deviation and not by the mean square."),
        _CAPTURABLE,
        _FOREACH,
        _MAXIMIZE,
        _DIFFERENTIABLE,
    ),
    _optimizer(
        "Adagrad",
        "Steps divided by the root of all squared gradients so far.",
        _rate(1e-2),
        _number("lr_decay", 0.0, "How fast the rate falls with the steps."),
        _decay(),
        _number("initial_accumulator_value", 0.0, "Where the sum of squares starts."),
        _eps(1e-10),
        _FOREACH,
        _MAXIMIZE,
        _DIFFERENTIABLE,
        _FUSED,
    ),
    _optimizer(
        "Adadelta",
        "Adagrad with a window, whose step size finds itself.",
        _rate(1.0),
        _number("rho", 0.9, "How slowly the averages forget."),
        _eps(1e-6),
        _decay(),
        _FOREACH,
        _CAPTURABLE,
        _MAXIMIZE,
        _DIFFERENTIABLE,
    ),
    _optimizer(
        "Adafactor",
        "Adam's mean squares kept as rows and columns, for models too large for two copies.",
        _rate(1e-2),
        _number("beta2_decay", -0.8, "How the mean square's memory grows with the steps.", None),
        Argument(name="eps", kind="any", default=(None, 1e-3), doc="Lower limits of the mean square and the scale."),
        _number("d", 1.0, "The largest root mean square of an update."),
        _decay(),
        _FOREACH,
        _MAXIMIZE,
    ),
    _optimizer(
        "ASGD",
        "Gradient descent that also averages the weights that it passed.",
        _rate(1e-2),
        _number("lambd", 1e-4, "How fast the rate falls."),
        _number("alpha", 0.75, "The power with which it falls."),
        _number("t0", 1e6, "The step at which averaging starts."),
        _decay(),
        _FOREACH,
        _MAXIMIZE,
        _DIFFERENTIABLE,
        _CAPTURABLE,
    ),
    _optimizer(
        "Rprop",
        "Only the gradient's sign counts, for whole batches.",
        _rate(1e-2),
        _pair("etas", (0.5, 1.2), "By how much a step shrinks when the sign changes, and grows when it stays."),
        _pair("step_sizes", (1e-6, 50.0), "The smallest and the largest step."),
        _CAPTURABLE,
        _FOREACH,
        _MAXIMIZE,
        _DIFFERENTIABLE,
    ),
    _optimizer(
        "Muon",
        "Momentum made orthogonal, for matrices alone: hidden layers without bias.",
        _rate(1e-3),
        _decay(0.1),
        _number("momentum", 0.95, "The share of the last step that is taken again."),
        _flag("nesterov", "Look at the gradient where the momentum would lead.", True),
        Argument(
            name="ns_coefficients",
            kind="float3",
            default=(3.4445, -4.775, 2.0315),
            doc="Of the iteration's polynomial.",
        ),
        _eps(1e-7),
        _whole("ns_steps", 5, "Iterations towards orthogonality."),
        Argument(
            name="adjust_lr_fn",
            kind="choice?",
            default=None,
            choices=("original", "match_rms_adamw"),
            doc="How the rate follows a matrix's shape.",
        ),
    ),
    _optimizer(
        "SparseAdam",
        "Adam for sparse gradients: only the rows of an embedding that occurred.",
        _rate(1e-3),
        _BETAS,
        _eps(1e-8),
        _MAXIMIZE,
    ),
    _optimizer(
        "LBFGS",
        "A quasi-Newton method that looks at a batch many times; for small models on whole data.",
        _rate(1.0),
        _whole("max_iter", 20, "Iterations in a step."),
        _whole("max_eval", None, "Evaluations of the loss in a step; 1.25 times max_iter where null.", "int?"),
        _number("tolerance_grad", 1e-7, "A gradient so small ends the step."),
        _number("tolerance_change", 1e-9, "A change so small ends the step."),
        _whole("history_size", 100, "How many earlier steps it remembers."),
        Argument(
            name="line_search_fn", kind="choice?", default=None, choices=("strong_wolfe",), doc="How far a step goes."
        ),
        replace(_MAXIMIZE, since="2.15"),
    ),
)
