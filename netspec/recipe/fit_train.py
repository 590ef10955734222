"""Whether the parts of a recipe fit each other: fields and inputs, losses and outputs, schedules and lengths."""

from __future__ import annotations

from collections.abc import Mapping as MappingABC
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from netspec.arithmetic import Refused, type_of
from netspec.catalog import registry
from netspec.catalog.constant_targets import PORT, constant_target, takes_constant
from netspec.catalog.losses_classes import BALANCED
from netspec.catalog.metrics import OF_CLASSES
from netspec.diagnostics import Diagnostics, Label, Span
from netspec.document import Mapping
from netspec.expressions import tensors
from netspec.recipe.fit_heads import OF_NUMBERS, check_figure, check_last_layer
from netspec.recipe.read_layers import layer_type
from netspec.recipe.train import Loss, Mask, Metric, Reference, Scheduler, TrainRecipe
from netspec.shapes import Dim, Problem, Size, TensorType, substitute

if TYPE_CHECKING:
    from netspec.catalog.sources import FieldInfo
    from netspec.recipe.train_values import DataInfo, ModelInfo

OF_SCORES = ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss")
"""Losses that take one score a class and the class's number."""
ALONE = ("CrossEntropyLoss", "MultiMarginLoss")
"""Losses that compare the scores of a sample with each other: of a single one they are always 0."""


def check_fit(
    recipe: TrainRecipe,
    node: Mapping,
    spans: MappingABC[str, Span],
    diagnostics: Diagnostics,
    *,
    model: ModelInfo,
    data: DataInfo | None,
) -> None:
    """Report everything in the recipe that can't work, and warn of what most likely is not meant.

    `spans` says where each loss and metric stands, by `loss.NAME` and `metric.NAME`.
    """
    model = _at_sizes(model, recipe, data)
    batch = _batch_size(model)
    _check_inputs(recipe, diagnostics, model=model, data=data)
    _check_modes(recipe, spans, diagnostics, model)
    refused: set[tuple[Reference, ...]] = set()
    for loss in recipe.losses:
        span = spans[f"loss.{loss.name}"]
        types = [_type(reference, batch, model, data, recipe) for reference in loss.inputs]
        if recipe.objective is None and loss.mask is not None:
            mask = _type_of_mask(loss.mask, span, diagnostics, batch, model, data, recipe)
            types = _rows(loss, span, diagnostics, mask, types)
        if recipe.objective is None and not _check_loss(loss, types, span, diagnostics, data):
            refused.add(loss.inputs)
        elif _check_classes(loss, types[0], span, diagnostics, model=model, data=data):
            _check_alone(loss, types[0], span, diagnostics, model)
        check_last_layer(loss, span, diagnostics, model, recipe)
    for metric in recipe.metrics:
        if metric.inputs in refused:
            continue  # it has been told what these two are
        place = spans[f"metric.{metric.name}"]
        prediction, target = (_type(reference, batch, model, data, recipe) for reference in metric.inputs)
        if metric.mask is not None:
            mask = _type_of_mask(metric.mask, place, diagnostics, batch, model, data, recipe)
            prediction, target = _rows(metric, place, diagnostics, mask, [prediction, target])
        check_figure(metric, target, place, diagnostics, model, data, recipe)
        known = prediction is not None and target is not None and "." not in metric.type
        if known and metric.type not in OF_CLASSES and prediction.shape != target.shape:  # type: ignore[union-attr]
            diagnostics.error(
                "NS552",
                f"{metric.type} compares numbers one by one, and got {prediction} and {target}",
                spans[f"metric.{metric.name}"],
                help="give it an output and a field of one shape: `from: [output, field]`",
            )
    if recipe.scheduler is not None:
        _check_schedule(recipe.scheduler, recipe, node.items["scheduler"].span, diagnostics)


def open_sizes(model: ModelInfo, inputs: MappingABC[str, str], fields: MappingABC[str, FieldInfo]) -> dict[str, Size]:
    """What the sizes that the model leaves open are in these data, as far as its inputs name them."""
    found: dict[str, Size] = {}
    for port, field in inputs.items():
        type_, info = model.inputs.get(port), fields.get(field)
        if type_ is None or info is None or info.shape is None:
            continue
        for size, actual in zip(type_.shape[1:], info.shape, strict=False):
            if isinstance(size, Dim) and actual is not None and str(size) in size.symbols:
                found.setdefault(str(size), actual)
    return found


def _at_sizes(model: ModelInfo, recipe: TrainRecipe, data: DataInfo | None) -> ModelInfo:
    """The model with outputs of the sizes that the data give its inputs."""
    sizes = open_sizes(model, recipe.inputs, data.fields) if data is not None and data.fields is not None else {}
    if not sizes:
        return model
    outputs = {
        name: replace(head, type=TensorType(substitute(head.type.shape, sizes), head.type.dtype))
        if head.type is not None
        else head
        for name, head in model.outputs.items()
    }
    return replace(model, outputs=outputs)


def _batch_size(model: ModelInfo) -> Size:
    """What the model's outputs call the batch's size."""
    for head in model.outputs.values():
        if head.type is not None and head.type.shape:
            return head.type.shape[0]
    return 1


def _type(
    reference: Reference, batch: Size, model: ModelInfo, data: DataInfo | None, recipe: TrainRecipe
) -> TensorType | None:
    """The type of an output, of a layer or of a batch's field, None where it is not known."""
    if reference.kind == "layer":
        return layer_type(recipe.objective, reference.name) if recipe.objective is not None else None
    if reference.kind == "output":
        return model.outputs[reference.name].type
    info = data.fields.get(reference.name) if data is not None and data.fields is not None else None
    if info is None or info.shape is None or info.dtype == "any":
        return None
    sizes = [size for size in info.shape if size is not None]
    return TensorType((batch, *sizes), info.dtype) if len(sizes) == len(info.shape) else None


def _check_modes(recipe: TrainRecipe, spans: MappingABC[str, Span], diagnostics: Diagnostics, model: ModelInfo) -> None:
    """Outputs that the model gives in one mode alone: each mode has a loss, and metrics need theirs."""

    def mode(of: Loss | Metric) -> str:
        heads = (model.outputs.get(ref.name) for ref in of.inputs if ref.kind == "output")
        return next((head.when for head in heads if head is not None and head.when), "")

    modes = {mode(loss) for loss in recipe.losses} if recipe.objective is None else set()
    if len(modes) == 1 and (only := modes.pop()):
        diagnostics.error(
            "NS324",
            f"every loss reads an output that the model gives in {only} alone: in the other mode there is none",
            spans[f"loss.{recipe.losses[0].name}"],
            help="let one loss read an output that is always there",
        )
    for metric in recipe.metrics:
        if mode(metric):
            diagnostics.error(
                "NS324",
                f"{metric.type} reads an output that the model gives in {mode(metric)} alone",
                spans[f"metric.{metric.name}"],
                help="let it read an output that is always there",
            )


def _type_of_mask(
    mask: Mask,
    span: Span,
    diagnostics: Diagnostics,
    batch: Size,
    model: ModelInfo,
    data: DataInfo | None,
    recipe: TrainRecipe,
) -> TensorType | None:
    """The type of a mask, None where it is not known or can't be computed, which is reported."""
    types = {name: _type(reference, batch, model, data, recipe) for name, reference in mask.reads.items()}
    if None in types.values():
        return None
    known = {tensor: type_ for tensor in tensors(mask.expr) if (type_ := types[str(tensor.name)]) is not None}
    try:
        found = type_of(mask.expr, known, {})
    except Refused as refused:
        message = f"the mask `{mask.text}`: {refused.problem.message}"
        diagnostics.error("NS552", message, span, help=refused.problem.help)
        return None
    return found if isinstance(found, TensorType) else None


def _rows(
    of: Loss | Metric,
    span: Span,
    diagnostics: Diagnostics,
    mask: TensorType | None,
    types: Sequence[TensorType | None],
) -> list[TensorType | None]:
    """What a loss or a metric takes where the mask is true. A mask has the first sizes of all that they take."""
    assert of.mask is not None
    if mask is None:
        return [None for _ in types]
    depth = len(mask.shape)
    plain = next((r for text, r in of.mask.reads.items() if text == of.mask.text), None)
    what = f"the {plain}" if plain is not None else f"`{of.mask.text}`"
    wrong = next((t for t in types if t is not None and t.shape[:depth] != mask.shape), None)
    if mask.dtype != "bool" or not depth:
        diagnostics.error(
            "NS552",
            f"the mask of {of.type} is a truth value a row, bool [N], and {what} is {mask.dtype} {mask}",
            span,
            help=f"compare it, as in `mask: {of.mask.text} > 0`" if depth else "give one truth value a row",
        )
    elif wrong is not None:
        diagnostics.error(
            "NS552",
            f"the mask of {of.type} has the first sizes of all that it takes, and {what} is {mask} beside {wrong}",
            span,
            help="a mask of rows is bool [N]",
        )
    else:
        rows = Dim("rows")
        return [None if t is None else TensorType((rows, *t.shape[depth:]), t.dtype) for t in types]
    return [None for _ in types]


def _check_inputs(recipe: TrainRecipe, diagnostics: Diagnostics, *, model: ModelInfo, data: DataInfo | None) -> None:
    for name, field in recipe.inputs.items():
        wanted = model.inputs[name]
        info = data.fields.get(field) if data is not None and data.fields is not None else None
        if wanted is None or info is None:
            continue
        labels = _labels(data, f"the field `{field}` comes from here")
        if info.dtype not in ("any", wanted.dtype):
            diagnostics.error(
                "NS562",
                f"the model's input `{name}` is {wanted.dtype}, and the data's field `{field}` is {info.dtype}",
                model.spans.get(name),
                labels=labels,
                help=f"convert it: `transforms: [{{type: ToDtype, dtype: {wanted.dtype}, scale: true}}]`"
                if info.dtype == "uint8"
                else f"`inputs: {{{name}: {{shape: {wanted}, dtype: {info.dtype}}}}}` takes it as it is",
            )
        elif info.shape is not None and not same_sizes(wanted.shape[1:], info.shape):
            sizes = ", ".join("_" if size is None else str(size) for size in info.shape)
            batch = f"[{', '.join(filter(None, (str(wanted.shape[0]) if wanted.shape else '', sizes)))}]"
            image = len(info.shape) == 3 and len(wanted.shape) == 4
            other = "the data's transforms (`Resize`, `Grayscale`)" if image else "what the data give"
            diagnostics.error(
                "NS562",
                f"the model's input `{name}` takes {wanted}, and a batch of the field `{field}` is {batch}",
                model.spans.get(name),
                labels=labels,
                help=f"write `inputs: {{{name}: {batch}}}`, or change {other}",
            )


def same_sizes(wanted: tuple[Size, ...], found: tuple[int | None, ...]) -> bool:
    """Whether known sizes agree; a symbolic one agrees with all."""
    if len(wanted) != len(found):
        return False
    return all(not isinstance(a, int) or b is None or a == b for a, b in zip(wanted, found, strict=True))


def _check_loss(
    loss: Loss, types: list[TensorType | None], span: Span, diagnostics: Diagnostics, data: DataInfo | None
) -> bool:
    """Ask the loss's own rule. False where it refuses; what is not known is not asked about."""
    entry = registry.lookup(loss.type, "loss")
    if entry is None or entry.rule is None:
        return True
    names = [port.name for port in entry.inputs if not port.optional]
    if loss.constant is not None:
        names = [name for name in names if name != PORT]
    said = {name: str(reference) for name, reference in zip(names, loss.inputs, strict=True)}
    found = dict(zip(names, types, strict=True))
    if loss.constant is not None:
        target = constant_target(entry, loss.constant, types[0])
        if not takes_constant(entry):
            target = Problem(f"{loss.type} has no target that one number could say")
        if isinstance(target, Problem):
            diagnostics.error("NS566", target.message, span, help=target.help)
            return False
        said[PORT], found[PORT] = f"number {loss.constant:g}", target
    known = {name: type_ for name, type_ in found.items() if type_ is not None}
    if len(known) < len(found):
        return True
    defaults = {a.name: a.default for a in entry.arguments if not a.required}
    answer = entry.rule(
        # Balanced weights are as many as there are classes, and numbers when the data have been read.
        {**defaults, **{name: _listed(value) for name, value in loss.arguments.items() if value != BALANCED}},
        {port.name: known[port.name] for port in entry.inputs if port.name in known},
    )
    if isinstance(answer, Problem):
        takes = ", ".join(f"`{port}` is the {said[port]}, {type_.dtype} {type_}" for port, type_ in known.items())
        labels = _labels(data, "the data come from here")
        info = data.fields.get(loss.inputs[-1].name) if data is not None and data.fields is not None else None
        count = info.num_classes if info is not None and loss.type not in OF_SCORES else None
        mend = answer.help if count is None or count < 3 else f"for {count} classes take CrossEntropyLoss"
        if info is not None and info.dtype == "int64" and loss.type in OF_NUMBERS:
            mend = _mend_of_numbers(loss, types[0], data) or mend
        diagnostics.error("NS552", f"{answer.message} ({takes})", span, labels=labels, help=mend)
        return False
    result = next(iter(answer.outputs.values()))
    if isinstance(result, TensorType) and result.shape != ():
        diagnostics.error(
            "NS552",
            f"a loss is one number, and {loss.type} with `reduction: none` gives {result}",
            span,
            help="leave `reduction` out, or take `mean` or `sum`",
        )
        return False
    return True


def _mend_of_numbers(loss: Loss, given: TensorType | None, data: DataInfo | None) -> str | None:
    """What a loss that compares numbers was probably meant to take in place of a class."""
    fields = data.fields if data is not None and data.fields is not None else {}
    shape = given.shape[1:] if given is not None else ()
    same = next(
        (n for n, f in fields.items() if f.dtype == "float32" and f.shape is not None and f.shape == shape), None
    )
    if same is not None:
        return f"name what it is compared with: `from: [{loss.inputs[0].name}, {same}]`"
    if "target" in fields:
        return None
    table = (
        "; a column of a table with numbers to predict is its `target`, not its `label`" if "features" in fields else ""
    )
    return f"`{loss.inputs[-1].name}` holds the number of a class, for CrossEntropyLoss{table}"


def _check_classes(
    loss: Loss,
    scores: TensorType | None,
    span: Span,
    diagnostics: Diagnostics,
    *,
    model: ModelInfo,
    data: DataInfo | None,
) -> bool:
    """The number of classes in the data against the width of the head. False where they differ."""
    if loss.type not in OF_SCORES or data is None or data.fields is None or loss.inputs[0].kind != "output":
        return True
    if len(loss.inputs) < 2:
        return True
    info = data.fields.get(loss.inputs[1].name) if loss.inputs[1].kind == "field" else None
    count = info.num_classes if info is not None else None
    if scores is None or count is None or len(scores.shape) < 2 or not isinstance(scores.shape[1], int):
        return True
    width = scores.shape[1]
    if width == count:
        return True
    head = model.outputs[loss.inputs[0].name]
    name = loss.inputs[0].name
    diagnostics.error(
        "NS551",
        f"the data have {count} classes, and the model's output `{name}` has {int(width)} scores",
        head.width or head.span or span,
        labels=_labels(data, f"{count} classes, in the field `{loss.inputs[1].name}`"),
        help=f"one score for each class: {count}",
    )
    return False


def _check_alone(loss: Loss, scores: TensorType | None, span: Span, diagnostics: Diagnostics, model: ModelInfo) -> None:
    """One score has nothing to be compared with."""
    if loss.type not in ALONE or scores is None or len(scores.shape) < 2 or scores.shape[1] != 1:
        return
    head = model.outputs.get(loss.inputs[0].name) if loss.inputs[0].kind == "output" else None
    stated = (head.width or head.span) if head is not None else None
    diagnostics.error(
        "NS552",
        f"{loss.type} of a single score is always 0, and nothing learns: {loss.inputs[0]} is {scores}",
        span,
        labels=[Label(stated, "one score")] if stated is not None else [],
        help="one score for each class; for a number to predict take MSELoss, for yes or no BCEWithLogitsLoss",
    )


def _check_schedule(scheduler: Scheduler, recipe: TrainRecipe, span: Span, diagnostics: Diagnostics) -> None:
    """Schedules that end before or after the run, as far as both are counted in the same unit."""
    length, warmup = recipe.length, scheduler.warmup
    total = length.steps if scheduler.interval == "step" else length.epochs
    unit = "updates" if scheduler.interval == "step" else "epochs"

    def warn(message: str, mend: str) -> None:
        diagnostics.warning("NS557", message, span, help=mend)

    if warmup is not None:
        for mine, whole, name in (
            (warmup.length.epochs, length.epochs, "epochs"),
            (warmup.length.steps, length.steps, "steps"),
        ):
            if mine is not None and whole is not None and mine >= whole:
                warn(f"the warm-up takes {mine} of {whole} {name}: the full rate is never reached", "a shorter warm-up")
    if total is None:
        return
    arguments = scheduler.arguments
    key = "epochs" if scheduler.interval == "epoch" else "steps"
    match scheduler.type:
        case "CosineAnnealingLR":
            turn = arguments["T_max"]
            if turn < total:
                warn(
                    f"the rate is lowest after {turn} of {total} {unit}, and rises again from there",
                    f"`T_max: $(train.{key})` ends with the run",
                )
            elif turn >= 5 * total:
                warn(
                    f"`T_max` counts {unit}: in the {total} of this run the rate hardly falls",
                    f"`T_max: $(train.{key})` ends with the run",
                )
        case "StepLR" if arguments["step_size"] >= total:
            warn(
                f"`step_size` counts {unit}: in the {total} of this run the rate never falls",
                "a smaller `step_size`, or no scheduler",
            )
        case "MultiStepLR":
            late = [milestone for milestone in arguments["milestones"] if milestone >= total]
            if late:
                warn(
                    f"the run ends after {total} {unit}, before {', '.join(map(str, late))}",
                    f"`milestones` count {unit}, below {total}",
                )
        case "OneCycleLR":
            cycle = arguments.get("total_steps") or _product(arguments.get("epochs"), arguments.get("steps_per_epoch"))
            if cycle is not None and cycle < total:
                diagnostics.error(
                    "NS557",
                    f"the cycle has {cycle} updates, and the run {total}: the scheduler would stop it",
                    span,
                    help="leave `total_steps` out: it is then that of the run",
                )


def _product(a: Any, b: Any) -> int | None:
    return a * b if a is not None and b is not None else None


def _listed(value: Any) -> Any:
    """Tuples of a recipe as the lists that a spec has."""
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def _labels(data: DataInfo | None, message: str) -> list[Label]:
    return [Label(data.span, message)] if data is not None and data.span is not None else []
