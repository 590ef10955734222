"""Texts as samples: windows over a row of tokens, each with the tokens that come next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from netspec.catalog.sources import FieldInfo
from netspec.recipe.data import Source
from netspec.runtime.data.samples import Arrays, Samples
from netspec.runtime.errors import RunError

NUMBERS: Final = (".npy", ".bin")
"""How files of tokens end that something else has made."""


def text(source: Source, reference: Mapping[str, Any] | None) -> Samples:
    """Sample i begins at token i · stride; the last whole one ends the data. Windows are views of one row of tokens.

    Raises RunError NS920 or NS921 where a file can't be read, NS924 for a character that the training text has not,
    NS925 where the text is shorter than one sample.
    """
    arguments = source.arguments
    paths = [Path(path) for path in ([arguments["path"]] if isinstance(arguments["path"], str) else arguments["path"])]
    length, stride = arguments["length"], arguments["stride"] or arguments["length"]
    vocabulary: list[str] | None = None
    if all(path.suffix in NUMBERS for path in paths):
        tokens = torch.cat([numbers(path) for path in paths])
        count = int(tokens.max()) + 1 if len(tokens) else 0
        count = max(count, (reference or {}).get("count", 0))
    elif any(path.suffix in NUMBERS for path in paths):
        raise RunError("NS924", "`path` names files of text and files of numbers", help="give each a source of its own")
    elif arguments["tokens"] == "bytes":
        tokens = torch.cat([torch.frombuffer(bytearray(content_of(path)), dtype=torch.uint8) for path in paths])
        count = 256
    else:
        texts = [decoded(content_of(path), str(path)) for path in paths]
        vocabulary = list((reference or arguments)["vocabulary"] or sorted(set("".join(texts))))
        tokens, count = characters(list(map(str, paths)), texts, vocabulary), len(vocabulary)
    if len(tokens) < length + 1:
        raise RunError(
            "NS925",
            f"{', '.join(map(str, paths))} has {len(tokens)} tokens, and a sample takes {length + 1} with the next",
            help="a smaller `length`, or a longer text",
        )
    windows = tokens.to(torch.int64).unfold(0, length + 1, stride)
    classes = tuple(vocabulary) if vocabulary is not None else None
    fields = {
        name: FieldInfo(name=name, shape=(length,), dtype="int64", classes=classes, num_classes=count)
        for name in ("tokens", "next")
    }
    return Arrays(
        fields=fields,
        columns={"tokens": windows[:, :-1], "next": windows[:, 1:]},
        origin=", ".join(map(str, paths)),
        state={"vocabulary": vocabulary, "count": count},
    )


def content_of(path: Path) -> bytes:
    """A file's bytes. Raises RunError NS920 or NS921."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise RunError("NS920", f"there is no file {path}", help="check `path`") from error
    except OSError as error:
        raise RunError("NS921", f"{path} can't be read: {error.strerror}") from error


def decoded(content: bytes, name: str) -> str:
    """What a text file of that name holds. Raises RunError NS921 where it is not in UTF-8."""
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise RunError(
            "NS921", f"{name} can't be read as text in UTF-8: {error}", help="`tokens: bytes` takes any file"
        ) from error


def numbers(path: Path) -> Tensor:
    """The tokens of a file of numbers, [tokens]."""
    data = content_of(path)
    if path.suffix == ".bin":
        if len(data) % 2:
            raise RunError("NS921", f"{path} can't be read as uint16: it has {len(data)} bytes, an odd number")
        return torch.from_numpy(np.frombuffer(data, dtype="<u2").astype(np.int64))
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RunError("NS921", f"{path} can't be read as an array: {error}") from error
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind not in "iu":
        what = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else "an archive"
        raise RunError("NS924", f"{path} holds {what}, and tokens are whole numbers in one row")
    if len(array) and int(array.min()) < 0:
        raise RunError("NS924", f"{path} holds the token {int(array.min())}: tokens are counted from 0")
    return torch.from_numpy(array.astype(np.int64))


def characters(
    names: Sequence[str],
    texts: Sequence[str],
    vocabulary: Sequence[str],
    help: str = "`vocabulary` names all characters; `tokens: bytes` takes any text",
) -> Tensor:
    """The characters of the texts as their places in a vocabulary, int64 [characters].

    Raises RunError NS924 for one that it does not have, by the name of its text and the line.
    """
    index = {character: number for number, character in enumerate(vocabulary)}
    rows = []
    for name, content in zip(names, texts, strict=True):
        points = np.frombuffer(content.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        found, places = np.unique(points, return_inverse=True)
        strange = [point for point in found.tolist() if chr(point) not in index]
        if strange:
            at = content.index(chr(strange[0]))
            line = content.count("\n", 0, at) + 1
            raise RunError(
                "NS924",
                f"line {line} of {name} has the character {chr(strange[0])!r}, which the vocabulary does not have",
                help=help,
            )
        known = np.array([index[chr(point)] for point in found.tolist()], dtype=np.int64)
        rows.append(torch.from_numpy(known[places] if len(known) else known))
    return torch.cat(rows)
