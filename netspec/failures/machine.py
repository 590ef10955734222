"""What fails around a model: the GPU and its driver, memory, files, the processes that make batches or train."""

from __future__ import annotations

from typing import Final

from netspec.failures.row import Failure

MACHINE: Final = (
    Failure(
        "NS614",
        "a check inside a GPU kernel failed: mostly a class index or an index of an Embedding out of range",
        "the place above may be too late, as a GPU reports with delay; `--set train.device=cpu` names the layer",
        ("device-side assert",),
    ),
    Failure(
        "NS633",
        "the GPU stopped in the middle of its work",
        "run once with CUDA_LAUNCH_BLOCKING=1 in the environment, which names the place; look at `nvidia-smi` too",
        (
            "illegal memory access",
            "unspecified launch failure",
            "misaligned address",
            "uncorrectable ECC",
            "CUDA error: (an )?illegal instruction",
        ),
    ),
    Failure(
        "NS910",
        "the device has too little memory",
        "a smaller data.batch_size, with train.accumulate for the same batch in several parts; or precision: bf16",
        (
            "CUDA out of memory",
            "CUDA error: out of memory",
            "MPS backend out of memory",
            "XPU out of memory",
            "DefaultCPUAllocator: (can't|not enough)",
            "Storage size calculation overflowed",
            "CUBLAS_STATUS_ALLOC_FAILED",
            "CUDNN_STATUS_ALLOC_FAILED",
            "std::bad_alloc",
        ),
    ),
    Failure(
        "NS910",
        "the machine has too little memory",
        "a smaller data.batch_size, or `data: {cache: false}`",
        types=(
            "MemoryError",
            "OutOfMemoryError",
        ),
    ),
    Failure(
        "NS631",
        "the GPU's driver, the GPU and this build of torch do not go together",
        "a newer driver, or a build of torch for the driver that is there; until then `--set train.device=cpu`",
        (
            "NVIDIA driver on your system is too old",
            "no kernel image is available",
            "driver version is insufficient",
            "forward compatibility was attempted",
            "is not compatible with the current PyTorch installation",
        ),
    ),
    Failure(
        "NS630",
        "there is no such device",
        "`train: {device: auto}` takes the best there is; `nvidia-smi` shows what the driver sees",
        (
            "Found no NVIDIA driver",
            "No CUDA GPUs are available",
            r"Torch not compiled with \w+ enabled",
            "[Ii]nvalid device ordinal",
            "no CUDA-capable device",
            r"PyTorch is not linked with support for \w+ devices",
            "Could not run '.*' with arguments from the '(CUDA|MPS|XPU)' backend",
            "Attempting to deserialize object on a CUDA device",
            "device type at start of device string",
        ),
    ),
    Failure(
        "NS632",
        "a library of the GPU failed, most often for want of memory",
        "a smaller data.batch_size; where that does not help, compare the versions of driver and torch",
        (
            r"CUBLAS_STATUS_\w+",
            r"CUDNN_STATUS_\w+",
            r"CUSOLVER_STATUS_\w+",
            "Unable to find a valid cuDNN algorithm",
            "cuDNN error",
            "unable to find an engine",
        ),
    ),
    Failure(
        "NS642",
        "a worker cannot be started: something of the data cannot be sent to another process",
        "`data: {workers: 0}` makes the batches in the process itself; a lambda or a local function cannot be pickled",
        (
            "[Cc]an't pickle",
            "cannot pickle",
            "Can't get (local object|attribute)",
        ),
    ),
    Failure(
        "NS643",
        "the process has too many files open",
        "a higher limit (`ulimit -n 65536`), or fewer `data: {workers: …}`",
        (
            "Too many open files",
            r"received \d+ items of ancdata",
        ),
    ),
    Failure(
        "NS641",
        "a process that makes batches died: for want of memory, or of shared memory (/dev/shm)",
        "fewer `data: {workers: …}`, 0 for none; in a container more shared memory: `docker run --shm-size=8g`",
        (
            r"DataLoader worker \(pid\(?s?\)? [\d, ]+\) (exited unexpectedly|is killed by signal)",
            "unable to (open|mmap|resize|write to|allocate) (a )?(shared|file <)",
            "insufficient shared memory",
            "DataLoader timed out",
        ),
    ),
    Failure(
        "NS644",
        "the disk is full",
        "make room, or give another --run-dir, then go on with --resume; `checkpoint: {keep: 2}` keeps fewer",
        (
            "No space left on device",
            "Disk quota exceeded",
            "PytorchStreamWriter failed writing",
            r"inline_container\.cc:\d+\] \. unexpected pos",
        ),
    ),
    Failure(
        "NS921",
        "a file of the data cannot be read as an image",
        "mend the file, or take it out of the folder",
        (
            "cannot identify image file",
            "image file is truncated",
            "[Tt]runcated [Ff]ile [Rr]ead",
            "broken data stream",
        ),
    ),
    Failure(
        "NS921",
        "a file of the data cannot be read as an image",
        "mend the file, or take it out of the folder",
        types=(
            "UnidentifiedImageError",
            "DecompressionBombError",
        ),
    ),
    Failure(
        "NS640",
        "there are no samples",
        "look whether the folder, the table or the share of `split` holds any; `drop_last` drops the only batch",
        (
            "num_samples should be a positive integer value, but got num_samples=0",
            "stack expects a non-empty TensorList",
            r"Expected reduction dim to be specified for input\.numel\(\) == 0",
            "expected a non-empty list of Tensors",
            "sum of probabilities <= 0",
        ),
    ),
    Failure(
        "NS650",
        "the port through which the processes of a run find each other is in use",
        "another run holds it, maybe one that was killed; `MASTER_PORT=0` or another number chooses another port",
        (
            "EADDRINUSE",
            "[Aa]ddress already in use",
        ),
    ),
    Failure(
        "NS651",
        "a process of a distributed run does not answer",
        "look at the first process that failed: the others only waited for it",
        (
            "NCCL error",
            "[Nn]ccl.*(timeout|timed out|abort)",
            "Connection (closed by peer|reset by peer|refused)",
            "Default process group has not been initialized",
            "rendezvous",
            r"ProcessGroup\w*.*[Tt]imed? ?out",
            "expected to have finished reduction in the prior iteration",
        ),
    ),
)
"""CUDA's words may stand within any other message, so these are looked at first."""
