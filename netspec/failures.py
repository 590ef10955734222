"""The usual failures of PyTorch: by what torch says, which they are, what they mean in terms of a spec, and the mend.

`find` looks an exception up by its type and its message; nothing here imports torch. Each code has a page
(`netspec explain NS611`), and `netspec explain failures` lists them all. The patterns are held against the messages of
the installed torch by `tests/test_failures.py`, which provokes them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Final

UNKNOWN: Final = "NS600"
"""An exception that passed through a layer and that the table does not know."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One row: what torch says (patterns over the message, any of them, or the names of exception classes), what it
    means, and the mend. With both, both have to fit."""

    code: str
    means: str
    help: str
    patterns: tuple[str, ...] = ()
    types: tuple[str, ...] = ()


FAILURES: Final = (
    # What cannot go on whatever the layer is; CUDA's words may stand in any other message, so they come first.
    Failure(
        "NS614",
        "a check inside a GPU kernel failed: mostly a class index or an index of an Embedding out of range",
        "the place above may be too late, as a GPU reports with delay; `--set train.device=cpu` names the layer",
        (r"device-side assert",),
    ),
    Failure(
        "NS633",
        "the GPU stopped in the middle of its work",
        "run once with the environment variable CUDA_LAUNCH_BLOCKING=1, which names the place; look at `nvidia-smi` too",
        (
            r"illegal memory access",
            r"unspecified launch failure",
            r"misaligned address",
            r"uncorrectable ECC",
            r"CUDA error: (an )?illegal instruction",
        ),
    ),
    Failure(
        "NS910",
        "the device has too little memory",
        "a smaller data.batch_size, with train.accumulate for the same batch in several parts; or precision: bf16",
        (
            r"CUDA out of memory",
            r"CUDA error: out of memory",
            r"MPS backend out of memory",
            r"XPU out of memory",
            r"DefaultCPUAllocator: (can't|not enough)",
            r"Storage size calculation overflowed",
            r"CUBLAS_STATUS_ALLOC_FAILED",
            r"CUDNN_STATUS_ALLOC_FAILED",
            r"std::bad_alloc",
        ),
    ),
    Failure("NS910", "the machine has too little memory", "a smaller data.batch_size, or `data: {cache: false}`",
            types=("MemoryError", "OutOfMemoryError")),
    Failure(
        "NS631",
        "the GPU's driver, the GPU and this build of torch do not go together",
        "a newer driver, or a build of torch for the driver that is there; until then `--set train.device=cpu`",
        (
            r"NVIDIA driver on your system is too old",
            r"no kernel image is available",
            r"driver version is insufficient",
            r"forward compatibility was attempted",
            r"is not compatible with the current PyTorch installation",
        ),
    ),
    Failure(
        "NS630",
        "there is no such device",
        "`train: {device: auto}` takes the best there is; `nvidia-smi` shows what the driver sees",
        (
            r"Found no NVIDIA driver",
            r"No CUDA GPUs are available",
            r"Torch not compiled with \w+ enabled",
            r"[Ii]nvalid device ordinal",
            r"no CUDA-capable device",
            r"PyTorch is not linked with support for \w+ devices",
            r"Could not run '.*' with arguments from the '(CUDA|MPS|XPU)' backend",
            r"Attempting to deserialize object on a CUDA device",
            r"device type at start of device string",
        ),
    ),
    Failure(
        "NS632",
        "a library of the GPU failed, most often for want of memory",
        "a smaller data.batch_size; where that does not help, compare the versions of driver and torch",
        (r"CUBLAS_STATUS_\w+", r"CUDNN_STATUS_\w+", r"CUSOLVER_STATUS_\w+", r"Unable to find a valid cuDNN algorithm",
         r"cuDNN error", r"GET was unable to find an engine"),
    ),
    # Data, files, processes
    Failure(
        "NS642",
        "a worker cannot be started: something of the data cannot be sent to another process",
        "`data: {workers: 0}` makes the batches in the process itself; a lambda or a local function cannot be pickled",
        (r"[Cc]an't pickle", r"cannot pickle", r"Can't get (local object|attribute)"),
    ),
    Failure(
        "NS643",
        "the process has too many files open",
        "a higher limit (`ulimit -n 65536`), or fewer `data: {workers: …}`",
        (r"Too many open files", r"received \d+ items of ancdata"),
    ),
    Failure(
        "NS641",
        "a process that makes batches died: for want of memory, or of shared memory (/dev/shm)",
        "fewer `data: {workers: …}`, 0 for none; in a container more shared memory: `docker run --shm-size=8g`",
        (
            r"DataLoader worker \(pid\(?s?\)? [\d, ]+\) (exited unexpectedly|is killed by signal)",
            r"unable to (open|mmap|resize|write to|allocate) (a )?(shared|file <)",
            r"insufficient shared memory",
            r"DataLoader timed out",
        ),
    ),
    Failure(
        "NS644",
        "the disk is full",
        "make room, or give another --run-dir, then go on with --resume; `checkpoint: {keep: 2}` keeps fewer",
        (r"No space left on device", r"Disk quota exceeded", r"PytorchStreamWriter failed writing",
         r"inline_container\.cc:\d+\] \. unexpected pos"),
    ),
    Failure(
        "NS921",
        "a file of the data cannot be read as an image",
        "mend the file, or take it out of the folder",
        (r"cannot identify image file", r"image file is truncated", r"[Tt]runcated [Ff]ile [Rr]ead", r"broken data stream"),
    ),
    Failure("NS921", "a file of the data cannot be read as an image", "mend the file, or take it out of the folder",
            types=("UnidentifiedImageError", "DecompressionBombError")),
    Failure(
        "NS640",
        "there are no samples",
        "look whether the folder, the table or the share of `split` holds any; `drop_last` drops the only batch",
        (
            r"num_samples should be a positive integer value, but got num_samples=0",
            r"stack expects a non-empty TensorList",
            r"Expected reduction dim to be specified for input\.numel\(\) == 0",
            r"expected a non-empty list of Tensors",
            r"sum of probabilities <= 0",
        ),
    ),
    Failure(
        "NS650",
        "the port through which the processes of a run find each other is in use",
        "another run holds it, maybe one that was killed; `MASTER_PORT=0` or another number chooses another port",
        (r"EADDRINUSE", r"[Aa]ddress already in use"),
    ),
    Failure(
        "NS651",
        "a process of a distributed run does not answer",
        "look at the first process that failed: the others only waited for it",
        (
            r"NCCL error",
            r"[Nn]ccl.*(timeout|timed out|abort)",
            r"Connection (closed by peer|reset by peer|refused)",
            r"Default process group has not been initialized",
            r"rendezvous",
            r"ProcessGroup\w*.*[Tt]imed? ?out",
            r"expected to have finished reduction in the prior iteration",
        ),
    ),
    Failure(
        "NS905",
        "the weights are not those of the model: names are missing or unexpected, or shapes differ",
        "load them into the model of the spec that they were trained with; a changed model is a new run",
        (r"Error\(s\) in loading state_dict", r"[Ll]oaded state dict (has a different number of|contains a parameter group)"),
    ),
    # Gradients
    Failure(
        "NS615",
        "a tensor that the gradient needs was written over",
        "leave `inplace: true` out of the layer above or before it; a Parameter is not to be written into",
        (
            r"modified by an inplace operation",
            r"leaf Variable that requires grad is being used in an in-place operation",
            r"leaf Variable that requires grad.*in-place",
            r"is a view and (is being|its base or another view of its base has been) modified inplace",
        ),
    ),
    Failure(
        "NS616",
        "the backward pass went through the same graph twice",
        "a tensor of an earlier step, a kept state say, is still joined to it: put `Detach` behind it",
        (r"backward through the graph a second time",),
    ),
    Failure(
        "NS617",
        "nothing that the loss depends on learns",
        "leave `freeze` out of one layer at least, and look whether the loss reads the right output",
        (
            r"does not require grad and does not have a grad_fn",
            r"optimizer got an empty parameter list",
            r"appears? to not have been used in the graph",
            r"Inference tensors cannot be saved for backward",
            r"requires a gradient.*but .*argmax",
        ),
    ),
    Failure(
        "NS618",
        "the loss is not one number",
        "a loss with `reduction: mean` or `sum`; `none` gives a number a sample",
        (r"grad can be implicitly created only for scalar outputs",),
    ),
    Failure(
        "NS621",
        "the factor that fp16 training needs was not used as it has to be",
        "`train: {precision: bf16}` needs no factor; weights themselves stay float32",
        (r"No inf checks were recorded", r"unscale_\(\) has already been called", r"Attempting to unscale FP16 gradients",
         r"step\(\) has already been called since the last update"),
    ),
    Failure(
        "NS622",
        "a number is not finite where it has to be",
        "a smaller learning rate or a warm-up; a Log, Sqrt or division in the spec may need an epsilon",
        (
            r"returned nan values in its",
            r"contains either `?inf`?, `?nan`? or element < 0",
            r"to satisfy the constraint .*found invalid values",
            r"is non-finite, so it cannot be clipped",
        ),
    ),
    Failure(
        "NS619",
        "the operation has no deterministic form on this device",
        "leave torch.use_deterministic_algorithms out, or use another layer; for cuBLAS set CUBLAS_WORKSPACE_CONFIG=:4096:8",
        (r"does not have a deterministic implementation", r"CUBLAS_WORKSPACE_CONFIG", r"[Dd]eterministic behavior was enabled"),
    ),
    # Devices and dtypes
    Failure(
        "NS601",
        "tensors lie on different devices",
        "move both to one: `module.to(device)` and `x.to(device)`; a tensor that a layer keeps belongs in a `Buffer`",
        (
            r"Expected all tensors to be on the same device",
            r"[Tt]ensor on device \S+ is not on the expected device",
            r"Input type \(\S*(cuda|mps|xpu)\S*\) and weight type",
            r"Input type \(torch\.(cuda\.)?\w+Tensor\) and (weight|bias) type \(torch\.(cuda\.)?\w+Tensor\)",
            r"can't convert \w+(:\d+)? device type tensor to numpy",
            r"Cannot copy out of meta tensor",
            r"[Ee]xpected.*object of device type|but got.*other device",
        ),
    ),
    # Targets before dtypes and shapes: the same words mean more in a loss.
    Failure(
        "NS611",
        "a class index is not among the scores",
        "classes count from 0 to one less than the scores; give the last layer as many outputs as there are classes",
        (
            r"Target -?\d+ is out of bounds",
            r"Class values must be (smaller than num_classes|non-negative)",
            r"target'? (is )?out of range",
            r"value cannot be converted to type uint8_t without overflow",
        ),
    ),
    Failure(
        "NS613",
        "the target is not of the kind that the loss takes",
        "CrossEntropyLoss and NLLLoss take a class index (int64) a sample; MSELoss, BCELoss floats of the output's shape",
        (
            r"expected target dtype to be Long",
            r"multi-target not supported",
            r"only batches of spatial targets supported",
            r"[Tt]arget size \(torch\.Size",
            r"Expected (input|target) batch_size \(\d+\) to match",
            r"all elements of (input|target) should be between 0 and 1",
            r"expected scalar type Long but found (Float|Double|Int|Half)",
            r"Found dtype (Long|Int|Double) but expected Float",
            r"is only applicable to index tensor",
            r"weight tensor should be defined either for all",
            r"target_lengths must be of size",
            r"Input and target.*shape",
        ),
    ),
    Failure(
        "NS612",
        "an index is beyond the last row",
        "give the Embedding as many rows (`num_embeddings`) as the data have indices; they count from 0",
        (
            r"index out of range in self",
            r"index -?\d+ is out of bounds for dimension",
            r"Index \d+ of input takes value -?\d+ which is not in the valid range",
            r"tried to access index -?\d+ on a tensor",
        ),
    ),
    Failure(
        "NS602",
        "the dtypes do not go together",
        "weights are float32: convert the data (`{type: ToDtype, dtype: float32}`), or declare the input's dtype in the spec",
        (
            r"must have the same dtype",
            r"to have the same dtype",
            r"expected scalar type \w+ but found \w+",
            r"Input type \(.+\) and (weight|bias) type \(.+\) should be the same",
            r"mixed dtype \(CPU\)",
            r"does not match weight dtype",
            r"not implemented for '\w+'",
            r"result type \w+ can't be cast to",
            r"could not infer output dtype",
            r"only support floating point",
            r"Boolean inputs not supported",
            r"with two bool tensors is not supported",
            r"have one of the following scalar types",
            r"used as indices must be",
            r"Expected dtype \S+ for index",
            r"expected dtype \w+ for",
            r"Unsupported dtype",
            r"Only Tensors of floating point and complex dtype can require gradients",
        ),
    ),
    # Shapes
    Failure(
        "NS610",
        "one value a channel has no variance: a batch of one, or a layer that has shrunk to one place",
        "a larger data.batch_size, and `drop_last: true` where the last batch of an epoch holds one sample",
        (r"Expected more than 1 (value per channel|spatial element) when training",),
    ),
    Failure(
        "NS603",
        "the input is not as wide as the layer's weights",
        "mostly an image of another size before `Flatten`: resize it, or put `{type: AdaptiveAvgPool2d, output_size: …}` before",
        (
            r"shapes cannot be multiplied",
            r"size mismatch, got input",
            r"Expected size for first two dimensions of batch2",
            r"inconsistent tensor size",
            r"does not broadcast with previously seen size",
            r"input\.size\(-1\) must be equal to input_size",
            r"was expecting embedding dimension of",
            r"Given normalized_shape=",
            r"input\d? size does not match weight size",
            r"Expected hidden\[?\d?\]? size",
        ),
    ),
    Failure(
        "NS604",
        "the input has another number of channels than the layer",
        "images of one channel become three by `{type: Grayscale, num_output_channels: 3}`; else state the input's shape as it is",
        (
            r"to have \d+ channels, but got",
            r"running_\w+ should contain \d+ elements",
            r"to match num_features",
            r"size equal to the number of channels in input",
            r"channels in input to be divisible by num_groups",
            r"input channel size",
            r"channels must be divisible by groups",
            r"'channel' dimension to be divisible",
        ),
    ),
    Failure(
        "NS605",
        "the image is smaller than the layer's window",
        "a larger image, or a layer fewer that halves it; `padding` makes room as well",
        (
            r"Kernel size can't be greater than actual input size",
            r"Output size is too small",
            r"Invalid computed output size",
            r"Padding size should be less than the corresponding input dimension",
            r"calculated shape of the array of sliding blocks",
            r"maximum size for tensor at dimension \d+ is",
            r"Input and output sizes should be greater than 0",
        ),
    ),
    Failure(
        "NS607",
        "a view cannot be made of this layout in memory",
        "`Reshape` in place of `View`; a Permute or Transpose before it, or channels_last, changes the layout",
        (r"view size is not compatible with input tensor's size and stride", r"required rank \d+ tensor to use channels_last"),
    ),
    Failure(
        "NS606",
        "the shape asked for holds another number of elements",
        "let one size be -1, and take the batch from the input instead of a number: `[N, …]` binds `$N`",
        (
            r"is invalid for input of size",
            r"don't multiply up to the size of dim",
            r"cannot reshape tensor of 0 elements",
            r"split_sizes to sum exactly to",
            r"Halving dimension must be even",
        ),
    ),
    Failure(
        "NS608",
        "the shapes of two tensors do not go together",
        "compare the shapes above with those that the spec infers: `netspec show SPEC`",
        (
            r"The size of tensor a \(\d+\) must match the size of tensor b",
            r"Sizes of tensors must match except in dimension",
            r"stack expects each tensor to be equal size",
            r"Tensors must have same number of dimensions",
            r"The expanded size of the tensor",
            r"doesn't match the broadcast shape",
        ),
    ),
    Failure(
        "NS609",
        "the tensor has another number of dimensions than the layer takes",
        "a batch dimension is missing, as a rule: `x.unsqueeze(0)` makes a batch of one",
        (
            r"Expected \d+D \(unbatched\) or \d+D \(batched\) input",
            r"[Ee]xpected (input to be )?\d+D (or \d+D )?(input|,|$)",
            r"Expected input to be \d+D or \d+D",
            r"expected \d+D( or \d+D)? input",
            r"Dimension out of range",
            r"number of dimensions in the tensor input does not match",
        ),
    ),
    Failure(
        "NS620",
        "the model or a layer got another number of inputs than it takes, or no tensors",
        "the inputs go in the order in which the spec states them; `train: {inputs: …}` maps fields to them",
        (
            r"forward\(\) (missing|takes|got an unexpected)",
            r"argument '\w+' \(position \d+\) must be Tensor, not",
            r"expected Tensor as element \d+ in argument",
            r"zip\(\) argument 2 is (shorter|longer) than argument 1",
            r"unsupported operand type\(s\) for .*'(Tensor|NoneType)'",
        ),
    ),
    Failure(
        "NS660",
        "torch.compile could not translate the model",
        "run it without torch.compile; its back end needs a C++ compiler on a CPU, and Triton on a GPU",
        (r"InvalidCxxCompiler", r"No working C\+\+ compiler found", r"Cannot find a working triton", r"[Tt]riton.*not (found|installed)"),
    ),
    Failure("NS660", "torch.compile could not translate the model", "run it without torch.compile; the words say what it met",
            types=("BackendCompilerFailed", "InductorError", "TorchRuntimeError", "InternalTorchDynamoError", "Unsupported")),
)  # fmt: skip
"""Every row; the first that fits counts, so the particular stand before the general."""


def find(error: BaseException) -> Failure | None:
    """The row of an exception, or None. The message counts alone where a DataLoader has passed it on from a worker."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return match(str(error), names)


def match(message: str, types: set[str] | None = None) -> Failure | None:
    """The row for a message of an exception with these class names."""
    for failure, pattern in _compiled():
        if failure.types and not (types and types.intersection(failure.types)):
            continue
        if pattern is None or pattern.search(message):
            return failure
    return None


@cache
def _compiled() -> tuple[tuple[Failure, re.Pattern[str] | None], ...]:
    return tuple((row, re.compile("|".join(row.patterns)) if row.patterns else None) for row in FAILURES)


def codes() -> list[str]:
    """The codes of the table, with that of what it does not know, sorted."""
    return sorted({UNKNOWN, *(row.code for row in FAILURES)})


def words(error: BaseException) -> str:
    """What torch said, in one line: without the hints behind it, and without a worker's traceback before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if lines[0].startswith("Caught ") and len(lines) > 1:
        return lines[-1]
    first = lines[0]
    if first.endswith(":") and len(lines) > 1:
        first = " ".join(lines[:4])
    for hint in (" Hint: ", " You can turn off determinism", " Please ", " If reserved but unallocated", " Saved intermediate"):
        first = first.partition(hint)[0]
    return first if len(first) <= LONGEST else first[: LONGEST - 1] + "…"


LONGEST: Final = 300
"""The characters of torch's own words that are repeated."""
