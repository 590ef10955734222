"""How values are written in emitted code. Every string goes through `repr` here, and nowhere else."""

from __future__ import annotations

import json
import keyword
import re
import unicodedata
from typing import Any

from netspec.catalog.entry import Argument
from netspec.expressions import ListExpr, Literal, from_value, to_python
from netspec.origins import untraced
from netspec.schema.names import SPOKEN


def literal(value: Any) -> str:
    """A plain value as Python source; strings in double quotes, as ruff writes them."""
    plain = untraced(value)
    if isinstance(plain, str):
        return string(plain)
    if isinstance(plain, list | tuple):
        return sequence([literal(item) for item in plain])
    return to_python(from_value(plain))


def string(text: str) -> str:
    """A string literal: `repr`, with double quotes where that needs no more escapes."""
    written = repr(text)
    if written[0] == "'" and '"' not in text:
        inner = written[1:-1].replace("\\'", "'")
        return f'"{inner}"'
    return written


def sequence(items: list[str]) -> str:
    """A tuple of these: what torch takes for sizes, and safe as a default."""
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"


def for_argument(argument: Argument, value: Any) -> str:
    """A literal argument of a catalog entry; dtypes and tensors are torch's."""
    if argument.kind.startswith("dtype") and isinstance(value, str):
        return f"torch.{identifier(value)}"
    if argument.kind.startswith("tensor") and isinstance(value, list | tuple):
        return f"torch.tensor({_floats(value)})"
    return literal(value)


def _floats(value: Any) -> str:
    """Numbers in lists, as torch makes float32 of them."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(_floats(item) for item in value)}]"
    return literal(float(value))


def docstring(text: str) -> str:
    """Text that may stand inside a docstring: no quote in it can end it, no escape changes it."""
    clean = " ".join(text.split())
    return json.dumps(clean, ensure_ascii=False)[1:-1].replace('\\"', '"').replace('"""', "'''") if clean else ""


def identifier(name: str) -> str:
    """A name that may stand in code. Raises AssertionError for what the schema should have refused."""
    assert name.isidentifier() and not keyword.iskeyword(name), f"{name!r} is no identifier"
    return name


def as_identifier(name: str) -> str:
    """A layer's name as a variable: hyphens become underscores."""
    word = re.sub(r"\W", "_", name.removesuffix("]"))  # `x.shape[1]`: a size of an input that has no name
    if not word.isidentifier():
        word = f"x{word}"
    return identifier(word + "_" if keyword.iskeyword(word) else word)


def local_name(name: str) -> str:
    """A name as a variable that hides nothing which the code itself says: the size `F` is `F_`."""
    word = as_identifier(name)
    return f"{word}_" if word in SPOKEN else word


def class_name(name: str) -> str:
    """`resnet50` → `Resnet50`, `yolo_v3-tiny` → `YoloV3Tiny`; what is in CamelCase stays."""
    parts = [part for part in re.split(r"[\W_]+", name) if part]
    word = unicodedata.normalize("NFKC", "".join(part[0].upper() + part[1:] for part in parts)) or "Model"
    return identifier(word if word.isidentifier() and not keyword.iskeyword(word) else f"Model{word}")


def is_literal(expr: Any) -> bool:
    return isinstance(expr, Literal) or (isinstance(expr, ListExpr) and all(is_literal(item) for item in expr.items))
