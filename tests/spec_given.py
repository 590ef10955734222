"""Steps of random specs: layers that are given others, one that a text chooses, one that runs in one mode alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spec_body import Body, Layers, plain, value, weighted


def step_given(body: Body) -> None:
    """A layer that is given a module, a class of layers or a function."""
    body.pick(*((convolution, excitation) if body.images else (perceptron, stack)))(body)


def classes(body: Body, *names: Any) -> Any:
    """A class of layers, by its name or by a parameter's."""
    return body.pick(*names, *(f"${name}" for name in body.values.get("layer", [])))


def convolution(body: Body) -> None:
    width = body.pick(*body.widths)
    layer: Layers = {"type": "Conv2dNormActivation", "out_channels": value(width)}
    norms = ["BatchNorm2d", {"type": "BatchNorm2d", "eps": 0.5}, {"type": "GroupNorm", "num_groups": 1}, None]
    if body.maybe():
        layer["norm_layer"] = body.pick(*norms, *(f"${name}" for name in body.values.get("norm", [])))
    if body.maybe():
        layer |= {"activation_layer": classes(body, "Tanh", {"type": "ELU", "alpha": 0.5}, None), "inplace": None}
    body.add("conv", layer, replace(body.last, width=width))


def excitation(body: Body) -> None:
    layer: Layers = {"type": "SqueezeExcitation", "squeeze_channels": value(body.pick(*body.widths))}
    if body.maybe():
        layer["scale_activation"] = body.pick("Hardsigmoid", "Tanh", {"type": "Softplus", "beta": 2})
    body.add("se", layer)


def perceptron(body: Body) -> None:
    widths = [body.pick(*body.widths) for _ in range(body.pick(1, 2))]
    layer: Layers = {"type": "MLP", "hidden_channels": [value(width) for width in widths]}
    if body.maybe():
        layer["norm_layer"] = body.pick("LayerNorm", {"type": "LayerNorm", "eps": 0.5})
    if body.maybe():
        # Between two layers it may not be null, as a parameter may.
        layer["activation_layer"] = classes(body, "SiLU") if len(widths) == 1 else body.pick("SiLU", "PReLU")
    body.add("mlp", layer, replace(body.last, width=widths[-1]))


def stack(body: Body) -> None:
    """Rows are tokens here, and a norm may be any layer that takes what the last one gives."""
    inner: Layers = {"type": "TransformerEncoderLayer", "nhead": 1, "dim_feedforward": value(body.pick(*body.widths))}
    if body.maybe():
        inner |= {"activation": body.pick("gelu", "silu", "tanh"), "norm_first": body.maybe()}
    count = body.pick("1", "2", *body.values.get("positive", []))
    layer: Layers = {"type": "TransformerEncoder", "encoder_layer": inner, "num_layers": value(count)}
    made, width = body.last, body.pick(*body.widths)
    match body.pick("none", "norm", "linear", "group", "named"):
        case "norm":
            layer["norm"] = body.pick("LayerNorm", {"type": "RMSNorm", "eps": 0.5})
        case "linear":
            layer["norm"] = {**weighted(body, width), "initialize": {"weight": 0.5}}
            made = replace(made, width=width)
        case "group":
            layer["norm"] = {"layers": [weighted(body, width), plain(body)]}
            made = replace(made, width=width)
        case "named":
            layer["norm"] = {"layers": {"fc": weighted(body, width), "act": "ReLU", "sum": {"compute": "act * 2 + fc"}}}
            made = replace(made, width=width)
    body.add("encoder", {**layer, "enable_nested_tensor": False}, made)


def step_select(body: Body) -> None:
    """One of several modules, chosen by the text `mode`; in the model alone."""
    body.chosen = True
    width = body.pick(*body.widths)
    members = {"a": weighted(body, width), "b": [weighted(body, width), plain(body)]}
    body.add("choice", {"select": "mode", "of": members}, replace(body.last, width=width))


def step_when(body: Body) -> None:
    """A head that runs in one mode alone, and is an output."""
    name = body.name("aux")
    layer = {**weighted(body, body.pick(*body.widths)), "when": body.pick("training", "evaluation")}
    body.layers[name] = {**layer, "from": body.last.name}
    body.extra.append(name)
