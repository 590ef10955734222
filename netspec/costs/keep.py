"""What autograd keeps of each layer until the backward pass.

The formulas are torch's (tools/autograd/derivatives.yaml). A rule names what is kept: the input, the output, both
factors of a product, and what the layer computes beside its output (indices of a pooling, the mean and deviation of a
norm, the mask of a dropout). What is kept twice is counted once: the output of a ReLU that a convolution reads is one
tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from netspec.catalog.entry import Entry
from netspec.costs.recurrent import cell, recurrent
from netspec.costs.tensors import WIDTH, Held, Storage, numel, size_of, straight
from netspec.costs.work import Rule, Work
from netspec.shapes import Size, TensorType


def _input(work: Work) -> None:
    work.keep(work.first)


def _output(work: Work) -> None:
    work.keep(work.outputs[0])


def _nothing(work: Work) -> None:
    pass


def _in_place(rule: Rule) -> Rule:
    """Of an activation that can overwrite its input, the result is what is left to keep."""
    return lambda work: _output(work) if work.arguments.get("inplace") else rule(work)


def _copied(work: Work) -> None:
    """An activation whose formula needs its input: in place, autograd keeps a copy."""
    if work.arguments.get("inplace"):
        work.kept.append(Storage(size_of(work.first.type)))
    else:
        _input(work)


def factors(tensors: list[Held], matrices: bool) -> list[Storage]:
    """What a product of two keeps: each factor that the other's gradient needs. Stacks of matrices are joined into one
    stack first, which copies those that do not lie one after the other.
    """
    found = []
    for kept, by in ((tensors[0], tensors[-1]), (tensors[-1], tensors[0])):
        rank = len(kept.type.shape)
        apart = kept.order is None or kept.order[:-2] != tuple(range(rank - 2))
        if by.grad:
            found.append(Storage(size_of(kept.type)) if matrices and rank > 3 and apart else kept.storage)
    return found


def _factors(work: Work) -> None:
    if len(work.tensors) == 2:
        work.kept += factors(work.tensors, work.entry.name == "matmul")


def _linear(work: Work) -> None:
    if work.trained and len(work.first.type.shape) > 2:
        work.straightened(work.first)
    elif work.trained:
        work.keep(work.first)


def _embedding(work: Work) -> None:
    if work.trained:
        work.keep(work.first)


def _batch_norm(work: Work) -> None:
    work.keep(work.first)
    if work.arguments.get("frozen"):
        return
    work.add(2 * int(work.first.type.shape[1]))  # type: ignore[arg-type]


def _instance_norm(work: Work) -> None:
    work.straightened(work.first)
    count = numel(work.first.type.shape[:2])
    parts = 3 if work.arguments.get("affine") else 2
    work.add(None if count is None else parts * count)


def _layer_norm(work: Work) -> None:
    work.keep(work.first)
    normal = work.arguments.get("normalized_shape", 1)
    shape = work.first.type.shape
    rows = numel(shape[: len(shape) - (len(normal) if isinstance(normal, list | tuple) else 1)])
    work.add(None if rows is None else (1 if work.entry.name == "RMSNorm" else 2) * rows)


def _group_norm(work: Work) -> None:
    work.straightened(work.first)
    samples = numel(work.first.type.shape[:1])
    work.add(None if samples is None else 2 * samples * int(work.arguments["num_groups"]))


def _frozen_norm(work: Work) -> None:
    """x * scale + bias of buffers: the scale alone, which the buffers give."""
    work.add(int(work.first.type.shape[1]))  # type: ignore[arg-type]


def _normalize(work: Work) -> None:
    """The input, its norms, and these once more with the least that they may be; by that the input is divided."""
    work.keep(work.first)
    shape = work.first.type.shape
    axis = int(work.arguments.get("dim", 1)) % len(shape)
    norms = numel((*shape[:axis], *shape[axis + 1 :]))
    work.add(None if norms is None else 2 * norms, WIDTH[work.first.type.dtype])


def _mask(shape: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> Rule:
    """A dropout keeps its mask: one byte a number on a GPU where the kernel is fused, the tensor's own format else."""

    def rule(work: Work) -> None:
        type_ = work.first.type
        part = shape(type_.shape)
        fused = work.gpu and part == type_.shape
        work.add(numel(part), 1 if fused else WIDTH[type_.dtype])

    return rule


_each = _mask(lambda shape: shape)
_channels = _mask(lambda shape: (*shape[:2], *(1 for _ in shape[2:])))


def _stochastic(work: Work) -> None:
    shape = work.first.type.shape
    work.add(numel(shape[:1]) if work.arguments.get("mode") == "row" else 1, WIDTH[work.first.type.dtype])


def _indices(work: Work) -> None:
    work.keep(work.first)
    work.add(numel(work.outputs[0].type.shape), 8)


def _average(work: Work) -> None:
    """The mean over everything keeps nothing; a pooling into several places its input."""
    size = work.arguments["output_size"]
    if not all(one == 1 for one in (size if isinstance(size, list | tuple) else (size,))):
        work.keep(work.first)


def _attention(work: Work) -> None:
    query, key, value = (work.inputs[name][0] for name in ("query", "key", "value"))
    shape, length = query.type.shape, key.type.shape[-2]
    _scores(work, [query, key, value], (*shape[:-1], length), bool(work.arguments.get("dropout_p")))


def _scores(work: Work, tensors: list[Held], scores: tuple[Size, ...], drops: bool) -> None:
    """Scaled dot products. The fused kernels keep what they read and give, and the logarithm of each row's sum; on a
    CPU none is fused that drops out, and the scores are kept before, between and after.
    """
    query, key, value = tensors
    width = WIDTH[query.type.dtype]
    if not drops or work.gpu:
        work.keep(query, key, value)
        work.add(numel(query.type.shape), width)
        work.add(numel(scores[:-1]))
        return
    work.kept += factors([value, replace(query, grad=True)], True)[:1]
    for scaled in (query, key):
        work.add(numel(scaled.type.shape), width)
    for _ in ("softmax", "mask", "dropped"):
        work.add(numel(scores), width)


def _multihead(work: Work) -> None:
    query, *others = work.tensors[:3]
    _heads(work, query, others[0] if others else query, bool(work.arguments.get("need_weights", True)))


def _heads(work: Work, query: Held, memory: Held, weights: bool = False, embed: int = 0) -> None:
    """The projections of query, key and value, the attention itself, and the input of the projection after it."""
    arguments = work.arguments
    embed = embed or int(arguments["embed_dim"])
    heads = int(arguments.get("num_heads") or arguments["nhead"])
    first, batched = bool(arguments.get("batch_first")), len(query.type.shape) == 3
    for tensor in {id(one.storage): one for one in (query, memory)}.values():
        if first and batched:  # turned to [L, N, E]: a view, of which the product keeps a copy
            work.kept.append(Storage(size_of(tensor.type)))
        else:
            work.straightened(tensor)
    axis = 1 if first and batched else 0
    shape, length = query.type.shape, memory.type.shape[axis]
    scores = (*shape[:axis], *shape[axis + 1 : -1], heads, shape[axis], length)
    dtype = query.type.dtype
    # One storage holds all three where they come of one product.
    parts = [
        Held(
            type=TensorType((*scores[:-2], size, embed // heads), dtype),
            storage=Storage(None),
            order=tuple(range(len(scores))),
        )
        for size in (shape[axis], length, length)
    ]
    for part in parts:
        part.storage.size = size_of(part.type)
    if not weights:
        drops = bool(arguments.get("dropout"))
        _scores(work, parts, scores, drops)
        if drops and not work.gpu:
            work.keep(*parts[:2])
            work.add(numel(query.type.shape), WIDTH[dtype])
        return
    work.keep(*parts)
    width = WIDTH[dtype]
    for _ in ("scaled", "mixed"):
        work.add(numel(query.type.shape), width)
    for _ in range(3 if arguments.get("dropout") else 1):
        work.add(numel(scores), width)


def _transformer(work: Work) -> None:
    """The layers of `nn.Transformer`: attention, twice in a decoder, and two products, with dropouts and norms."""
    x, *rest = work.tensors
    type_, arguments = x.type, work.arguments
    dtype, wide = WIDTH[type_.dtype], int(arguments["dim_feedforward"])
    rows = numel(type_.shape[:-1])
    embed = int(type_.shape[-1])  # type: ignore[arg-type]
    decoder = work.entry.name == "TransformerDecoderLayer"
    drops = bool(arguments.get("dropout"))
    read = x
    if arguments.get("norm_first"):
        work.keep(x)
        read = Held(type=type_, storage=Storage(size_of(type_)), order=straight(type_))
    _heads(work, read, read, embed=embed)
    if decoder:
        _heads(work, Held(type=type_, storage=Storage(size_of(type_)), order=straight(type_)), rest[0], embed=embed)
    if rows is None:
        return work.add(None)
    norms = 3 if decoder else 2
    work.add(2 * norms * rows)  # the means and deviations of the norms
    work.add((norms - bool(arguments.get("norm_first"))) * rows * embed, dtype)  # what the norms read
    work.add(rows * embed, dtype)  # what the first product reads
    gelu = arguments.get("activation") == "gelu"
    work.add(rows * wide * (1 + (drops or gelu)), dtype)
    if drops:
        work.add(norms * rows * embed + rows * wide, 1 if work.gpu else dtype)
    return None


def _names(rule: Rule, *names: str) -> dict[str, Rule]:
    return dict.fromkeys(names, rule)


RULES: Final[Mapping[str, Rule]] = {
    **_names(_input, "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"),
    **_names(_linear, "Linear"),
    **_names(_factors, "mul", "div", "matmul", "bmm", "Bilinear", "maximum", "minimum"),
    **_names(_embedding, "Embedding"),
    **_names(_batch_norm, "BatchNorm1d", "BatchNorm2d", "BatchNorm3d"),
    **_names(_instance_norm, "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"),
    **_names(_layer_norm, "LayerNorm", "layer_norm", "RMSNorm"),
    **_names(_group_norm, "GroupNorm"),
    **_names(_normalize, "normalize"),
    **_names(_frozen_norm, "FrozenBatchNorm2d"),
    **_names(
        _output, "ReLU", "relu", "Sigmoid", "sigmoid", "Tanh", "tanh", "Softmax", "softmax", "Softmax2d", "Softmin"
    ),
    **_names(_output, "softmin", "LogSoftmax", "log_softmax", "exp", "expm1", "sqrt", "rsqrt", "reciprocal"),
    **_names(_in_place(_input), "ReLU6", "relu6", "Hardtanh", "hardtanh", "LeakyReLU", "leaky_relu", "ELU", "elu"),
    **_names(_in_place(_input), "SELU", "selu", "CELU", "celu", "Threshold", "threshold"),
    **_names(_copied, "SiLU", "silu", "Mish", "mish", "Hardswish", "hardswish", "Hardsigmoid", "hardsigmoid"),
    **_names(_each, "Dropout", "dropout"),
    **_names(_channels, "Dropout1d", "Dropout2d", "Dropout3d", "dropout1d", "dropout2d", "dropout3d"),
    **_names(_stochastic, "StochasticDepth"),
    **_names(_indices, "MaxPool1d", "MaxPool2d", "MaxPool3d", "max_pool1d", "max_pool2d", "max_pool3d"),
    **_names(_indices, "AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AdaptiveMaxPool3d"),
    **_names(_indices, "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
    **_names(_average, "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d"),
    **_names(_average, "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
    **_names(_attention, "scaled_dot_product_attention"),
    **_names(_multihead, "MultiheadAttention"),
    **_names(_transformer, "TransformerEncoderLayer", "TransformerDecoderLayer"),
    **_names(recurrent, "RNN", "LSTM", "GRU"),
    **_names(cell, "RNNCell", "LSTMCell", "GRUCell"),
    **_names(_nothing, "cat", "stack", "add", "sub", "neg", "mean", "sum", "pad", "interpolate", "Upsample", "repeat"),
    **_names(
        _nothing, "UpsamplingNearest2d", "UpsamplingBilinear2d", "PixelShuffle", "PixelUnshuffle", "ChannelShuffle"
    ),
    **_names(
        _nothing, "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "Unfold", "Fold", "unfold", "fold", "roll"
    ),
    **_names(_nothing, "flip", "contiguous", "floor", "ceil", "round", "sign", "tril", "triu", "cumsum"),
}
"""By the name of the entry. A layer that has none keeps its input, as most formulas do; what reshapes keeps nothing."""


def rule_of(entry: Entry) -> Rule:
    if entry.name in RULES:
        return RULES[entry.name]
    if entry.role == "reshape" or entry.category == "weight":
        return _nothing
    return _input
