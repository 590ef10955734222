"""Sections that live in files of their own: `model: {file: models/resnet18.yaml, params: {…}}`."""

from __future__ import annotations

from netspec.bases import check_clashes, join, same
from netspec.diagnostics import Label, Span
from netspec.document import Mapping, Node, Scalar
from netspec.files import Files
from netspec.history import History, brief, merge
from netspec.paths import find, names_at, put, with_key, without
from netspec.suggest import suggest

IN_FILES = ("model", "data", "train", "sweep")
"""The sections that may live in a file of their own; each of several `models` may, too."""


def filled(files: Files, document: Mapping, history: History) -> Mapping:
    """The document with every section in place that names a file."""
    for key in IN_FILES:
        document = _section(files, document, (key,), history)
    models = document.items.get("models")
    if isinstance(models, Mapping):
        for name in models.items:
            document = _section(files, document, ("models", name), history)
    return document


def _section(files: Files, document: Mapping, steps: tuple[str, ...], history: History) -> Mapping:
    """The document with the section at `steps` taken from its file, if it names one."""
    node = find(document, ".".join(steps)).node if steps[0] in document.items else None
    if not isinstance(node, Mapping) or "file" not in node.items:
        return document
    title = f"`{'.'.join(steps)}`"
    reference = files.path(node.items["file"], "`file`")
    if reference is None:
        return document
    text, _, fragment = str(reference.value).partition("#")
    part = files.part(reference, text, f"the file of {title}")
    taken = None if part is None else _taken(files, part.document, reference, fragment, steps[0], text)
    if part is None or taken is None:
        return document
    at, section = taken
    history.add(part.history.moved(at, steps))
    if steps[0] in ("model", "models"):
        document = _borrow_blocks(files, document, part.document)
        given = node.items.get("params")
        document, params = _bind(files, document, part.document, given, steps, str(reference.value), history)
        if params is not None:
            section = with_key(section, "params", params, params.span)
    elif "params" in node.items:
        files.error(
            "NS037",
            f"{title} has no parameters of its own",
            node.key_spans["params"],
            help="`params` beside `file` is for models; values here are overridden by writing them beside `file`",
        )
    merged = merge(section, without(node, "file", "params"), history, steps)
    changed = put(document, steps, merged, _key_span(document, steps))
    assert isinstance(changed, Mapping)
    return changed


def _taken(
    files: Files, document: Mapping, reference: Scalar, fragment: str, kind: str, text: str
) -> tuple[tuple[str, ...], Mapping] | None:
    """What a section takes of a file: the part that is named, the section of its own kind, or all of it."""
    kind = "model" if kind == "models" else kind
    if not fragment and "netspec" not in document.items and kind not in document.items:
        return (), document
    found = find(document, fragment or kind)
    if found.rest:
        near = suggest(found.rest[0], names_at(found.node))
        meant = ".".join([*found.steps, near, *found.rest[1:]]) if near else ""
        several = document.items.get("models")
        if not fragment and isinstance(several, Mapping) and several.items:
            meant = f"models.{next(iter(several.items))}"
        files.error(
            "NS036",
            f"`{text}` has no `{fragment or kind}`",
            reference.span,
            help=f"did you mean `{text}#{meant}`?" if meant else f"it has {', '.join(map(_code, document.items))}",
        )
        return None
    if not isinstance(found.node, Mapping):
        files.error(
            "NS036",
            f"`{fragment or kind}` of `{text}` is {brief(found.node)}, not a section",
            reference.span,
            labels=(Label(found.node.span, "this"),),
        )
        return None
    return found.steps, found.node


def _borrow_blocks(files: Files, document: Mapping, other: Mapping) -> Mapping:
    blocks = other.items.get("blocks")
    if not isinstance(blocks, Mapping):
        return document
    own = document.items.get("blocks")
    check_clashes(files, blocks, own)
    return with_key(document, "blocks", join(blocks, own), document.key_spans.get("blocks", blocks.span))


def _bind(
    files: Files,
    document: Mapping,
    other: Mapping,
    given: Node | None,
    steps: tuple[str, ...],
    file: str,
    history: History,
) -> tuple[Mapping, Mapping | None]:
    """The parameters that the file's model has, with the values that were given for it.

    `model` is a block whose parameters are the document's, so there they join the document's. Each of several
    `models` keeps its own, under its `params`; their values are read in the document.
    """
    declared = other.items.get("params")
    params = declared if isinstance(declared, Mapping) else Mapping({}, {}, other.span)
    if isinstance(given, Mapping):
        for name in given.items:
            if name not in params.items:
                near = suggest(name, params.items)
                files.error(
                    "NS037",
                    f"`{file}` has no parameter `{name}`",
                    given.key_spans[name],
                    help=f"did you mean `{near}`?" if near else f"it has {_listed(params)}",
                )
        bound = {name: given.items.get(name, value) for name, value in params.items.items()}
        spans = {name: given.key_spans.get(name, span) for name, span in params.key_spans.items()}
        params = Mapping(bound, spans, given.span)
    elif given is not None:
        files.error(
            "NS037",
            f"`params` maps names to values, this is {brief(given)}",
            given.span,
            help="write `{name: value}`",
        )
    if steps[0] == "models":
        return document, params if params.items else None
    own = document.items.get("params")
    for name, value in params.items.items():
        stated = own.items.get(name) if isinstance(own, Mapping) else None
        if stated is None and _refers(value, name):
            files.error(
                "NS037",
                f"this spec has no parameter `{name}` to pass on",
                value.span,
                help=f"give a value, or declare it: `params: {{{name}: …}}` at the top",
            )
        if stated is None or same(stated, value) or _refers(value, name):
            continue
        assert isinstance(own, Mapping)
        files.error(
            "NS038",
            f"both this spec and `{file}` have a parameter `{name}`",
            own.key_spans[name],
            labels=(Label(params.key_spans[name], f"the file's, {brief(value)} here"),),
            help=f"pass it on, `params: {{{name}: ${name}}}`, or give this one another name",
        )
    if isinstance(declared, Mapping):
        for name, value in params.items.items():
            if value is not declared.items[name]:
                history.replace(("params", name), declared.items[name])
    if params.items:
        document = with_key(document, "params", join(params, own), document.key_spans.get("params", params.span))
    return document, None


def _key_span(document: Mapping, steps: tuple[str, ...]) -> Span:
    """Where the last of the steps stands as a key."""
    parent = find(document, ".".join(steps[:-1])).node if len(steps) > 1 else document
    assert isinstance(parent, Mapping)
    return parent.key_spans[steps[-1]]


def _refers(value: Node, name: str) -> bool:
    return isinstance(value, Scalar) and value.value in (f"${name}", f"$({name})")


def _code(name: str) -> str:
    return f"`{name}`"


def _listed(params: Mapping) -> str:
    return ", ".join(map(_code, params.items)) or "none"
