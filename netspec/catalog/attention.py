"""Attention as a function."""

from __future__ import annotations

from netspec.broadcast import broadcast
from netspec.catalog.entry import Argument, Entry, Inferred, Port
from netspec.catalog.rules import FLOATING, Arguments, Inputs, accepting, numel, one, refuse, rule, tensor
from netspec.shapes import Problem, Size, TensorType

_NAME = "scaled_dot_product_attention"
_QKV = ("query", "key", "value")


@rule
def _attend(arguments: Arguments, inputs: Inputs) -> Inferred:
    query, key, value = (tensor(inputs, _NAME, port) for port in _QKV)
    for port, x in zip(_QKV, (query, key, value), strict=True):
        accepting(_NAME, x, FLOATING, port)
        if len(x.shape) < 2:
            refuse(f"{_NAME} takes [..., tokens, features], and got {x}", ports=(port,))
        if x.dtype != query.dtype:
            refuse(f"{_NAME} takes tensors of one dtype, and got {query.dtype} and {x.dtype}", ports=_QKV, code="NS402")
    if query.shape[-1] != key.shape[-1]:
        refuse(
            f"{_NAME}: the queries have {query.shape[-1]} features, and the keys {key.shape[-1]}",
            ports=("query", "key"),
            code="NS403",
        )
    if key.shape[-2] != value.shape[-2]:
        refuse(
            f"{_NAME}: there are {key.shape[-2]} keys, and {value.shape[-2]} values",
            ports=("key", "value"),
            code="NS406",  # some of torch's kernels take it, and read beyond the values in the backward pass
        )
    if not query.shape[:-2] == key.shape[:-2] == value.shape[:-2]:
        scores = broadcast(query.shape[:-2], key.shape[:-2])
        fits = not isinstance(scores, Problem) and not isinstance(broadcast(scores, value.shape[:-2]), Problem)
        refuse(
            f"{_NAME} takes one batch and one number of heads, and got {query}, {key} and {value}",
            ports=_QKV,
            code="NS406" if fits else "NS403",  # whether it broadcasts differs between torch's kernels
        )
    if "attn_mask" in inputs:
        _check_mask(arguments, inputs, query, key)
    return one((*query.shape[:-1], value.shape[-1]), query.dtype)


def _check_mask(arguments: Arguments, inputs: Inputs, query: TensorType, key: TensorType) -> None:
    mask = tensor(inputs, _NAME, "attn_mask")
    if arguments["is_causal"]:
        refuse(f"{_NAME} takes attn_mask or is_causal, not both", ports=("attn_mask",), argument="is_causal")
    if mask.dtype not in ("bool", query.dtype):
        refuse(
            f"{_NAME} takes a mask of truth values or of {query.dtype}, and got {mask.dtype}",
            ports=("attn_mask",),
            code="NS406" if mask.dtype in FLOATING else "NS402",
        )
    scores = (*query.shape[:-1], key.shape[-2])
    wide = broadcast(mask.shape, scores)
    if len(mask.shape) < 2 or isinstance(wide, Problem) or wide != scores:
        refuse(
            f"{_NAME} takes a mask that fits the scores {TensorType(scores)}, and got {mask}",
            ports=("attn_mask",),
            code="NS403" if isinstance(wide, Problem) else "NS406",
        )


def attention_flops(query: TensorType, key: TensorType, width: Size) -> Size:
    """Of the two products: queries with keys, and weights with values of this width."""
    scores = numel((*query.shape[:-1], key.shape[-2]))
    flops: Size = 2 * scores * query.shape[-1] + 2 * scores * width
    return flops


def _flops(arguments: Arguments, inputs: Inputs, answer: Inferred) -> Size:
    return attention_flops(inputs["query"], inputs["key"], inputs["value"].shape[-1])


ENTRIES = (
    Entry(
        name=_NAME,
        category="function",
        target=f"torch.nn.functional.{_NAME}",
        arguments=(
            Argument(
                name="dropout_p",
                kind="float",
                default=0.0,
                minimum=0,
                maximum=1,
                training=True,
                doc="probability that a weight is set to zero in training",
            ),
            Argument(
                name="is_causal", kind="bool", default=False, doc="whether a token sees only itself and those before it"
            ),
            Argument(
                name="scale",
                kind="float?",
                default=None,
                doc="factor on the scores; null: 1 over the square root of the features",
            ),
        ),
        inputs=(
            *(Port(name=port) for port in _QKV),
            Port(name="attn_mask", optional=True, keyword=True),
        ),
        rule=_attend,
        flops=_flops,
        role="merge",
        doc="Mixes values, weighted by how well each query goes with each key.",
    ),
)
