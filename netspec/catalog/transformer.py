"""Attention with weights of its own, and the layers of transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from netspec.catalog.attention import attention_flops
from netspec.catalog.entry import Argument, Entry, Inferred, Part, Port, Rule
from netspec.catalog.given import applied, layer_at
from netspec.catalog.rules import (
    Arguments,
    Inputs,
    Shape,
    inferred,
    known,
    one,
    refuse,
    rule,
    tensor,
    weighted,
)
from netspec.shapes import Size, TensorType

Weights = dict[str, tuple[int, ...]]
_MHA: Final = "MultiheadAttention"


def tokens(name: str, inputs: Inputs, port: str, batch_first: bool) -> tuple[Shape, Size, int]:
    """(batch, tokens, width) of a sequence; the batch is empty where it has none."""
    x = tensor(inputs, name, port)
    if len(x.shape) not in (2, 3):
        layout = "[N, T, features]" if batch_first else "[T, N, features]"
        refuse(f"{name} takes {layout} or [T, features], and got {x}", ports=(port,))
    weighted(name, x, port)
    width = known(name, x.shape[-1], "the number of features", port)
    if len(x.shape) == 2:
        return (), x.shape[0], width
    batch, length = x.shape[:2] if batch_first else (x.shape[1], x.shape[0])
    return (batch,), length, width


def _heads(name: str, width: int, heads: int, argument: str) -> None:
    if width % heads:
        refuse(
            f"{name}: {argument} {heads} does not divide the {width} features",
            help=f"choose {argument} among the divisors of {width}",
            argument=argument,
            code="NS404",
        )


def one_batch(name: str, first: Shape, second: Shape, ports: tuple[str, str]) -> None:
    """Refuse sequences of different batches."""
    if first != second:
        refuse(f"{name} takes sequences of one batch, and got {list(first)} and {list(second)}", ports=ports)


def _mask(name: str, inputs: Inputs, port: str, shapes: tuple[Shape, ...]) -> None:
    """Refuse a mask that has none of these shapes, or that is neither of truth values nor of float32."""
    if port not in inputs:
        return
    mask = tensor(inputs, name, port)
    if mask.dtype not in ("bool", "float32"):
        refuse(
            f"{name} takes masks of truth values or of float32, and got {mask.dtype}",
            ports=(port,),
            code="NS406",
        )
    if mask.shape not in shapes:
        wanted = " or ".join(str(TensorType(shape)) for shape in shapes)
        # Told that a mask is causal, torch does not always look at it.
        refuse(f"{name} takes {port} {wanted}, and got {mask}", ports=(port,), code="NS406")


def _masks(
    name: str, inputs: Inputs, ports: tuple[str, str], batch: Shape, heads: int, queries: Size, keys: Size
) -> None:
    scores = (queries, keys)
    many: tuple[Size, ...] = (batch[0] * heads if batch else heads, *scores)
    _mask(name, inputs, ports[0], (scores, many))
    _mask(name, inputs, ports[1], ((*batch, keys),))


def hint(name: str, arguments: Arguments, inputs: Inputs, argument: str, mask: str) -> None:
    """Refuse a word on a mask that is not there."""
    if arguments[argument] and mask not in inputs:
        refuse(f"{name}: {argument} only says what {mask} is, and there is none", argument=argument, code="NS404")


@rule
def _multihead(arguments: Arguments, inputs: Inputs) -> Inferred:
    first = arguments["batch_first"]
    (batch, queries, width), (other, keys, key_width), (third, values, value_width) = (
        tokens(_MHA, inputs, port, first) for port in ("query", "key", "value")
    )
    embed = inferred(_MHA, arguments, "embed_dim", width, "features in its last dimension", "query")
    heads = arguments["num_heads"]
    _heads(_MHA, embed, heads, "num_heads")
    for port, argument, got in (("key", "kdim", key_width), ("value", "vdim", value_width)):
        wanted = embed if arguments[argument] is None else arguments[argument]
        if got != wanted:
            refuse(
                f"{_MHA} takes a {port} with {wanted} features, and got {got}",
                help=f"state `{argument}: {got}`",
                ports=(port,),
                argument=argument,
                code="NS403",
            )
    one_batch(_MHA, batch, other, ("query", "key"))
    one_batch(_MHA, batch, third, ("query", "value"))
    if keys != values:
        refuse(f"{_MHA}: there are {keys} keys, and {values} values", ports=("key", "value"), code="NS403")
    _masks(_MHA, inputs, ("attn_mask", "key_padding_mask"), batch, heads, queries, keys)
    hint(_MHA, arguments, inputs, "is_causal", "attn_mask")
    query = inputs["query"]
    outputs = {"attn_output": TensorType((*query.shape[:-1], embed), query.dtype)}
    if arguments["need_weights"]:
        each = () if arguments["average_attn_weights"] else (heads,)
        outputs["attn_output_weights"] = TensorType((*batch, *each, queries, _more(arguments, keys)), query.dtype)
    return Inferred(outputs=outputs, arguments={"embed_dim": embed})


def _more(arguments: Mapping[str, Any], keys: Size) -> Size:
    """The keys with those that the layer adds itself."""
    more = arguments["add_bias_kv"] + arguments["add_zero_attn"]
    return keys + more if more else keys


def _attention_weights(arguments: Mapping[str, Any]) -> Weights:
    embed = arguments["embed_dim"]
    keys, values = arguments["kdim"] or embed, arguments["vdim"] or embed
    found: Weights = {}
    if keys == values == embed:
        found["in_proj_weight"] = (3 * embed, embed)
    else:
        found |= {
            "q_proj_weight": (embed, embed),
            "k_proj_weight": (embed, keys),
            "v_proj_weight": (embed, values),
        }
    if arguments["bias"]:
        found["in_proj_bias"] = (3 * embed,)
    if arguments["add_bias_kv"]:
        found["bias_k"] = found["bias_v"] = (1, 1, embed)
    found["out_proj.weight"] = (embed, embed)
    if arguments["bias"]:
        found["out_proj.bias"] = (embed,)
    return found


def _attention_parts(arguments: Mapping[str, Any]) -> Iterator[Part]:
    embed = arguments["embed_dim"]
    yield layer_at("out_proj", "Linear", in_features=embed, out_features=embed, bias=arguments["bias"])


def _multihead_flops(arguments: Arguments, inputs: Inputs, answer: Inferred) -> Size:
    embed, heads, first = arguments["embed_dim"], arguments["num_heads"], arguments["batch_first"]
    (batch, queries, _), (_, keys, key_width), (_, _, value_width) = (
        tokens(_MHA, inputs, port, first) for port in ("query", "key", "value")
    )
    rows = batch[0] if batch else 1
    projections = 2 * rows * embed * (2 * queries * embed + keys * key_width + keys * value_width)
    query = TensorType((rows * heads, queries, embed // heads))
    key = TensorType((rows * heads, _more(arguments, keys), embed // heads))
    flops: Size = projections + attention_flops(query, key, embed // heads)
    return flops


# Layers of transformers


def small(bias: bool, *rows: tuple[str, tuple[int, ...]]) -> Weights:
    """Weights with a bias as long as their first size, where there are biases."""
    found: Weights = {}
    for name, shape in rows:
        found[f"{name}.weight"] = shape
        if bias:
            found[f"{name}.bias"] = shape[:1]
    return found


def _self_attention(name: str, arguments: Mapping[str, Any]) -> Weights:
    plain = {"kdim": None, "vdim": None, "add_bias_kv": False, "bias": arguments["bias"]}
    weights = _attention_weights({**plain, "embed_dim": arguments["d_model"]})
    return {f"{name}.{weight}": shape for weight, shape in weights.items()}


def layer_weights(decoder: bool) -> Any:
    """The weights of an encoder layer, or of a decoder layer."""

    def shapes(arguments: Mapping[str, Any]) -> Weights:
        width, inner = arguments["d_model"], arguments["dim_feedforward"]
        attentions = ("self_attn", "multihead_attn") if decoder else ("self_attn",)
        found: Weights = {}
        for name in attentions:
            found |= _self_attention(name, arguments)
        norms = [(f"norm{i + 1}", (width,)) for i in range(len(attentions) + 1)]
        return found | small(arguments["bias"], ("linear1", (inner, width)), ("linear2", (width, inner)), *norms)

    return shapes


def layer_parts(decoder: bool) -> Callable[[Mapping[str, Any]], Iterator[Part]]:
    """The modules with weights inside of an encoder layer, or of a decoder layer."""

    def parts(arguments: Mapping[str, Any]) -> Iterator[Part]:
        width, inner, bias = (arguments[name] for name in ("d_model", "dim_feedforward", "bias"))
        attentions = ("self_attn", "multihead_attn") if decoder else ("self_attn",)
        for name in attentions:
            yield layer_at(name, _MHA, embed_dim=width, num_heads=arguments["nhead"], bias=bias)
        yield layer_at("linear1", "Linear", in_features=width, out_features=inner, bias=bias)
        yield layer_at("linear2", "Linear", in_features=inner, out_features=width, bias=bias)
        for i in range(len(attentions) + 1):
            yield layer_at(f"norm{i + 1}", "LayerNorm", normalized_shape=width, bias=bias)

    return parts


def _activation(name: str, arguments: Arguments, x: TensorType) -> None:
    """Refuse a function that does not keep the shape of what stands between the linear layers."""
    called = arguments["activation"]
    if called in ("relu", "gelu"):
        return
    between = TensorType((*x.shape[:-1], arguments["dim_feedforward"]), x.dtype)
    given = applied(name, "activation", called, between)
    if given != between:
        refuse(
            f"{name} takes an activation that keeps the shape, and {called} makes {given} of {between}",
            argument="activation",
            ports=(),
            code="NS404",
        )


def encoder_layer(name: str) -> Rule:
    """The rule of an encoder layer, under the name of what has it."""

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        batch, length, width = tokens(name, inputs, "src", arguments["batch_first"])
        model = inferred(name, arguments, "d_model", width, "features in its last dimension", "src")
        _heads(name, model, arguments["nhead"], "nhead")
        _activation(name, arguments, inputs["src"])
        _masks(name, inputs, ("src_mask", "src_key_padding_mask"), batch, arguments["nhead"], length, length)
        hint(name, arguments, inputs, "is_causal", "src_mask")
        return one(inputs["src"].shape, inputs["src"].dtype, {"d_model": model})

    return infer


def decoder_layer(name: str) -> Rule:
    """The rule of a decoder layer, under the name of what has it."""

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        first, heads = arguments["batch_first"], arguments["nhead"]
        batch, length, width = tokens(name, inputs, "tgt", first)
        other, keys, key_width = tokens(name, inputs, "memory", first)
        model = inferred(name, arguments, "d_model", width, "features in its last dimension", "tgt")
        _heads(name, model, heads, "nhead")
        _activation(name, arguments, inputs["tgt"])
        one_batch(name, batch, other, ("tgt", "memory"))
        if key_width != model:
            refuse(
                f"{name} takes a memory with {model} features, and got {key_width}",
                ports=("tgt", "memory"),
                code="NS403",
            )
        _masks(name, inputs, ("tgt_mask", "tgt_key_padding_mask"), batch, heads, length, length)
        _masks(name, inputs, ("memory_mask", "memory_key_padding_mask"), batch, heads, length, keys)
        hint(name, arguments, inputs, "tgt_is_causal", "tgt_mask")
        hint(name, arguments, inputs, "memory_is_causal", "memory_mask")
        return one(inputs["tgt"].shape, inputs["tgt"].dtype, {"d_model": model})

    return infer


def _self_flops(rows: Size, queries: Size, keys: Size, width: int, heads: int) -> Size:
    query = TensorType((rows * heads, queries, width // heads))
    key = TensorType((rows * heads, keys, width // heads))
    flops: Size = 2 * rows * width * width * (2 * queries + 2 * keys) + attention_flops(query, key, width // heads)
    return flops


def layer_flops(decoder: bool) -> Any:
    """The FLOPs of an encoder layer, or of a decoder layer."""

    def count(arguments: Arguments, inputs: Inputs, answer: Inferred) -> Size:
        first, heads = arguments["batch_first"], arguments["nhead"]
        batch, length, width = tokens("", inputs, "tgt" if decoder else "src", first)
        rows = batch[0] if batch else 1
        flops = _self_flops(rows, length, length, width, heads)
        if decoder:
            flops = flops + _self_flops(rows, length, tokens("", inputs, "memory", first)[1], width, heads)
        both: Size = flops + 4 * rows * length * width * arguments["dim_feedforward"]
        return both

    return count


def _flag(name: str, default: bool, doc: str, call: bool = False) -> Argument:
    return Argument(name=name, kind="bool", default=default, doc=doc, call=call)


def _width(name: str) -> Argument:
    return Argument(name=name, kind="int", minimum=1, inferred=True, positional=True, doc="features of each token")


def _number(name: str, doc: str) -> Argument:
    return Argument(name=name, kind="int", minimum=1, positional=True, doc=doc)


def _dropout(default: float, doc: str) -> Argument:
    return Argument(name="dropout", kind="float", default=default, minimum=0, maximum=1, doc=doc)


_FIRST = _flag("batch_first", False, "whether sequences are [N, T, features], not [T, N, features]")
LAYER: Final = (
    _width("d_model"),
    _number("nhead", "parts that the features fall into, each with an attention of its own"),
    Argument(name="dim_feedforward", kind="int", default=2048, minimum=1, doc="features between the two linear layers"),
    _dropout(0.1, "probability that a value is set to zero in training"),
    Argument(
        name="activation",
        kind="choice|function",
        choices=("relu", "gelu"),
        default="relu",
        doc="the function between the linear layers",
    ),
    Argument(name="layer_norm_eps", kind="float", default=1e-5, doc="added to the variance in the norms"),
    _FIRST,
    _flag("norm_first", False, "whether the norms stand before attention and linear layers, not after"),
    _flag("bias", True, "whether linear layers and norms add learned vectors"),
)


def ports(*names: str, optional: tuple[str, ...] = ()) -> tuple[Port, ...]:
    """Tensors by position, and masks by name."""
    return (*(Port(name=name) for name in names), *(Port(name=name, optional=True, keyword=True) for name in optional))


def causal(name: str, mask: str) -> Argument:
    """An argument of the call that says what a mask is like."""
    return _flag(name, False, f"says that {mask} is causal, which may be faster", call=True)


def detected(name: str, mask: str) -> Argument:
    """The same, where torch looks at the mask if nothing is said."""
    doc = f"says that {mask} is causal, which may be faster; null: torch looks"
    return Argument(name=name, kind="bool?", default=None, doc=doc, call=True)


ENTRIES: tuple[Entry, ...] = (
    Entry(
        name=_MHA,
        category="layer",
        target="torch.nn.MultiheadAttention",
        arguments=(
            _width("embed_dim"),
            _number("num_heads", "parts that the features fall into, each with an attention of its own"),
            _dropout(0.0, "probability that a weight is set to zero in training"),
            _flag("bias", True, "whether projections add learned vectors"),
            _flag("add_bias_kv", False, "whether a learned key and value are added"),
            _flag("add_zero_attn", False, "whether a key and value of zeros are added"),
            Argument(name="kdim", kind="int?", default=None, minimum=1, doc="features of a key; null: embed_dim"),
            Argument(name="vdim", kind="int?", default=None, minimum=1, doc="features of a value; null: embed_dim"),
            _FIRST,
            _flag("need_weights", True, "whether the weights are given too, which costs time", call=True),
            _flag("average_attn_weights", True, "whether the weights are averaged over the heads", call=True),
            causal("is_causal", "attn_mask"),
        ),
        inputs=(
            *ports("query", "key", "value", optional=("key_padding_mask",)),
            Port(name="attn_mask", optional=True, keyword=True),
        ),
        returns=("attn_output", "attn_output_weights"),
        rule=_multihead,
        parameters=_attention_weights,
        inner=_attention_parts,
        flops=_multihead_flops,
        doc="Mixes values, weighted by how well queries go with keys, in several learned ways at once.",
    ),
    Entry(
        name="TransformerEncoderLayer",
        category="layer",
        target="torch.nn.TransformerEncoderLayer",
        arguments=(*LAYER, causal("is_causal", "src_mask")),
        inputs=ports("src", optional=("src_mask", "src_key_padding_mask")),
        rule=encoder_layer("TransformerEncoderLayer"),
        parameters=layer_weights(False),
        inner=layer_parts(False),
        flops=layer_flops(False),
        doc="Attention of a sequence to itself and two linear layers, each with a shortcut and a norm.",
    ),
    Entry(
        name="TransformerDecoderLayer",
        category="layer",
        target="torch.nn.TransformerDecoderLayer",
        arguments=(
            *LAYER,
            causal("tgt_is_causal", "tgt_mask"),
            causal("memory_is_causal", "memory_mask"),
        ),
        inputs=ports(
            "tgt",
            "memory",
            optional=("tgt_mask", "memory_mask", "tgt_key_padding_mask", "memory_key_padding_mask"),
        ),
        rule=decoder_layer("TransformerDecoderLayer"),
        parameters=layer_weights(True),
        inner=layer_parts(True),
        flops=layer_flops(True),
        doc="Attention of a sequence to itself and to a memory, and two linear layers.",
    ),
)
