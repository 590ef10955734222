"""The `sweep` section becomes a `SweepRecipe`, or diagnostics.

What is said here can be told from the section, the document's keys and the figures of an epoch. Whether the values that
it draws make sound specs is found by compiling some of those, in `netspec.variants`.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as MappingABC
from dataclasses import dataclass, field
from decimal import Decimal
from math import isfinite
from typing import Any, Final, Literal, cast

from netspec.catalog.study import DIRECTIONS, RANGES
from netspec.diagnostics import Diagnostics, Label, Span
from netspec.document import Mapping, Node, Scalar, Sequence, plain
from netspec.recipe.reading import WRONG, SectionReader, show
from netspec.recipe.sections import Recipe
from netspec.recipe.sweep import Choices, Direction, Named, Parameter, Range, SweepRecipe, label
from netspec.recipe.train_values import listed, reject_figure
from netspec.suggest import suggest

VARIED: Final = ("params", "blocks", "model", "models", "data", "train")
"""The sections in which trials may differ."""


@dataclass(slots=True)
class ReadSweep:
    """The recipe, and of each parameter the values that stand in the section: bounds, choices."""

    recipe: SweepRecipe
    bounds: dict[str, list[Node]]


def read_sweep(
    document: Mapping,
    recipe: Recipe | None,
    diagnostics: Diagnostics,
    scope: MappingABC[str, object],
    leads_nowhere: Callable[[str], tuple[str, str | None] | None],
) -> ReadSweep | None:
    """Read the section of a resolved document. `recipe` is what `data` and `train` say; `leads_nowhere` gives, for a
    path at which nothing may stand, what is wrong with it and the mend.

    Returns None where anything was wrong; the diagnostics say what.
    """
    node, span = document.items["sweep"], document.key_spans["sweep"]
    before = len([d for d in diagnostics.found if d.severity == "error"])
    if "train" not in document.items:
        diagnostics.error("NS593", "a sweep trains the spec again and again, and this one has no `train` section", span)
        return None
    if not isinstance(node, Mapping) or recipe is None or recipe.train is None:
        return None
    reader = _Reader(
        diagnostics=diagnostics, scope=scope, node=node, span=span, recipe=recipe, leads_nowhere=leads_nowhere
    )
    found = reader.read()
    return None if len([d for d in diagnostics.found if d.severity == "error"]) > before else found


@dataclass(slots=True, kw_only=True)
class _Reader(SectionReader):
    node: Mapping
    span: Span
    recipe: Recipe
    leads_nowhere: Callable[[str], tuple[str, str | None] | None]
    bounds: dict[str, list[Node]] = field(default_factory=dict)

    def read(self) -> ReadSweep:
        stated = self.node.items["parameters"]
        assert isinstance(stated, Mapping)
        parameters = tuple(found for path in stated.items if (found := self.parameter(stated, path)) is not None)
        self.overlaps(stated)
        sampler = self.named("sampler") or Named(type="TPESampler", target="optuna.samplers.TPESampler")
        if sampler.type == "GridSampler":
            self.countable(parameters)
        metric = self.metric()
        trials = self.count(self.node, "trials", 1)
        recipe = SweepRecipe(
            parameters=parameters,
            trials=trials or 1,
            metric=metric,
            direction=self.direction(metric),
            sampler=sampler,
            pruner=self.named("pruner"),
            timeout=self.timeout(),
            seed=self.count(self.node, "seed", 0) or 0,
        )
        return ReadSweep(self.sized(recipe, trials), self.bounds)

    def error(self, code: str, message: str, span: Span, help: str | None = None) -> None:
        self.diagnostics.error(code, message, span, help=help)

    # What is varied

    def parameter(self, stated: Mapping, path: str) -> Parameter | None:
        span, node = stated.key_spans[path], stated.items[path]
        section = path.partition(".")[0]
        if section not in VARIED or path == section:
            near = suggest(section, VARIED)
            self.error(
                "NS590",
                f"trials differ in values of {listed(VARIED)}, and `{path}` is none",
                span,
                f"did you mean `{near}{path[len(section) :]}`?" if near and near != section else None,
            )
            return None
        wrong = self.leads_nowhere(path)
        if wrong is not None:
            self.error("NS590", wrong[0], span, wrong[1])
            return None
        if isinstance(node, Sequence):
            return self.choices(path, node, node)
        assert isinstance(node, Mapping)
        kind = self.value(node.items["type"])
        if kind not in RANGES:
            self.unknown("type of values", kind, node.items["type"].span, RANGES)
            return None
        takes = ("choices",) if kind == "categorical" else ("low", "high")
        for key in ("low", "high", "step", "log", "choices"):
            if key in node.items and (key == "choices") != (kind == "categorical"):
                self.error("NS591", f"values of type `{kind}` have no `{key}`", node.key_spans[key])
                return None
        missing = [key for key in takes if key not in node.items]
        if missing:
            self.error(
                "NS591",
                f"values of type `{kind}` need {listed(missing)}",
                span,
                f"{path}: [16, 32, 64]" if kind == "categorical" else f"{{type: {kind}, low: …, high: …}}",
            )
            return None
        if kind == "categorical":
            return self.choices(path, node.items["choices"], node)
        return self.range(path, node, cast(Literal["float", "int"], kind))

    def choices(self, path: str, node: Node, whole: Node) -> Choices | None:
        if not isinstance(node, Sequence) or not node.items:
            self.error("NS591", f"`{path}` has nothing to choose from", node.span, f"{path}: [16, 32, 64]")
            return None
        values = [plain(item) for item in node.items]
        seen: dict[Any, Node] = {}
        for item, value in zip(node.items, values, strict=True):
            key = label(value)
            if key in seen:
                self.diagnostics.error(
                    "NS591",
                    f"{show(key)} stands twice among the choices of `{path}`",
                    item.span,
                    labels=[Label(seen[key].span, "the first is here")],
                    help="leave one of them out",
                )
                return None
            seen[key] = item
        self.bounds[path] = list(node.items)
        return Choices(path=path, choices=tuple(values))

    def range(self, path: str, node: Mapping, kind: Literal["float", "int"]) -> Range | None:
        log = self.flag("log", False, node)
        found: dict[str, float] = {}
        for key in ("low", "high", "step"):
            if key in node.items:
                value = self.number(node, key, kind)
                if value is None:
                    return None
                found[key] = value
        low, high, step = found["low"], found["high"], found.get("step")
        wrong, at, help = "", "high", None
        if low > high:
            wrong, at = f"`low` is {low} and `high` is {high}: there is nothing between them", "low"
            help = f"low: {high}, high: {low}"
        elif step is not None and step <= 0:
            wrong, at = f"a step is above 0, and got {step}", "step"
        elif log and step is not None:
            wrong, at = "`log` draws orders of magnitude, which have no `step`", "step"
            help = "leave one of them out, or list the values: [0.001, 0.01, 0.1]"
        elif log and low <= 0:
            wrong, at = f"`log` needs a `low` above 0, and got {low}", "low"
        elif step is not None:
            rest = (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step))
            if rest:
                wrong = f"steps of {step} from {low} do not reach {high}"
                help = f"the last is {type(high)(Decimal(str(high)) - rest)}"
        if wrong:
            self.error("NS591", wrong, node.items[at].span, help)
            return None
        self.bounds[path] = [
            Scalar(found[key], node.items[key].span) for key in (("low",) if low == high else ("low", "high"))
        ]
        return Range(path=path, type=kind, low=low, high=high, step=step, log=log)

    def number(self, node: Mapping, key: str, kind: str) -> float | None:
        value, span = self.value(node.items[key]), node.items[key].span
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            self.reject(value, "NS591", f"`{key}` is a finite number, and got {show(value)}", span)
            return None
        if kind == "int" and not isinstance(value, int):
            self.error("NS591", f"`{key}` of an `int` is a whole number, and got {value}", span, "type: float")
            return None
        return float(value) if kind == "float" else value

    def overlaps(self, stated: Mapping) -> None:
        """A place inside another would be written twice."""
        for path, span in stated.key_spans.items():
            for other, first in stated.key_spans.items():
                if path.startswith(f"{other}."):
                    self.diagnostics.error(
                        "NS590",
                        f"`{path}` lies within `{other}`, which differs from trial to trial as a whole",
                        span,
                        labels=[Label(first, "this holds it")],
                        help="vary one of the two; the choices of the outer one may be mappings",
                    )

    # How trials are drawn and judged

    def named(self, key: Literal["sampler", "pruner"]) -> Named | None:
        node = self.node.items.get(key)
        given = self.entry(node, key) if node is not None else None
        if given is None:
            return None
        entry, arguments = given
        if entry.name == "ThresholdPruner" and arguments.get("lower") is None and arguments.get("upper") is None:
            assert node is not None
            self.error("NS502", "ThresholdPruner needs `lower` or `upper`", node.span)
        if arguments.get("group") and not arguments.get("multivariate"):
            assert isinstance(node, Mapping)
            self.error(
                "NS502", "`group` needs `multivariate`", node.key_spans["group"], "multivariate: true, group: true"
            )
        return Named(type=entry.name, target=entry.target, arguments=arguments)

    def countable(self, parameters: tuple[Parameter, ...]) -> None:
        stated = self.node.items["parameters"]
        assert isinstance(stated, Mapping)
        for parameter in parameters:
            if parameter.count is None:
                self.error(
                    "NS591",
                    f"a grid needs a `step` for `{parameter.path}`: between any two numbers there is a third",
                    stated.key_spans[parameter.path],
                    "list the values: [0.001, 0.01, 0.1], or add `step`",
                )

    def sized(self, recipe: SweepRecipe, trials: int | None) -> SweepRecipe:
        """How many trials there are: of a grid no more than it has."""
        from dataclasses import replace

        grid = recipe.combinations if recipe.sampler.type == "GridSampler" else None
        if grid is not None:
            return replace(recipe, trials=min(trials or grid, grid))
        if "trials" not in self.node.items and recipe.sampler.type != "GridSampler":
            self.error(
                "NS593",
                "the sweep does not say how many `trials` there are",
                self.span,
                "trials: 20; only a GridSampler knows by itself",
            )
        return recipe

    def figures(self) -> tuple[str, ...]:
        train = self.recipe.train
        assert train is not None
        split = "val" if self.recipe.data is not None and "val" in self.recipe.data.splits else "train"
        return tuple(dict.fromkeys(("train.loss", f"{split}.loss", *(f"{split}.{m.name}" for m in train.metrics))))

    def metric(self) -> str:
        """The figure that is stated, else the one that checkpoints go by, else the loss on `val`."""
        figures, node = self.figures(), self.node.items.get("metric")
        assert self.recipe.train is not None
        if node is None:
            return self.recipe.train.checkpoint.monitor or (figures[1] if len(figures) > 1 else figures[0])
        name = self.value(node)
        if name not in figures:
            reject_figure(self, name, figures, node)
        return str(name)

    def direction(self, metric: str) -> Direction:
        if "direction" in self.node.items:
            value = self.value(self.node.items["direction"])
            if value in DIRECTIONS:
                return cast(Direction, value)
            self.unknown("direction", value, self.node.items["direction"].span, DIRECTIONS)
        return "minimize" if metric.endswith(("loss", "_error")) else "maximize"

    def timeout(self) -> float | None:
        node = self.node.items.get("timeout")
        if node is None:
            return None
        value = self.value(node)
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            return float(value)
        if value is not WRONG:
            self.error("NS508", f"`timeout` is a number of seconds, and got {show(value)}", node.span)
        return None
