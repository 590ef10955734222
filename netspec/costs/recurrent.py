"""What autograd keeps of recurrent layers.

Counted is torch's path on a CPU in float32 (aten/src/ATen/native/RNN.cpp): an RNN and a GRU are a chain of small
operations, each step of which keeps what it reads; an LSTM runs in oneDNN, which keeps a workspace for each layer and
direction. cuDNN keeps a reserve space instead, whose layout it does not publish; it is of the same order.
"""

from __future__ import annotations

from typing import Final

from netspec.costs.tensors import WIDTH
from netspec.costs.work import Work

STEP: Final = {"RNN": 1, "GRU": 7}
"""States that a step keeps: of a GRU its three gates, the products of the state for them, and the state itself."""
PAGE: Final = 4096
LINE: Final = 64
"""Of memory and of a cache, in bytes."""


def recurrent(work: Work) -> None:
    arguments = work.arguments
    shape = work.first.type.shape
    if any(not isinstance(size, int) for size in shape):
        return work.add(None)
    *rows, features = (int(size) for size in shape)  # type: ignore[arg-type]
    turned = bool(arguments.get("batch_first")) and len(rows) == 2
    steps, batch = (rows[1], rows[0]) if turned else (rows[0], rows[1] if len(rows) == 2 else 1)
    hidden, layers = int(arguments["hidden_size"]), int(arguments.get("num_layers", 1))
    ways = 2 if arguments.get("bidirectional") else 1
    name, width = work.entry.name, WIDTH[work.first.type.dtype]
    state, sequence = batch * hidden, steps * batch * hidden
    if work.first.order == ((1, 0, 2) if turned else tuple(range(len(shape)))):
        work.keep(work.first)
    else:  # a copy as the kernels read it, of a chain of operations one for each direction
        for _ in range(1 if name == "LSTM" else ways):
            work.add(steps * batch * features, width)
    for layer in range(layers):
        taken = features if not layer else ways * hidden
        if layer and arguments.get("dropout"):
            work.add(ways * sequence, width)  # the mask
        if layer and (name != "LSTM" or ways == 2 or arguments.get("dropout")):
            work.add(ways * sequence, width)  # what the layer reads, where it is not what the last one keeps
        for _ in range(ways):
            if name == "LSTM":
                work.add(sequence + 4 * state, width)  # its output, and both states before and after
                work.add(_workspace(batch, steps, taken, hidden), 1)
            elif name == "GRU":
                work.add(STEP[name] * sequence, width)
            else:
                work.add(STEP[name] * sequence + state, width)
            if name == "LSTM" and not arguments.get("bias", True):
                work.add(4 * hidden * (taken + hidden), width)  # the weights once more, beside biases of zeros
    return None


def _workspace(batch: int, steps: int, taken: int, hidden: int) -> int:
    """oneDNN's workspace of an LSTM in bytes (src/cpu/rnn/rnn_utils.hpp): gates, outputs, the states of the layer and
    of the steps before and after, each from a page of its own; rows are padded to cache lines.
    """

    def padded(size: int) -> int:
        row = -(-size * 4 // LINE) * LINE // 4
        return row + LINE // 4 if row % 256 == 0 else row  # rows 1024 bytes apart would share a place in the cache

    def paged(numbers: int) -> int:
        return -(-numbers * 4 // PAGE) * PAGE

    states = 2 * (steps + 1) * batch
    wide, plain = paged(states * padded(max(taken, hidden))), paged(states * hidden)
    gates = paged(steps * batch * padded(4 * hidden))
    return gates + paged(steps * batch * padded(hidden)) + 3 * wide + 2 * plain


def cell(work: Work) -> None:
    """One step: the input, and states as many as the gates and what they give."""
    work.keep(*work.tensors)
    shape = work.first.type.shape
    if not all(isinstance(size, int) for size in shape):
        return work.add(None)
    batch = int(shape[0]) if len(shape) == 2 else 1  # type: ignore[arg-type]
    state = batch * int(work.arguments["hidden_size"])
    given = len(work.tensors) - 1
    own = {"RNNCell": 2, "LSTMCell": 6, "GRUCell": 7}[work.entry.name]
    work.add((own - given) * state, WIDTH[work.first.type.dtype])
    return None
