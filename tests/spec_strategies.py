"""Random specs that are valid by construction, for whatever has to hold for every spec.

A body is drawn layer by layer. Each tensor in it is known by its width (as the text of an expression, so that two
tensors of one width are equal in every use of a block) and by its extent: a mark for height and width that changes
wherever a layer changes them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st
from spec_body import UNKNOWN, Body, Layers, Tensor, norm, plain, value, weighted
from spec_given import step_given, step_select, step_when


def step_weighted(body: Body) -> None:
    source = body.pick(*body.tensors[-3:])
    width = body.pick(*body.widths)
    more = {}
    if body.images and _even(width) and _even(source.width) and body.maybe():
        more["groups"] = 2
    made = body.add("layer", weighted(body, width, **more), replace(source, width=width), source=source)
    body.modules[made.name] = (source.width, width)


def step_plain(body: Body) -> None:
    made = body.add("act", plain(body))
    if body.layers[made.name] in ("ReLU", "Tanh"):
        body.modules[made.name] = None


def step_norm(body: Body) -> None:
    body.add("norm", norm(body))


def step_function(body: Body) -> None:
    body.add("f", body.pick("relu", "tanh", "sigmoid", {"type": "dropout", "p": 0.5}))


def step_use(body: Body) -> None:
    source = body.pick(*body.tensors[-3:])
    fitting = [name for name, widths in body.modules.items() if widths is None or widths[0] == source.width]
    if fitting:
        name = body.pick(*fitting)
        widths = body.modules[name]
        made = replace(source, width=widths[1]) if widths is not None else source
        body.add("again", {"use": name}, made, source=source)


def step_condition(body: Body) -> None:
    """A layer that may be left out: as a module, a list, or a function."""
    if not body.flags:
        return
    condition = {"if": value(body.pick(*body.flags, *(f"not {flag}" for flag in body.flags)))}
    choices: list[Layers] = [{"type": "ReLU"}, {"type": "relu"}, {"layers": [norm(body), "ReLU"]}]
    if UNKNOWN not in body.last.width:
        choices.append({"layers": {"fc": weighted(body, body.last.width), "act": "ReLU"}})
        choices.append(weighted(body, body.last.width))
    body.add("maybe", {**body.pick(*choices), **condition})


def step_sum(body: Body) -> None:
    right = body.last
    partners = [t for t in body.tensors if t.like(right) and t.width == right.width]
    left = body.pick(*partners)
    a, b = left.name, right.name
    text = body.pick(f"{a} + {b}", f"{b} * {a}", f"{b} - {a} * 0.5", f"-{a}")
    body.add("sum", {"compute": text})


def step_cat(body: Body) -> None:
    right = body.last
    partners = [t for t in body.tensors if t.like(right)]
    chosen = [body.pick(*partners), right, *([body.pick(*partners)] if body.maybe() else [])]
    width = " + ".join(t.width if t.width.isidentifier() or t.width.isdigit() else f"({t.width})" for t in chosen)
    body.add("cat", {"type": "cat", "from": [t.name for t in chosen], "dim": 1}, replace(right, width=width))


def step_list(body: Body) -> None:
    """An `nn.Sequential`: widths that change, conditions, inline groups and loops within."""
    width = body.last.width
    items: list[Any] = []
    for _ in range(body.pick(1, 2, 3)):
        kind = body.pick("weighted", "plain", "norm", "if", "inline", "loop", "counted")
        if kind == "weighted":
            width = body.pick(*body.widths)
            items.append(weighted(body, width))
        elif kind == "plain":
            items.append(plain(body))
        elif kind == "norm":
            items.append(norm(body))
        elif kind == "if" and body.flags:
            items.append({"type": "ReLU", "if": value(body.pick(*body.flags))})
        elif kind == "inline":
            width = body.pick(*body.widths)
            items.append({"inline": True, "layers": [weighted(body, width), norm(body), plain(body)]})
        elif kind == "loop":
            named = body.values.get("widths", [])
            widths: Any = body.draw(st.lists(st.integers(2, 5), min_size=1, max_size=3))
            width = str(widths[-1])
            if named and body.maybe():
                widths, width = f"${named[0]}", f"{named[0]}[-1]"
            items.append(
                {"for": {"w": widths}, "inline": True, "layers": [weighted(body, "w"), plain(body)]}
                if body.maybe()
                else {"for": {"w": widths}, **weighted(body, "w")}
            )
        elif kind == "counted":
            width = body.pick(*body.widths)
            count = value(body.pick("1", "2", "3", *body.values.get("count", [])))
            # One more layer of the same width: what follows must not depend on whether a copy was made.
            items += [weighted(body, width), {"repeat": count, **weighted(body, width)}]
    if items:
        body.add("list", items, replace(body.last, width=width))


def step_group(body: Body) -> None:
    """A named group, which may read what stands around it."""
    outside = body.last
    width = body.pick(*body.widths)
    inner: Layers = {"fc": weighted(body, width), "act": plain(body)}
    partners = [t for t in body.tensors if t.like(outside) and t.width == width]
    if partners and body.maybe():
        inner["sum"] = {"compute": f"act + {body.pick(*partners).name}"}
    if body.maybe():
        inner["more"] = [weighted(body, width), "ReLU"]
    layer: Layers = {"layers": inner}
    if body.maybe():
        prefix = body.name("g")
        layer = {"inline": True, "layers": {f"{prefix}_{k}": _renamed(v, prefix, inner) for k, v in inner.items()}}
        body.layers[body.name("inline")] = layer
        body.tensors.append(replace(outside, name=f"{prefix}_{list(inner)[-1]}", width=width))
        return
    body.add("group", layer, replace(outside, width=width))


def _renamed(layer: Any, prefix: str, names: Layers) -> Any:
    if isinstance(layer, dict) and "compute" in layer:
        return {"compute": layer["compute"].replace("act", f"{prefix}_act", 1)}
    return layer


def step_siblings(body: Body) -> None:
    """Copies that are attributes of their own."""
    width = body.pick(*body.widths)
    stem = body.name("s")
    count = body.pick("2", "3", *body.values.get("positive", []))
    body.layers[f"{stem}_$(i + 1)"] = {"for": {"i": value(count)}, **weighted(body, width)}
    # The name of the last copy may depend on a parameter, so what follows reads it as the layer before.
    body.layers[f"after_{stem}"] = plain(body)
    body.tensors.append(replace(body.last, name=f"after_{stem}", width=width))


def step_chain(body: Body) -> None:
    width = body.pick(*body.widths)
    count = body.pick("1", "2", *body.values.get("positive", []))
    body.add("chain", {"for": {"i": value(count)}, **weighted(body, width)}, replace(body.last, width=width))


def step_shrink(body: Body) -> None:
    if not body.images or body.halvings >= 1:
        return
    body.halvings += 1
    extent = 1 + max(t.extent for t in body.tensors)
    layer = body.pick(
        {"type": "MaxPool2d", "kernel_size": 3, "stride": 2, "padding": 1},
        {"type": "AvgPool2d", "kernel_size": 3, "stride": 2, "padding": 1},
        {"type": "max_pool2d", "kernel_size": 3, "stride": 2, "padding": 1},
    )
    body.add("pool", layer, replace(body.last, extent=extent))


def step_branches(body: Body) -> None:
    """Several layers of one tensor: joined, added up, one of them read, or each passed through one more."""
    source = body.last
    kind = body.pick("list", "names")
    equal = body.maybe()
    first = body.pick(*body.widths)
    widths = [first, *(first if equal else body.pick(*body.widths) for _ in range(body.pick(1, 2)))]
    members = [weighted(body, width) for width in widths]
    if body.maybe():
        members[-1] = [members[-1], plain(body)]
    if kind == "names":
        made = body.add("paths", {"branches": {f"path{i}": one for i, one in enumerate(members)}}, source=source)
        parts = [f"{made.name}.path{i}" for i in range(len(members))]
    else:
        made = body.add("paths", {"branches": members}, source=source)
        parts = [f"{made.name}.{i}" for i in range(len(members))]
    name, total = made.name, " + ".join(f"({width})" for width in widths)
    use_of_all = [name] if kind == "list" and body.maybe() else parts
    body.tensors.pop()
    if equal and body.maybe():
        body.add("sum", {"compute": " + ".join(parts)}, replace(source, width=first))
    elif equal and kind == "list" and body.maybe():
        each = body.add("each", {"each": name, **weighted(body, first)}, source)
        body.tensors.pop()
        body.add("cat", {"type": "cat", "from": each.name, "dim": 1}, replace(source, width=total))
    else:
        given = use_of_all[0] if len(use_of_all) == 1 else use_of_all
        body.add("cat", {"type": "cat", "from": given, "dim": 1}, replace(source, width=total))


def step_members(body: Body) -> None:
    """A chain whose copies are read one by one."""
    width = body.pick(*body.widths)
    count = body.pick(2, 3)
    chain = body.add("chain", {"for": {"i": count}, **weighted(body, width)}, replace(body.last, width=width))
    member = body.pick(*range(count - 1))
    body.add("sum", {"compute": f"{chain.name} + {chain.name}.{member}"}, chain)


def step_weight(body: Body) -> None:
    """A tensor of the module's own: learned, stated, or computed once."""
    source = body.last
    if UNKNOWN in source.width:
        return
    shape = [value(source.width), *([1, 1] if body.images else [])]
    made: Layers = body.pick(
        {"type": "Parameter", "shape": shape, "initialize": {"type": "normal", "std": 0.5}},
        {"type": "Parameter", "shape": shape, "initialize": 1},
        {"type": "Buffer", "shape": shape, "initialize": 0.5},
        {
            "type": "Buffer",
            "persistent": body.maybe(),
            "layers": {
                "n": {"type": "arange", "end": value(source.width)},
                "scaled": {"compute": "n * 0.25"},
                "shaped": {"type": "reshape", "shape": shape},
            },
        },
    )
    weight = body.name("weight")
    body.layers[weight] = made
    body.add("scale", {"compute": body.pick(f"{source.name} * {weight}", f"{source.name} + {weight}")}, source)


STEPS = (
    step_weighted,
    step_weighted,
    step_plain,
    step_norm,
    step_function,
    step_use,
    step_condition,
    step_sum,
    step_cat,
    step_list,
    step_group,
    step_siblings,
    step_chain,
    step_shrink,
    step_branches,
    step_members,
    step_weight,
    step_given,
)


def _even(width: str) -> bool:
    return (width.isdigit() and int(width) % 2 == 0) or width.endswith("* 2")


# Blocks and models


@dataclass(frozen=True)
class Drawn:
    """A block that was drawn: how it is written, and what its uses may say."""

    name: str
    text: Layers
    shrinks: bool
    options: dict[str, list[Any]]
    """Values that a use may give to its parameters, beside `width`."""


@st.composite
def blocks(draw: Any, name: str, images: bool) -> Drawn:
    """A block with parameters, defaults, `let`, conditions and optional layers; its output is `width` wide."""
    bound = draw(st.booleans())
    options: dict[str, list[Any]] = {}
    params: Layers = {"width": "int"}
    body = Body(draw, ["width", "width * 2", "4"], images)
    body.tensors.append(Tensor("x", "in_channels" if bound else UNKNOWN, images=images))
    if bound:
        body.widths.append("in_channels")
    text: Layers = {"params": params}
    if bound:
        text["inputs"] = {"x": ["N", "in_channels", "H", "W"] if images else ["N", "in_channels"]}
    if draw(st.booleans()):
        text["let"] = {"inner": draw(st.sampled_from(["$(width + 2)", "$(max(width // 2, 1))", "$(width * 3)"]))}
        body.widths.append("inner")
    if draw(st.booleans()):
        params["flag"] = draw(st.sampled_from([True, False, "bool"]))
        options["flag"] = [True, False]
        body.flags.append("flag")
        body.flags.append("width > 4")
    if draw(st.booleans()):
        params["depth"] = draw(st.sampled_from([0, 1, 2]))
        options["depth"] = [0, 1, 2]
        body.values["count"] = ["depth"]
        body.values["positive"] = ["depth + 1"]
    if draw(st.booleans()):
        params["act"] = draw(st.sampled_from(["ReLU", "layer", None]))
        options["act"] = ["Tanh", {"type": "LeakyReLU", "negative_slope": 0.125}]
        body.values["layer"] = ["act"]
    if draw(st.booleans()):
        params["norm"] = None
        options["norm"] = ["BatchNorm2d" if images else "BatchNorm1d", None]
        body.values["norm"] = ["norm"]
    strided = images and draw(st.booleans())
    if strided:
        params["stride"] = draw(st.sampled_from([1, 2]))
        options["stride"] = [1, 2]
    for step in draw(st.lists(st.sampled_from(STEPS), max_size=4)):
        step(body)
    _finish(body, bound, strided)
    text["layers"] = body.layers
    return Drawn(name, text, strided or body.halvings > 0, options)


def _finish(body: Body, bound: bool, strided: bool) -> None:
    """Bring the last tensor to `width`, with a residual connection where the input's width is known."""
    kernel: Layers = {"type": "Conv2d", "kernel_size": 3, "padding": 1} if body.images else {"type": "Linear"}
    key = "out_channels" if body.images else "out_features"
    stride: Layers = {"stride": "$stride"} if strided else {}
    before = body.last
    body.layers["main"] = {**kernel, key: "$width", **stride}
    residual = bound and before.extent == 0 and body.maybe()
    if not residual:
        body.layers["out"] = plain(body)
        return
    shortcut: Layers = {"type": "Conv2d", "kernel_size": 1} if body.images else {"type": "Linear"}
    changes = "stride != 1 or in_channels != width" if strided else "in_channels != width"
    body.layers["shortcut"] = {
        "from": "x",
        "if": f"$({changes})",
        "layers": [{**shortcut, key: "$width", **stride}, norm(body)],
    }
    body.layers["sum"] = {"compute": "main + shortcut"}
    body.layers["out"] = plain(body)


def use(body: Body, block: Drawn, width: str) -> Layers:
    """A use of a block with some of its parameters."""
    layer: Layers = {"type": block.name, "width": value(width)}
    for param, choices in block.options.items():
        needed = block.text["params"][param] in ("bool", "layer")
        if needed or body.maybe():
            layer[param] = body.pick(*choices)
    return layer


def _use_blocks(body: Body, drawn: list[Drawn]) -> None:
    """Blocks one by one, in a list, in a loop over widths, and as siblings."""
    block = body.pick(*drawn)
    width = body.pick(*body.widths)
    extent = body.last.extent + (1 if block.shrinks else 0)
    after = replace(body.last, width=width, extent=extent)
    match body.pick("one", "list", "loop", "siblings"):
        case "one":
            body.add("block", use(body, block, width), after)
        case "list":
            items = [use(body, block, body.pick(*body.widths)), plain(body), use(body, block, width)]
            body.add("blocks", items, after)
        case "loop":
            body.add("stack", [{"for": {"w": "$widths"}, **use(body, block, "w")}], replace(after, width="widths[-1]"))
        case "siblings":
            stem = body.name("stage")
            inner = {"for": {"i": "$d"}, **use(body, block, body.pick("w", "w + i"))}
            body.layers[f"{stem}_$(s + 1)"] = {"for": {"s": 2, "d": "$depths", "w": "$widths"}, "layers": [inner]}
            # The width after it depends on the last copy, so the next layer states its own.
            body.layers[f"after_{stem}"] = weighted(body, width)
            body.tensors.append(replace(after, name=f"after_{stem}"))


@st.composite
def specs(draw: Any) -> Layers:
    """A whole document: a small convolutional net or MLP over one to three blocks."""
    images = draw(st.booleans())
    drawn = [draw(blocks(name, images)) for name in ("First", "Second", "Third")[: draw(st.integers(1, 3))]]
    body = Body(draw, ["4", "6", "base", "base * 2"], images)
    body.flags = ["deep"]
    body.values = {"layer": ["act"], "widths": ["widths"], "count": ["depths[0]"], "positive": ["depths[1]"]}
    sides: list[Any] = draw(st.sampled_from([[8, 8], [6, 9], ["H", "W"]])) if images else []
    channels = draw(st.integers(1, 4))
    body.tensors.append(Tensor("x", str(channels), images=images))
    stem = body.add("stem", weighted(body, "base"), Tensor("", "base", images=images))
    if draw(st.booleans()):
        body.add("norm", norm(body), stem)
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            _use_blocks(body, drawn)
        else:
            draw(st.sampled_from((*STEPS, step_select, step_when)))(body)
    if images and draw(st.booleans()):
        body.layers["pool"] = {"type": "AdaptiveAvgPool2d", "output_size": 1}
        body.layers["flat"] = {"type": "flatten", "start_dim": 1}
        body.layers["head"] = {"type": "Linear", "out_features": "$classes"}
    inputs: Layers = {"x": ["N", channels, *sides], **({"mode": {"dtype": "str"}} if body.chosen else {})}
    model: Layers = {"inputs": inputs, "layers": body.layers}
    if body.extra or draw(st.booleans()):
        last = "head" if "head" in body.layers else body.last.name
        model["outputs"] = {"out": last, "early": stem.name, **{name: name for name in body.extra}}
    if draw(st.booleans()):
        kind = "Conv2d" if images else "Linear"
        model["initialize"] = [
            {"match": kind, "weight": draw(st.sampled_from(["kaiming_normal", "xavier_uniform", 0.5])), "bias": 0},
            {"match": stem.name, "weight": {"type": "normal", "std": "$(sqrt(2 / fan_out))"}},
        ]
    widths = draw(st.lists(st.integers(2, 6), min_size=2, max_size=2))
    return {
        "netspec": 1,
        "name": "random_net",
        "params": {
            "base": draw(st.sampled_from([4, 6])),
            "widths": widths,
            "depths": draw(st.sampled_from([[1, 2], [2, 1], [1, 1]])),
            "deep": draw(st.booleans()),
            "act": draw(st.sampled_from(["ReLU", {"type": "LeakyReLU", "negative_slope": 0.25}])),
            "classes": 3,
        },
        "blocks": {block.name: block.text for block in drawn},
        "model": model,
    }
