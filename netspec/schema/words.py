"""From findings to diagnostics: our own words, the exact place, one mend, and no second complaint about one mistake."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from netspec.catalog.other_words import ARGUMENTS
from netspec.diagnostics import Diagnostics, Label, Span
from netspec.document import Mapping, Node, Scalar, Sequence
from netspec.schema.engine import Finding, Step, inner
from netspec.schema.pieces import EXPRESSION, Schema, kind_of
from netspec.schema.structure import KINDS
from netspec.schema.structure import VERSION as LANGUAGE
from netspec.suggest import suggest

UNKNOWN_KEY: Final = "NS101"
MISSING_KEY: Final = "NS102"
WRONG_TYPE: Final = "NS103"
OUT_OF_RANGE: Final = "NS104"
UNKNOWN_TYPE: Final = "NS105"
UNKNOWN_ARGUMENT: Final = "NS106"
MISSING_ARGUMENT: Final = "NS107"
CONTRADICTION: Final = "NS108"
NO_BODY: Final = "NS109"
BAD_NAME: Final = "NS110"
FUNCTION_IN_LIST: Final = "NS111"
VERSION: Final = "NS112"
UNKNOWN_NAME: Final = "NS113"
NOT_YET: Final = "NS190"

_ELSEWHERE: Final = {
    ("a model", "params"): "a model's parameters stand at the top of the document, under `params`",
    ("`train`", "batch_size"): "`batch_size` stands in `data`",
    ("`data`", "epochs"): "`epochs` stands in `train`",
    **{
        ("the document", key): f"`{key}` stands in `model`: `model: {{inputs: {{x: [N, 3, 32, 32]}}, layers: …}}`"
        for key in ("layers", "inputs", "outputs")
    },
}
"""Keys that belong to another place."""
_ORDINALS: Final = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose keys a mapping holds, for messages about them."""

    subject: str
    """"`Conv2d`", "the document"."""
    title: str
    """The place itself: "`stem`", "item 2 of `transforms`"."""
    span: Span
    """Where a missing key is reported."""
    noun: str = "key"
    known: tuple[str, ...] = ()
    """What to list as possible, where it is not simply all keys."""
    labels: tuple[Label, ...] = ()


def report(
    finding: Finding, node: Node, schema: Schema, owner: Owner, scope: frozenset[str], diagnostics: Diagnostics
) -> None:
    """Add what a finding about the node at this place has to say to the diagnostics."""
    if finding.rule == "keys":
        _report_keys(finding, node, schema, owner, diagnostics)
    else:
        _report_value(finding, node, schema, owner, scope, diagnostics)


def _report_keys(finding: Finding, node: Node, schema: Schema, owner: Owner, diagnostics: Diagnostics) -> None:
    mapping = at(node, finding.path)
    assert isinstance(mapping, Mapping)
    if finding.path:
        name = next(str(step) for step in reversed(finding.path) if isinstance(step, str))
        owner = Owner(subject=f"`{name}`", title=f"`{name}`", span=mapping.span)
    missing = list(finding.missing)
    known = owner.known or finding.known
    where = owner.subject if owner.noun == "key" else owner.title
    absent = [name for name in finding.known if name not in mapping.items]
    for key in finding.unknown:
        elsewhere = _ELSEWHERE.get((where, key))
        meant = None if elsewhere else _meant(key, missing, absent)
        if meant in missing:
            missing.remove(meant)
        is_key = owner.noun == "key" or (meant is not None and meant not in owner.known)
        diagnostics.error(
            UNKNOWN_KEY if is_key else UNKNOWN_ARGUMENT,
            f"unknown key `{key}` in {where}" if is_key else f"{owner.subject} has no {owner.noun} `{key}`",
            mapping.key_spans[key],
            labels=() if is_key else owner.labels,
            help=f"did you mean `{meant}`?" if meant else elsewhere or _known(owner, known),
        )
    if "netspec" in missing and owner.subject == "the document":
        missing.remove("netspec")
        diagnostics.error(
            VERSION, "the document does not say which version of the language it is in", owner.span, help=_SAY_VERSION
        )
    if missing:
        diagnostics.error(
            MISSING_KEY if owner.noun == "key" else MISSING_ARGUMENT,
            f"{owner.subject} needs {_and(missing)}",
            owner.span,
            labels=owner.labels,
            help=f"add {_and([f'{key}: {_sample(schema, finding.path, key)}' for key in missing])}",
        )


def _sample(schema: Schema, path: tuple[Step, ...], key: str) -> str:
    """What could stand under a key, where the structure has an example."""
    found = inner(_inner(schema, path), key)
    return str(KINDS.get(kind_of(found) or "", found).get("example", "…"))


def _known(owner: Owner, known: tuple[str, ...]) -> str:
    if not known:
        return f"{owner.subject} has no {owner.noun}s; leave it out"
    return f"its {owner.noun}s are {', '.join(known)}"


def _meant(key: str, missing: list[str], absent: list[str]) -> str | None:
    """The key that was probably meant: one that is missing if it can be, else one that is absent."""
    words = set(key.casefold().split("_"))
    alike = [name for name in missing or absent if words & set(name.casefold().split("_"))]
    elsewhere = next((name for name in ARGUMENTS.get(key, ()) if name in absent), None)
    if found := suggest(key, missing) or suggest(key, absent):
        return found
    if elsewhere is not None:
        return elsewhere
    return alike[0] if len(alike) == 1 else None


def _report_value(
    finding: Finding, node: Node, schema: Schema, owner: Owner, scope: frozenset[str], diagnostics: Diagnostics
) -> None:
    expects, depth = _expected(schema, finding.path)
    path = finding.path
    keys = [step for step in path[:depth] if isinstance(step, str)]
    title = f"`{keys[-1]}`" if keys else owner.title
    bad = at(node, path)
    if owner.subject == "the document" and path == ("netspec",):
        diagnostics.error(
            VERSION,
            f"this netspec reads version {LANGUAGE} of the language, and not {show(bad)}",
            bad.span,
            help=_SAY_VERSION,
        )
        return
    if finding.rule == "empty":
        message, help = f"{title} is empty", example(title, _inner(schema, path[:depth]), expects)
    else:
        got = "got" if depth == len(path) else _part(path[depth:])
        message = f"{title} takes {expects}, and {got} {show(bad)}"
        owns = _inner(schema, path[:depth])
        free = EXPRESSION in owns.get("anyOf", ())
        help = mend(bad, expects, scope if free else frozenset(), free) or example(title, owns, expects)
    diagnostics.error(OUT_OF_RANGE if finding.rule == "limit" else WRONG_TYPE, message, bad.span, help=help)


def _expected(schema: Schema, path: tuple[Step, ...]) -> tuple[str, int]:
    """The words for what may stand at the path, or above it where none are given, and how deep these words stand."""
    words, depth = str(schema.get("expects", "")), 0
    for i, step in enumerate(path, 1):
        schema = inner(schema, step)
        if "expects" in schema:
            words, depth = str(schema["expects"]), i
    return words, depth


def _inner(schema: Schema, path: tuple[Step, ...]) -> Schema:
    for step in path:
        schema = inner(schema, step)
    return schema


def example(title: str, schema: Schema, expects: str) -> str:
    """A line that would do: the schema's example, its default, or the simplest value that there is."""
    found = schema.get("example", _yaml(schema.get("default")))
    if found is None:
        found = next((text for part in schema.get("anyOf", (schema,)) if (text := _simplest(part))), None)
    if found is None:
        return f"write {expects}"
    return f"for example `{title.strip('`')}: {found}`" if title.startswith("`") else f"for example `{found}`"


def _yaml(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None or value == "" else str(value)


def _simplest(schema: Schema) -> str | None:
    match schema:
        case {"enum": [first, *_]}:
            return str(first)
        case {"type": "integer" | "number"}:
            return str(max(1, int(schema.get("minimum", 1))))
        case {"type": "boolean"}:
            return "true"
        case {"type": "array", "items": {"anyOf": [{"type": "integer" | "number"}, *_]}}:
            return str([1] * int(schema.get("minItems", 1)))
    return None


def _part(path: tuple[Step, ...]) -> str:
    step = path[-1]
    if isinstance(step, str):
        return f"its `{step}` is"
    return f"its {_ORDINALS[step]} item is" if step < len(_ORDINALS) else f"item {step + 1} of it is"


def at(node: Node, path: tuple[Step, ...]) -> Node:
    """The node at the end of the path."""
    for step in path:
        if isinstance(step, int):
            assert isinstance(node, Sequence)
            node = node.items[step]
        else:
            assert isinstance(node, Mapping)
            node = node.items[step]
    return node


def show(node: Node) -> str:
    """A value in a few words: the string 'two', 3.5, a list of 3."""
    if isinstance(node, Sequence):
        return f"a list of {len(node.items)}" if node.items else "an empty list"
    if isinstance(node, Mapping):
        return "a mapping" if node.items else "an empty mapping"
    value = node.value
    if isinstance(value, str):
        short = value if len(value) <= 40 else f"{value[:39]}…"
        return f"the string '{short}'"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null" if node.text.strip() else "nothing"
    return node.text or str(value)


_SAY_VERSION: Final = f"write `netspec: {LANGUAGE}` as the first line"
_YAML_1_1 = {**dict.fromkeys(("on", "yes", "y"), "true"), **dict.fromkeys(("off", "no", "n"), "false")}
_ARITHMETIC = re.compile(r"[\w.\s()]+[-+*/%][-+*/%\w.\s()]+|.*(==|!=|<|>|\band\b|\bor\b|\bnot\b).*")
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?")


def mend(node: Node, expects: str, scope: frozenset[str] = frozenset(), expressions: bool = False) -> str:
    """What to write instead, where one can tell what was meant; else the empty string.

    `scope` holds the names of values at that place, and `expressions` says whether one may stand there.
    """
    if not isinstance(node, Scalar):
        return ""
    value = node.value
    if isinstance(value, str):
        text = value.strip()
        if text.casefold() in _YAML_1_1 and "true" in expects:
            return f"write `{_YAML_1_1[text.casefold()]}`; in YAML 1.2 `{text}` is a string"
        if text in scope:
            return f"did you mean the value `${text}`?"
        if _NUMBER.fullmatch(text) and node.quoted:
            return f"leave the quotes away: `{text}`"
        quoted = re.findall(r'["`]([^"`]+)["`]', expects)
        if quoted and (meant := suggest(text, quoted)):
            return f"did you mean `{meant}`?"
        if text.casefold() in ("none", "nil") and "null" in expects:
            return "write `null`"
        if text.casefold() in ("true", "false") and "true" in expects:
            return f"write `{text.casefold()}`" + (" without quotes" if node.quoted else "")
        if expressions and _ARITHMETIC.fullmatch(text) and not _NUMBER.fullmatch(text):
            return f"an expression is written `$({text})`"
    if isinstance(value, float) and value.is_integer() and "integer" in expects:
        return f"write `{int(value)}`"
    return ""


def _and(names: list[str]) -> str:
    listed = [f"`{name}`" for name in names]
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"
