"""Whole transformers, and stacks of copies of a layer that is given: `TransformerEncoder`, `TransformerDecoder`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from netspec.catalog.entry import Argument, Entry, Inferred, Part, Rule
from netspec.catalog.given import Weights, gives, inside, keeps, layer_at, times, total
from netspec.catalog.rules import Arguments, Inputs, Refused, inferred, one, refuse, rule, tensor
from netspec.catalog.transformer import (
    LAYER,
    causal,
    decoder_layer,
    detected,
    encoder_layer,
    hint,
    layer_flops,
    layer_parts,
    layer_weights,
    one_batch,
    ports,
    small,
    tokens,
)
from netspec.shapes import Problem, Size

_SOURCE: Final = ("src", "src_mask", "src_key_padding_mask")
_TARGET: Final = ("tgt", "tgt_mask", "memory_mask", "tgt_key_padding_mask", "memory_key_padding_mask")


def _parts(arguments: Arguments, inputs: Inputs) -> tuple[Arguments, Inputs, Arguments, Inputs]:
    """What the layers of the encoder and those of the decoder get."""
    encoder = {**arguments, "is_causal": bool(arguments["src_is_causal"])}
    decoder = {**arguments, "tgt_is_causal": bool(arguments["tgt_is_causal"])}
    source, target = ({n: inputs[n] for n in names if n in inputs} for names in (_SOURCE, _TARGET))
    return encoder, source, decoder, {**target, "memory": inputs["src"]}


@rule
def _transformer(arguments: Arguments, inputs: Inputs) -> Inferred:
    name, first = "Transformer", arguments["batch_first"]
    encoder, source, decoder, target = _parts(arguments, inputs)
    (batch, _, width), (other, _, _) = (tokens(name, inputs, port, first) for port in ("src", "tgt"))
    one_batch(name, batch, other, ("src", "tgt"))
    model = inferred(name, arguments, "d_model", width, "features in its last dimension", "src")
    output = inputs["tgt"]
    if arguments["custom_encoder"] is not None:
        keeps(name, "custom_encoder", arguments["custom_encoder"], inputs["src"])
    elif isinstance(answer := encoder_layer(name)(encoder, source), Problem):
        raise Refused(answer)
    if arguments["custom_decoder"] is not None:
        output = gives(name, "custom_decoder", arguments["custom_decoder"])
    elif isinstance(answer := decoder_layer(name)(decoder, target), Problem):
        raise Refused(answer)
    hint(name, encoder, inputs, "is_causal", "src_mask")
    hint(name, decoder, inputs, "tgt_is_causal", "tgt_mask")
    hint(name, decoder, inputs, "memory_is_causal", "memory_mask")
    if inputs["tgt"].shape[-1] != model:
        refuse(
            f"{name} takes a target with {model} features, and got {inputs['tgt']}", ports=("src", "tgt"), code="NS403"
        )
    return one(output.shape, output.dtype, {"d_model": model})


def _transformer_weights(arguments: Mapping[str, Any]) -> Weights:
    found: Weights = {}
    for side, decoder in (("encoder", False), ("decoder", True)):
        if arguments[f"custom_{side}"] is not None:
            found |= inside(side, arguments[f"custom_{side}"].parameters)
            continue
        for i in range(arguments[f"num_{side}_layers"]):
            found |= {f"{side}.layers.{i}.{name}": shape for name, shape in layer_weights(decoder)(arguments).items()}
        found |= small(arguments["bias"], (f"{side}.norm", (arguments["d_model"],)))
    return found


def _transformer_parts(arguments: Mapping[str, Any]) -> Iterator[Part]:
    width, bias = arguments["d_model"], arguments["bias"]
    for side, decoder in (("encoder", False), ("decoder", True)):
        if arguments[f"custom_{side}"] is not None:
            continue
        for i in range(arguments[f"num_{side}_layers"]):
            for part in layer_parts(decoder)(arguments):
                yield part._replace(place=f"{side}.layers.{i}.{part.place}")
        yield layer_at(f"{side}.norm", "LayerNorm", normalized_shape=width, bias=bias)


def _transformer_flops(arguments: Arguments, inputs: Inputs, answer: Inferred) -> Size:
    encoder, source, decoder, target = _parts(arguments, inputs)
    parts: list[Size | None] = []
    for side, given in (("encoder", (encoder, source)), ("decoder", (decoder, target))):
        custom, count = arguments[f"custom_{side}"], arguments[f"num_{side}_layers"]
        parts.append(custom.flops if custom is not None else layer_flops(side == "decoder")(*given, answer) * count)
    return total(parts)


def _transformer_statistics(arguments: Mapping[str, Any]) -> Weights:
    found: Weights = {}
    for side in ("encoder", "decoder"):
        if arguments[f"custom_{side}"] is not None:
            found |= inside(side, arguments[f"custom_{side}"].buffers)
    return found


def _custom(side: str, fed: tuple[tuple[str, str], ...]) -> Argument:
    name = f"Transformer{side.capitalize()}"
    return Argument(
        name=f"custom_{side}",
        kind="module?",
        default=None,
        types=(name,),
        fed=fed,
        places=lambda arguments: (side,),
        doc=f"a {name} in place of the one that the other arguments describe",
    )


def _layers(side: str) -> Argument:
    return Argument(name=f"num_{side}_layers", kind="int", default=6, minimum=1, doc=f"how many layers the {side} has")


def _stack(name: str, port: str, hints: tuple[tuple[str, str], ...]) -> Rule:
    layer = _layer_of(name)

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name, port)
        keeps(name, layer, arguments[layer], x)
        for argument, mask in hints:
            hint(name, arguments, inputs, argument, mask)
        if arguments["norm"] is not None:
            x = gives(name, "norm", arguments["norm"])
        return one(x.shape, x.dtype)

    return infer


def _layer_of(name: str) -> str:
    return "encoder_layer" if name == "TransformerEncoder" else "decoder_layer"


def _copies(arguments: Mapping[str, Any]) -> list[str]:
    return [f"layers.{i}" for i in range(arguments["num_layers"])]


def _weights(layer: str) -> Callable[[Mapping[str, Any]], Weights]:
    def shapes(arguments: Mapping[str, Any]) -> Weights:
        found: Weights = {}
        for place in _copies(arguments):
            found |= inside(place, arguments[layer].parameters)
        return found | (inside("norm", arguments["norm"].parameters) if arguments["norm"] is not None else {})

    return shapes


def _statistics(arguments: Mapping[str, Any]) -> Weights:
    return inside("norm", arguments["norm"].buffers) if arguments["norm"] is not None else {}


def _flops(layer: str) -> Callable[[Arguments, Inputs, Inferred], Size]:
    def count(arguments: Arguments, inputs: Inputs, answer: Inferred) -> Size:
        norm = arguments["norm"]
        stacked = times(arguments[layer].flops, arguments["num_layers"])
        return total([stacked, *([norm.flops] if norm is not None else ())])

    return count


def _arguments(name: str, inputs: tuple[tuple[str, str], ...]) -> tuple[Argument, ...]:
    layer = _layer_of(name)
    return (
        Argument(
            name=layer,
            kind="module",
            positional=True,
            types=(f"{name}Layer",),
            fed=inputs,
            places=_copies,
            doc="the layer of which copies are stacked; all start with the same weights",
        ),
        Argument(name="num_layers", kind="int", minimum=1, positional=True, doc="how many copies there are"),
        Argument(
            name="norm",
            kind="module?",
            default=None,
            fed=(("", inputs[0][1]),),
            places=lambda arguments: ("norm",),
            doc="what the last layer's output goes through, a LayerNorm say",
        ),
    )


_DECODED: Final = (
    "tgt",
    "memory",
    "tgt_mask",
    "memory_mask",
    "tgt_key_padding_mask",
    "memory_key_padding_mask",
)

ENTRIES: tuple[Entry, ...] = (
    Entry(
        name="Transformer",
        category="layer",
        target="torch.nn.Transformer",
        arguments=(
            LAYER[0],
            replace(LAYER[1], default=8),
            _layers("encoder"),
            _layers("decoder"),
            *LAYER[2:5],
            _custom(
                "encoder", (("src", "src"), ("mask", "src_mask"), ("src_key_padding_mask", "src_key_padding_mask"))
            ),
            _custom("decoder", (("tgt", "tgt"), ("memory", "src"), *((name, name) for name in _TARGET[1:]))),
            *LAYER[5:],
            detected("src_is_causal", "src_mask"),
            detected("tgt_is_causal", "tgt_mask"),
            causal("memory_is_causal", "memory_mask"),
        ),
        inputs=ports(
            "src",
            "tgt",
            optional=(
                "src_mask",
                "tgt_mask",
                "memory_mask",
                "src_key_padding_mask",
                "tgt_key_padding_mask",
                "memory_key_padding_mask",
            ),
        ),
        rule=_transformer,
        parameters=_transformer_weights,
        inner=_transformer_parts,
        buffers=_transformer_statistics,
        flops=_transformer_flops,
        doc="An encoder of one sequence and a decoder of another, as in the paper that named them.",
    ),
    Entry(
        name="TransformerEncoder",
        category="layer",
        target="torch.nn.TransformerEncoder",
        arguments=(
            *_arguments(
                "TransformerEncoder",
                (("src", "src"), ("src_mask", "mask"), ("src_key_padding_mask", "src_key_padding_mask")),
            ),
            Argument(
                name="enable_nested_tensor",
                kind="bool",
                default=True,
                doc="whether padding is left out in evaluation; torch warns where the layers do not allow that",
            ),
            Argument(
                name="mask_check",
                kind="bool",
                default=True,
                doc="whether that is done only where the padding stands at the end",
            ),
            detected("is_causal", "mask"),
        ),
        inputs=ports("src", optional=("mask", "src_key_padding_mask")),
        rule=_stack("TransformerEncoder", "src", (("is_causal", "mask"),)),
        parameters=_weights("encoder_layer"),
        buffers=_statistics,
        flops=_flops("encoder_layer"),
        doc="A stack of equal encoder layers, each with weights of its own.",
    ),
    Entry(
        name="TransformerDecoder",
        category="layer",
        target="torch.nn.TransformerDecoder",
        arguments=(
            *_arguments("TransformerDecoder", tuple((name, name) for name in _DECODED)),
            detected("tgt_is_causal", "tgt_mask"),
            causal("memory_is_causal", "memory_mask"),
        ),
        inputs=ports("tgt", "memory", optional=_DECODED[2:]),
        rule=_stack("TransformerDecoder", "tgt", (("tgt_is_causal", "tgt_mask"), ("memory_is_causal", "memory_mask"))),
        parameters=_weights("decoder_layer"),
        buffers=_statistics,
        flops=_flops("decoder_layer"),
        doc="A stack of equal decoder layers, which read a memory, each with weights of its own.",
    ),
)
