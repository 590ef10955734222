"""How weights are updated: the optimizer with its groups, the scheduler and its warm-up."""

from __future__ import annotations

from collections.abc import Mapping as MappingABC
from typing import Any, cast, get_args

from netspec.catalog.entry import Argument, Entry
from netspec.catalog.kinds import accepts
from netspec.diagnostics import Label
from netspec.document import Mapping, Node, Scalar, Sequence
from netspec.recipe.reading import WRONG, show
from netspec.recipe.train import FUNCTIONS, Duration, Group, Interval, Optimizer, Scheduler, WarmUp
from netspec.recipe.train_values import TrainReader, Weight, listed, settled, without
from netspec.suggest import suggest

BY_STEP = ("OneCycleLR", "CyclicLR")
"""Schedulers whose authors meant them to step with every update."""


COMBINING = ("SequentialLR", "ChainedScheduler")
"""Schedulers that hold others."""
TAKE_SPARSE = ("SGD", "Adagrad", "SparseAdam")
"""Optimizers that take sparse gradients."""


class OptimizerReader(TrainReader):
    """Reads `optimizer` and `scheduler`."""

    __slots__ = ()

    def optimizer(self) -> Optimizer | None:
        node = self.node.items.get("optimizer")
        if node is None:
            self.error("NS561", "`train` has no `optimizer`", self.span, help="`optimizer: {type: AdamW, lr: 0.001}`")
            return None
        given = self.entry(without(node, "groups"), "optimizer")
        if given is None:
            return None
        entry, arguments = given
        groups = node.items.get("groups") if isinstance(node, Mapping) else None
        items = groups.items if isinstance(groups, Sequence) else ()
        found = [self.group(item, entry) for item in items]
        if entry.name == "LBFGS":
            for key in ("accumulate", "clip_grad"):
                if key in self.node.items:
                    self.error(
                        "NS560", f"LBFGS evaluates a batch by itself and knows no `{key}`", self.node.key_spans[key]
                    )
            if self.value(self.node.items.get("precision", Scalar("fp32", node.span))) == "fp16":
                self.error(
                    "NS560", "LBFGS can't scale its gradients for fp16", self.node.items["precision"].span, "use bf16"
                )
        self.check_weights(entry, node)
        return Optimizer(
            type=entry.name,
            target=entry.target,
            arguments=settled(arguments),
            groups=tuple(group for group in found if group is not None),
        )

    def check_weights(self, entry: Entry, node: Node) -> None:
        """Optimizers that do not take the weights of every layer."""
        span = node.items["type"].span if isinstance(node, Mapping) else node.span
        trained = {name: weight for name, weight in self.model.weights.items() if not weight.frozen}
        wrong = ((name, weight) for name, weight in trained.items() if not _suits(entry.name, weight))
        found = next(wrong, None)
        if found is None:
            return
        name, weight = found
        others = sum(not _suits(entry.name, one) for one in trained.values()) - 1
        more = f", and {others} more like it" if others else ""
        if entry.name == "Muon":
            message = (
                f"Muon takes matrices, and `{name}` has {len(weight.shape)} dimension{'s' * (len(weight.shape) != 1)}"
            )
            mend = "take AdamW, or freeze the layers whose weights are no matrices"
        elif weight.sparse:
            message = f"{entry.name} takes no sparse gradients, and those of `{name}` are"
            mend = "leave `sparse` out of the embedding, or take SparseAdam, SGD or Adagrad"
        else:
            message = f"SparseAdam takes sparse gradients alone, and those of `{name}` are not"
            mend = "let every layer with weights be an Embedding with `sparse: true`, or take Adam"
        label = Label(weight.span, f"`{name}` is here")
        self.diagnostics.error("NS560", message + more, span, labels=[label], help=mend)

    def group(self, node: Node, entry: Entry) -> Group | None:
        assert isinstance(node, Mapping), "the schema has seen it"
        match = node.items["match"]
        patterns = self.parameter_globs(match, "match")
        if patterns is None:
            return None
        arguments: dict[str, Any] = {}
        for key, item in node.items.items():
            if key == "match":
                continue
            argument = entry.argument(key)
            if argument is None:
                near = suggest(key, [a.name for a in entry.arguments])
                self.error(
                    "NS502",
                    f"{entry.name} has no argument `{key}`",
                    node.key_spans[key],
                    f"did you mean `{near}`?" if near else f"it takes {listed([a.name for a in entry.arguments])}",
                )
                continue
            arguments[key] = self.accepted(argument, item)
        return Group(match=patterns, arguments=settled(arguments))

    def accepted(self, argument: Argument, node: Node) -> Any:
        value = self.value(node)
        problem = None if value is WRONG else accepts(argument, value)
        if problem is not None:
            self.error("NS503", problem.message, node.span, problem.help)
        return value

    def scheduler(self, length: Duration, figures: tuple[str, ...] | None) -> Scheduler | None:
        node = self.node.items.get("scheduler")
        if node is None:
            return None
        warmup = self.warmup(node)
        monitor_node = node.items.get("monitor") if isinstance(node, Mapping) else None
        if isinstance(node, Mapping) and "type" not in node.items and warmup is not None:
            return Scheduler(type="", target="", warmup=warmup)
        given = self.schedule(without(node, "warmup", "interval", "monitor"))
        if given is None or (warmup is None and isinstance(node, Mapping) and "warmup" in node.items):
            return None
        entry, arguments = given
        by_step = entry.name in BY_STEP or length.steps is not None
        plateau = entry.name == "ReduceLROnPlateau"
        interval = "step" if by_step and not plateau else "epoch"
        if isinstance(node, Mapping):
            interval = self.choice(node, "interval", get_args(Interval), interval)
        if plateau and interval == "step":
            assert isinstance(node, Mapping)
            self.error(
                "NS557",
                "ReduceLROnPlateau watches the figures of an epoch",
                node.items["interval"].span,
                "leave out `interval`",
            )
        monitor = None
        if plateau:
            monitor = self.monitor(monitor_node, figures) or next(
                (figure for figure in ("val.loss", "train.loss") if figure in (figures or ())), None
            )
        elif monitor_node is not None:
            self.error("NS557", f"{entry.name} watches no figure", monitor_node.span, "leave out `monitor`")
        return Scheduler(
            type=entry.name,
            target=entry.target,
            arguments=arguments,
            interval=cast(Interval, interval),
            monitor=monitor,
            warmup=warmup,
        )

    def schedule(self, node: Node) -> tuple[Entry, dict[str, Any]] | None:
        """A scheduler's entry and arguments, with the expressions of its functions and the schedules that it holds."""
        read: dict[str, Any] = {}
        if isinstance(node, Mapping):
            for name, item in node.items.items():
                if name in FUNCTIONS:
                    read[name] = self.function(item, FUNCTIONS[name])
                elif name == "schedulers":
                    read[name] = self.schedules(item, self.value(node.items.get("type", node)) == "SequentialLR")
            held = {name: Scalar("read already", node.items[name].span, quoted=True) for name in read}
            node = Mapping({**node.items, **held}, node.key_spans, node.span)
        given = self.entry(node, "scheduler")
        if given is None or None in read.values():
            return None
        return given[0], {**settled(given[1]), **read}

    def schedules(self, node: Node, sequence: bool) -> tuple[Scheduler, ...] | None:
        """The schedules of a list; None where one of them is wrong.

        A `sequence` starts each of them at its milestone, which torch can't do with one that holds others.
        """
        found: list[Scheduler] = []
        items = node.items if isinstance(node, Sequence) else ()
        for item in items:
            given = self.schedule(item)
            name = given[0].name if given is not None else ""
            if name == "ReduceLROnPlateau":
                self.error("NS557", "ReduceLROnPlateau watches a figure, and cannot stand in a list", item.span)
            elif sequence and name in COMBINING:
                self.error("NS557", f"{name} cannot stand in a SequentialLR: torch does not start it there", item.span)
            elif given is not None:
                found.append(Scheduler(type=name, target=given[0].target, arguments=given[1]))
        return tuple(found) if found and len(found) == len(items) else None

    def warmup(self, node: Node) -> WarmUp | None:
        found = node.items.get("warmup") if isinstance(node, Mapping) else None
        if not isinstance(found, Mapping):
            return None
        length = self.length(found, "warmup", found.span)
        if length is None:
            return None
        return WarmUp(length=length, start_factor=self.number(found, "start_factor", 0.01, 0.0))

    def function(self, node: Node, variable: str) -> Any:
        """An expression of one free name, the values of the others put in; a list of them for a list."""
        from netspec.expressions import ExpressionError, evaluate, parse_scalar, report

        if isinstance(node, Sequence):
            return tuple(self.function(item, variable) for item in node.items)
        if not isinstance(node, Scalar) or isinstance(node.value, bool | None):
            self.error("NS503", f"an expression of `{variable}` is wanted", node.span, f"`$(0.95 ** {variable})`")
            return None
        try:
            expr = _bound(parse_scalar(node, self.diagnostics, paths=True), self.scope, variable)
            value = evaluate(expr, {variable: 1})
        except ExpressionError as error:
            report(error, node, self.diagnostics)
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.error("NS503", f"an expression of `{variable}` gives a number, and this one {show(value)}", node.span)
        return expr


def _suits(optimizer: str, weight: Weight) -> bool:
    """Whether torch's optimizer of that name takes such a weight."""
    if optimizer == "Muon":
        return len(weight.shape) == 2
    return weight.sparse == (optimizer == "SparseAdam") or (weight.sparse and optimizer in TAKE_SPARSE)


def _bound(expr: Any, scope: MappingABC[str, object], keep: str) -> Any:
    """The expression with every name but one replaced by its value."""
    from netspec.expressions import Name, Path, evaluate, from_value, map_children

    if isinstance(expr, Path) or (isinstance(expr, Name) and expr.id != keep):
        return from_value(evaluate(expr, scope))
    return map_children(expr, lambda child: _bound(child, scope, keep))
