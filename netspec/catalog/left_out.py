"""What torch has and a spec does not name: why, and what to write in its place."""

from __future__ import annotations

from typing import Final

from netspec.catalog.other_words import LAYERS

_LAZY: Final = {
    **{f"Conv{n}d": "in_channels" for n in (1, 2, 3)},
    **{f"ConvTranspose{n}d": "in_channels" for n in (1, 2, 3)},
    **{f"BatchNorm{n}d": "num_features" for n in (1, 2, 3)},
    **{f"InstanceNorm{n}d": "num_features" for n in (1, 2, 3)},
    "Linear": "in_features",
}
_DATA = "the size of its result depends on the data, and a shape has to be known before anything runs"
_COMPLEX = "its values are complex numbers, which are no dtype of a spec"
_VISIBLE = "a block says what it does, with the same keys of the `state_dict`"

MODULES: Final[dict[str, str]] = {
    "Module": "write a block under `blocks`",
    "Container": "write `layers`",
    "Sequential": "write `layers` with a list: it becomes an `nn.Sequential`",
    "ModuleList": "write `layers` with a list, or `branches`: its members can be read one by one",
    "ModuleDict": "write `branches` or `select` with a mapping",
    "ParameterList": "write a `Parameter` for each",
    "ParameterDict": "write a `Parameter` for each",
    "RNNBase": "write `RNN`, `LSTM` or `GRU`",
    "RNNCellBase": "write `RNNCell`, `LSTMCell` or `GRUCell`",
    "NLLLoss2d": "write `NLLLoss`, which takes images too",
    "DataParallel": "it is no layer but a way to run one: `netspec train --nproc`",
    **{f"Lazy{name}": f"write `{name}`: {argument} is inferred" for name, argument in _LAZY.items()},
}
"""The modules of `torch.nn` that the catalog has not, each with what to write instead."""

OPERATIONS: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("nonzero", "argwhere", "unique", "unique_consecutive", "masked_select", "bincount", "nms", "batched_nms"),
        _DATA,
    ),
    "batched_nms": _DATA,
    "remove_small_boxes": _DATA,
    "masked_scatter": "how much it reads depends on the data; write `where`",
    **dict.fromkeys(("rfft", "irfft", "fft", "ifft", "fft2", "ifft2", "rfft2", "irfft2", "stft", "istft"), _COMPLEX),
    **dict.fromkeys(("view_as_complex", "view_as_real", "polar"), _COMPLEX),
    **dict.fromkeys(("concat", "concatenate"), "write `cat`"),
    "tensor_split": "write `chunk` or `split`",
    "view": "write `reshape`, which gives a view wherever there is one",
    "view_as": "write `reshape_as`, which gives a view wherever there is one",
    "batch_norm": "write `BatchNorm2d`, which keeps the running statistics",
    "clip": "write `clamp`",
    "absolute": "write `abs`",
    "negative": "write `neg`",
    "divide": "write `div`",
    "multiply": "write `mul`",
    "subtract": "write `sub`",
    "fix": "write `trunc`",
    "swapdims": "write `transpose`",
    "moveaxis": "write `movedim`",
    "greater": "write `gt`",
    "less": "write `lt`",
    "upsample": "write `interpolate`",
    "FeaturePyramidNetwork": f"it takes a dict; {_VISIBLE}",
    "MultiScaleRoIAlign": "it takes dicts and lists of sizes; write `roi_align` for each level",
    "item": "a number at run time is no tensor; `compute` works on tensors without dimensions too",
    "numpy": "arrays leave the graph",
    "tolist": "numbers leave the graph",
}
"""Functions, and modules of torchvision.ops, that the catalog has not and why, with what to write instead."""


_VIDEO: Final = "torchvision has no decoder of videos any more, and a field of frames would need one"
_SENTENCES: Final = "what belongs to its images are sentences, and a field is a tensor"
_PICKLE: Final = "it unpickles a file that lies beside the data, which can run code"

_FETCHED: Final = "scikit-learn unpickles what it has fetched, which can run code; save it as `.npz` and write `NumPy`"

SOURCES: Final[dict[str, str]] = {
    "VisionDataset": "it is what the others are made of",
    "DatasetFolder": "its `loader` is a function; write `ImageFolder`, or `NumPy` for arrays",
    "LSUN": _PICKLE,
    "LSUNClass": _PICKLE,
    "Kinetics": _VIDEO,
    "HMDB51": _VIDEO,
    "UCF101": _VIDEO,
    "CocoCaptions": _SENTENCES,
    "SBU": _SENTENCES,
    "Flickr8k": _SENTENCES,
    "Flickr30k": _SENTENCES,
    **dict.fromkeys(("CaliforniaHousing", "Covtype", "OlivettiFaces", "RCV1", "KDDCup99"), _FETCHED),
}
"""The data sets of torchvision, and those of scikit-learn that are fetched, that a spec does not name, with reasons."""

TRANSFORMS: Final[dict[str, str]] = {
    "Transform": "it is what the others are made of",
    "Lambda": "it takes a function, and a spec holds no code; a plugin can add a transform of its own",
}
"""The transforms of torchvision's v2 that a spec does not name, each with the reason."""

LEFT_OUT: Final[dict[str, dict[str, str]]] = {"source": SOURCES, "transform": TRANSFORMS}


def why_not(name: str, category: str) -> str | None:
    """Why torchvision has a source or a transform of that name and a spec does not."""
    return LEFT_OUT.get(category, {}).get(name)


def instead(name: str) -> str | None:
    """What to write instead of a name of torch that the catalog leaves out, or of another library's."""
    return MODULES.get(name) or OPERATIONS.get(name) or LAYERS.get(name)
