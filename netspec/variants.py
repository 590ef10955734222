"""A spec with some of its values replaced, compiled: what the trials of a sweep are, and how a sweep is checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import TYPE_CHECKING, Any, Final

from netspec.diagnostics import Diagnostic, Diagnostics, Label, Span
from netspec.document import Mapping as MappingNode
from netspec.document import Node, Scalar, Sequence, plain
from netspec.history import History, brief
from netspec.overrides import Override, apply, parse_overrides
from netspec.paths import find, put, without
from netspec.recipe.read_sweep import read_sweep
from netspec.recipe.sections import document_scope
from netspec.recipe.sweep import Choices
from netspec.schema import knows, suggest_path

if TYPE_CHECKING:
    from netspec.compiler import State
    from netspec.program import Program

CORNERS: Final = 16
"""Where the bounds have no more combinations than this, all of them are compiled, else each bound once."""


@dataclass(frozen=True, slots=True)
class Swept(Override):
    """A value for a path, stated in the section `sweep`."""

    at: Span

    def span(self, start: int, end: int) -> Span:
        return self.at


def variant(document: MappingNode, file: str, values: Mapping[str, Any], diagnostics: Diagnostics) -> Program | None:
    """The program of a resolved document with other values at dotted paths: what `--set` with each of them gives.

    Its `sweep` section is left out. None where it is wrong; `diagnostics` says why.
    """
    from netspec.compiler import override_texts

    return _compiled(document, file, parse_overrides(override_texts(values), diagnostics), diagnostics)


def _compiled(
    document: MappingNode, file: str, overrides: Iterable[Override], diagnostics: Diagnostics
) -> Program | None:
    from netspec.compiler import run_passes
    from netspec.compose import Composed

    changed = without(document, "sweep")
    for override in overrides:
        changed = apply(changed, override, History(), diagnostics, knows, suggest_path)
    return run_passes(Composed(changed, (file,), History()), file, diagnostics)


def check_sweep(state: State) -> None:
    """Read the `sweep` section, and compile the spec with the values that it can draw at its bounds."""
    document = state.composed.document
    if "sweep" not in document.items:
        return
    scope = document_scope(document, state.diagnostics)
    found = read_sweep(document, state.recipe, state.diagnostics, scope, lambda path: _leads_nowhere(document, path))
    if found is None or state.diagnostics.has_errors:
        return
    paths: dict[str, str] = {}
    wrong: list[tuple[dict[str, Node], Diagnostics]] = []
    file = state.composed.sources[0]
    for values in combinations(found.bounds):
        program, quiet = _tried(document, file, values, state.diagnostics.sources)
        if program is None:
            wrong.append((values, quiet))
        elif program.recipe is not None:
            paths |= _files(values, found.bounds, program.recipe, document)
    if wrong:
        # One by one against the spec's own values each mistake is known by its cause, and all of them are seen.
        alone = [{path: node} for path, nodes in found.bounds.items() for node in nodes]
        single = [(values, _tried(document, file, values, state.diagnostics.sources)) for values in alone]
        _report([(v, quiet) for v, (program, quiet) in single if program is None] or wrong, state.diagnostics)
    parameters = tuple(
        replace(one, choices=tuple(plain(node) for node in _located(document, one.path, paths)))
        if isinstance(one, Choices)
        else one
        for one in found.recipe.parameters
    )
    state.recipe = replace(state.recipe, sweep=replace(found.recipe, parameters=parameters, paths=paths))


def _located(document: MappingNode, path: str, paths: Mapping[str, str]) -> tuple[Node, ...]:
    """The choices of a parameter, with the files that they name as absolute paths."""
    place = f"sweep.parameters.{path}"
    stated = find(document, place).node
    if isinstance(stated, MappingNode):
        place, stated = f"{place}.choices", stated.items["choices"]
    assert isinstance(stated, Sequence)
    found = stated.items
    for at, file in paths.items():
        if at.startswith(f"{place}."):
            index, _, inside = at[len(place) + 1 :].partition(".")
            choice = found[int(index)]
            steps = (*find(choice, inside).steps,) if inside else ()
            changed = put(choice, steps, Scalar(file, choice.span, quoted=True), choice.span)
            found = (*found[: int(index)], changed, *found[int(index) + 1 :])
    return found


def _tried(
    document: MappingNode, file: str, values: Mapping[str, Node], sources: dict[str, str]
) -> tuple[Program | None, Diagnostics]:
    quiet = Diagnostics(sources=sources)
    swept = [Swept(path, node, brief(node), node.span) for path, node in values.items()]
    return _compiled(document, file, swept, quiet), quiet


def combinations(bounds: Mapping[str, list[Node]]) -> Iterator[dict[str, Node]]:
    """Values that a trial can have: all combinations of bounds where they are few; else all first ones, from there each
    other one by itself, and all last ones.
    """
    corners = list(islice(product(*bounds.values()), CORNERS + 1))
    if len(corners) <= CORNERS:
        yield from (dict(zip(bounds, corner, strict=True)) for corner in corners)
        return
    first = {path: nodes[0] for path, nodes in bounds.items()}
    yield first
    for path, nodes in bounds.items():
        yield from ({**first, path: node} for node in nodes[1:])
    yield {path: nodes[-1] for path, nodes in bounds.items()}


def _leads_nowhere(document: MappingNode, path: str) -> tuple[str, str | None] | None:
    """What is wrong with a path at which nothing may stand, as `--set` would say it, and the mend."""
    found, quiet = find(document, path), Diagnostics()
    if not found.rest:
        return None
    apply(document, Override(path, document, path), History(), quiet, knows, suggest_path)
    wrong = next((d for d in quiet if d.code in ("NS008", "NS041", "NS042")), None)
    if wrong is None:
        return None
    help = wrong.help
    if help is not None and "--set" in help:
        here = ".".join(found.steps)
        help = f"vary it whole: `{here}: [{{type: …, {found.rest[0]}: …}}, …]`"
    return wrong.message, help


def _report(tried: Iterable[tuple[Mapping[str, Node], Diagnostics]], diagnostics: Diagnostics) -> None:
    """What is wrong with combinations of values, at the value that it is about; each mistake once."""
    told: set[tuple[str, str]] = set()
    for values, quiet in tried:
        for wrong in (d for d in quiet if d.severity == "error"):
            path = _blamed(wrong, values)
            key = (path, wrong.message)
            if key in told:
                continue
            told.add(key)
            node = values[path]
            others = ", ".join(f"{name} {brief(other)}" for name, other in values.items() if name != path)
            labels = [Label(wrong.span, "here")] if wrong.span is not None and wrong.span != node.span else []
            diagnostics.error(
                "NS592",
                f"`{path}: {brief(node).strip('`')}` makes the spec wrong: {wrong.message} ({wrong.code})",
                node.span,
                labels=[*labels, *(one for one in wrong.labels if one.span != node.span)],
                help=f"with {others}" if others else wrong.help,
            )


def _blamed(wrong: Diagnostic, values: Mapping[str, Node]) -> str:
    """The parameter that a mistake is about: whose value is named by it, else the first."""
    spans = [wrong.span, *(label.span for label in wrong.labels)]
    for path, node in values.items():
        if any(span is not None and _within(span, node.span) for span in spans):
            return path
    for path in values:
        if path.rpartition(".")[2] in wrong.message:
            return path
    return next(iter(values))


def _within(span: Span, outer: Span) -> bool:
    return (
        span.file == outer.file
        and (outer.line, outer.column) <= (span.line, span.column)
        and (span.end_line, span.end_column) <= (outer.end_line, outer.end_column)
    )


def _files(
    values: Mapping[str, Node], bounds: Mapping[str, list[Node]], recipe: Any, document: MappingNode
) -> dict[str, str]:
    """The choices that name files, by their places in the section, with the absolute paths."""
    absolute = {
        place: path for section in (recipe.data, recipe.train) for place, path in getattr(section, "paths", {}).items()
    }
    found = {}
    for path, node in values.items():
        for place, file in absolute.items():
            if place == path or place.startswith(f"{path}."):
                index = bounds[path].index(node)
                stated = find(document, f"sweep.parameters.{path}").node
                inside = ".choices" if isinstance(stated, MappingNode) else ""
                found[f"sweep.parameters.{path}{inside}.{index}{place[len(path) :]}"] = file
    return found
