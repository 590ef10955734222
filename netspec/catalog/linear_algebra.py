"""Products of matrices and vectors, and what is computed of a matrix."""

from __future__ import annotations

import re
from typing import Any

from netspec.broadcast import broadcast
from netspec.catalog.entry import Argument, Entry, Inferred, Port, Rule
from netspec.catalog.merge import matrix_product, tensors_of
from netspec.catalog.pointwise import TWO
from netspec.catalog.rules import (
    FLOATING,
    NUMBERS,
    Arguments,
    Inputs,
    accepting,
    broadcasted,
    dimension,
    numel,
    one,
    promoted,
    refuse,
    rule,
    tensor,
)
from netspec.shapes import Dim, ListType, Problem, Size, TensorType

_EXACT = ("float32", "float64")


def _ranked(name: str, x: TensorType, rank: int, port: str) -> None:
    if len(x.shape) != rank:
        wanted = {1: "vectors [n]", 2: "matrices [rows, columns]", 3: "stacks of matrices [N, rows, columns]"}[rank]
        refuse(f"{name} takes {wanted}, and got {x}", ports=(port,))


def _product(name: str, ranks: tuple[int, int], other: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        a, b = tensor(inputs, name), tensor(inputs, name, other)
        for port, x, rank in (("input", a, ranks[0]), (other, b, ranks[1])):
            _ranked(name, x, rank, port)
        return Inferred(outputs={"output": matrix_product(name, a, b, ("input", other))})

    return infer


@rule
def _inner(arguments: Arguments, inputs: Inputs) -> Inferred:
    a, b = tensor(inputs, "inner"), tensor(inputs, "inner", "other")
    if a.dtype != b.dtype:
        refuse(
            f"inner takes two tensors of one dtype, and got {a.dtype} and {b.dtype}",
            ports=("input", "other"),
            code="NS402" if a.shape and b.shape else "NS406",
        )
    if not a.shape or not b.shape:
        return one(a.shape or b.shape, promoted(a, b))
    accepting("inner", a, NUMBERS)
    if a.shape[-1] != b.shape[-1]:
        refuse(
            f"inner multiplies last dimensions of one size, and got {a} and {b}", ports=("input", "other"), code="NS403"
        )
    return one((*a.shape[:-1], *b.shape[:-1]), a.dtype)


@rule
def _outer(arguments: Arguments, inputs: Inputs) -> Inferred:
    a, b = tensor(inputs, "outer"), tensor(inputs, "outer", "vec2")
    _ranked("outer", a, 1, "input")
    _ranked("outer", b, 1, "vec2")
    return one((a.shape[0], b.shape[0]), promoted(a, b))


@rule
def _addmm(arguments: Arguments, inputs: Inputs) -> Inferred:
    x, a, b = (tensor(inputs, "addmm", port) for port in ("input", "mat1", "mat2"))
    for port, matrix in (("mat1", a), ("mat2", b)):
        _ranked("addmm", matrix, 2, port)
    product = matrix_product("addmm", a, b, ("mat1", "mat2"))
    if x.dtype != a.dtype:
        refuse(f"addmm takes tensors of one dtype, and got {x.dtype} and {a.dtype}", code="NS402")
    for factor in ("beta", "alpha"):
        if a.dtype not in FLOATING and isinstance(arguments[factor], float):
            refuse(f"addmm of {a.dtype} takes a whole {factor}", argument=factor, code="NS406")
    wide = broadcast(x.shape, product.shape)
    if isinstance(wide, Problem) or wide != product.shape:
        refuse(f"addmm adds {x} to a product of shape {product}, and it does not fit", code="NS403")
    return one(product.shape, product.dtype)


@rule
def _cross(arguments: Arguments, inputs: Inputs) -> Inferred:
    a, b = tensor(inputs, "cross"), tensor(inputs, "cross", "other")
    if a.dtype != b.dtype:
        given = f"{a.dtype} and {b.dtype}"
        refuse(f"cross takes two tensors of one dtype, and got {given}", ports=("input", "other"), code="NS402")
    accepting("cross", a, NUMBERS)
    if len(a.shape) != len(b.shape) or not a.shape:
        refuse(f"cross takes two tensors of one rank, and got {a} and {b}", ports=("input", "other"))
    axis = dimension("cross", arguments["dim"], len(a.shape))
    for port, x in (("input", a), ("other", b)):
        if x.shape[axis] != 3:
            refuse(f"cross takes vectors of 3 numbers, and got {x}", ports=(port,), argument="dim")
    return one(broadcasted("cross", a, b, ("input", "other")), a.dtype)


@rule
def _cdist(arguments: Arguments, inputs: Inputs) -> Inferred:
    a, b = tensor(inputs, "cdist", "x1"), tensor(inputs, "cdist", "x2")
    ports = ("x1", "x2")
    for port, x in zip(ports, (a, b), strict=True):
        if x.dtype in ("float16", "bfloat16"):
            refuse(f"cdist takes float32 or float64, and got {x.dtype}", ports=(port,), code="NS406")
        accepting("cdist", x, _EXACT, port)
        if len(x.shape) < 2:
            refuse(f"cdist takes vectors [..., n, features], and got {x}", ports=(port,))
    if a.dtype != b.dtype:
        refuse(f"cdist takes tensors of one dtype, and got {a.dtype} and {b.dtype}", ports=ports, code="NS402")
    if a.shape[-1] != b.shape[-1]:
        refuse(f"cdist takes vectors of one size, and got {a} and {b}", ports=ports, code="NS403")
    if arguments["p"] < 0:
        refuse("cdist takes p from 0", argument="p", code="NS404")
    batch = broadcasted("cdist", TensorType(a.shape[:-2]), TensorType(b.shape[:-2]), ports)
    return one((*batch, a.shape[-2], b.shape[-2]), a.dtype)


@rule
def _kron(arguments: Arguments, inputs: Inputs) -> Inferred:
    a, b = tensor(inputs, "kron"), tensor(inputs, "kron", "other")
    rank = max(len(a.shape), len(b.shape))
    left, right = ((1,) * (rank - len(x.shape)) + x.shape for x in (a, b))
    dtype = promoted(TensorType(left, a.dtype), TensorType(right, b.dtype))
    return one((m * n for m, n in zip(left, right, strict=True)), dtype)


# einsum

_TERM = re.compile(r"[A-Za-z]*(?:\.\.\.)?[A-Za-z]*")


def _terms(equation: str) -> tuple[list[str], str | None]:
    """The letters of each tensor and those of the result, None where they are left out."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    for term in (*terms, right):
        if not _TERM.fullmatch(term):
            refuse(
                f'einsum: "{term}" in "{equation}" is no list of letters',
                help='letters for dimensions, "..." for any others: "...ij,...jk->...ik"',
                ports=(),
                argument="equation",
                code="NS404",
            )
    return terms, right if arrow else None


def _labels(term: str, x: TensorType, equation: str, place: int) -> list[str | int]:
    """A letter for each dimension, and -1, -2 … for those under the dots."""
    letters, dots, after = term.partition("...")
    extra = len(x.shape) - len(letters) - len(after)
    if extra < 0 or (extra and not dots):
        refuse(
            f'einsum: "{term}" names {len(letters) + len(after)} dimensions, and input {place} is {x}',
            ports=("operands",),
            argument="equation",
            code="NS403",
        )
    return [*letters, *range(-extra, 0), *after]


def _sizes(
    terms: list[str], parts: tuple[TensorType, ...], equation: str
) -> tuple[dict[str | int, Size], list[list[str | int]]]:
    sizes: dict[str | int, Size] = {}
    labelled = []
    for place, (term, x) in enumerate(zip(terms, parts, strict=True)):
        labels = _labels(term, x, equation, place)
        labelled.append(labels)
        for label, size in zip(labels, x.shape, strict=True):
            known = sizes.get(label, 1)
            repeated = labels.count(label) > 1
            if known == size or (known == 1 and not isinstance(known, Dim) and not repeated) or label not in sizes:
                sizes[label] = size
            elif not (size == 1 and not repeated):
                what = f'"{label}"' if isinstance(label, str) else f"dimension {label} of the dots"
                refuse(
                    f"einsum: {what} is {known} and {size}",
                    help="a letter has one size in all tensors",
                    ports=("operands",),
                    argument="equation",
                    code="NS403",
                )
    return sizes, labelled


@rule
def _einsum(arguments: Arguments, inputs: Inputs) -> Inferred:
    parts = tensors_of("einsum", {"tensors": inputs["operands"]})
    equation = arguments["equation"]
    terms, result = _terms(equation)
    if len(terms) != len(parts):
        refuse(
            f'einsum: "{equation}" names {len(terms)} tensors, and gets {len(parts)}',
            ports=("operands",),
            argument="equation",
            code="NS404",
        )
    sizes, labelled = _sizes(terms, parts, equation)
    dots = sorted(label for label in sizes if isinstance(label, int))
    if result is None:
        flat = [label for labels in labelled for label in labels if isinstance(label, str)]
        once = sorted(label for label in set(flat) if flat.count(label) == 1)
        kept: list[str | int] = [*dots, *once]
    else:
        before, shown, after = result.partition("...")
        for letter in (*before, *after):
            if letter not in sizes or (before + after).count(letter) > 1:
                refuse(
                    f'einsum: "{letter}" of the result stands in no tensor, or twice in the result',
                    ports=(),
                    argument="equation",
                    code="NS404",
                )
        if dots and not shown:
            refuse(
                'einsum: the result has no "...", and dimensions stand under the dots of a tensor',
                help='write "..." in the result, or letters for these dimensions',
                ports=(),
                argument="equation",
                code="NS406",
            )
        kept = [*before, *dots, *after]
    return one((sizes[label] for label in kept), _einsum_dtype(parts))


def _einsum_dtype(parts: tuple[TensorType, ...]) -> str:
    dtypes = sorted({x.dtype for x in parts})
    if len(dtypes) > 1 or dtypes[0] not in FLOATING:
        # Whether torch takes others, and what it gives, depends on how it shares the equation out.
        shown = " and ".join(dtypes)
        refuse(f"einsum takes floating point of one dtype, and got {shown}", ports=("operands",), code="NS406")
    return dtypes[0]


def _einsum_flops(arguments: Arguments, inputs: Inputs, answer: Inferred) -> Size:
    """Tensors are taken in two by two from the left (aten's sumproduct_pair). What only one of the two has and nothing
    else asks for is summed beforehand; a pair that sums over a letter of both is a product of matrices, others count
    nothing.
    """
    parts = tensors_of("einsum", {"tensors": inputs["operands"]})
    terms, result = _terms(arguments["equation"])
    sizes, labelled = _sizes(terms, parts, arguments["equation"])
    flat = [label for labels in labelled for label in labels]
    if result is None:
        asked = {label for label in flat if isinstance(label, int) or flat.count(label) == 1}
    else:
        asked = {label for label in sizes if isinstance(label, int) or label in result}
    held, *others = [
        {label: size for label, size in zip(labels, part.shape, strict=True)}
        for labels, part in zip(labelled, parts, strict=True)
    ]
    flops: Size = 0
    for place, other in enumerate(others):
        later = asked.union(*others[place + 1 :])
        shared = [label for label in held if label in other and label not in later]
        both = [label for label in shared if 1 not in (held[label], other[label])]
        apart = {label for label in held.keys() ^ other.keys() if label not in later} | {*shared} - {*both}
        merged = {label: sizes[label] for label in held.keys() | other.keys() if label not in apart}
        if both:
            flops = flops + 2 * numel(tuple(merged.values()))
        held = {label: size for label, size in merged.items() if label not in both}
    return flops


# Of one matrix


def _square(name: str, x: TensorType) -> None:
    accepting(name, x, _EXACT)
    if len(x.shape) < 2:
        refuse(f"{name} takes matrices [..., n, n], and got {x}")
    if x.shape[-1] != x.shape[-2]:
        refuse(f"{name} takes square matrices, and got {x}", code="NS403")


def _of_square(name: str, gives_matrix: bool) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        _square(name, x)
        return one(x.shape if gives_matrix else x.shape[:-2], x.dtype)

    return infer


@rule
def _trace(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "trace")
    _ranked("trace", x, 2, "input")
    accepting("trace", x, NUMBERS)
    return one((), x.dtype if x.dtype in FLOATING else "int64")


def _product_flops(arguments: Arguments, inputs: Inputs, answer: Inferred) -> Size:
    output = answer.outputs["output"]
    assert not isinstance(output, ListType)
    left = inputs["mat1"] if "mat1" in inputs else inputs["input"]
    flops: Size = 2 * numel(output.shape) * left.shape[-1]
    return flops


def _inner_flops(arguments: Arguments, inputs: Inputs, answer: Inferred) -> Size:
    """A product of matrices, unless a single number comes out or goes in."""
    output = answer.outputs["output"]
    assert not isinstance(output, ListType)
    single = not inputs["input"].shape or not inputs["other"].shape or numel(output.shape) == 1
    return 0 if single else _product_flops(arguments, inputs, answer)


def _function(
    name: str,
    rule: Rule,
    doc: str,
    inputs: tuple[Port, ...] = TWO,
    arguments: tuple[Argument, ...] = (),
    home: str = "torch",
    **more: Any,
) -> Entry:
    return Entry(
        name=name,
        category="function",
        target=f"{home}.{name}",
        arguments=arguments,
        inputs=inputs,
        rule=rule,
        role="merge" if len(inputs) > 1 else "",
        doc=doc,
        **more,
    )


def _ports(*names: str) -> tuple[Port, ...]:
    return tuple(Port(name=name) for name in names)


def _factor(name: str, doc: str) -> Argument:
    return Argument(name=name, kind="float", default=1, doc=doc)


_ONE = _ports("input")

ENTRIES: tuple[Entry, ...] = (
    _function(
        "einsum",
        _einsum,
        "Sums products of tensors as an equation of letters says.",
        (Port(name="operands", variadic=True, spread=True),),
        (
            Argument(
                name="equation",
                kind="str",
                leads=True,
                doc='letters for the dimensions of each tensor and of the result: "bqd,bkd->bqk"',
            ),
        ),
        flops=_einsum_flops,
    ),
    _function(
        "mm", _product("mm", (2, 2), "mat2"), "Product of two matrices.", _ports("input", "mat2"), flops=_product_flops
    ),
    _function("mv", _product("mv", (2, 1), "vec"), "Product of a matrix and a vector.", _ports("input", "vec")),
    _function("dot", _product("dot", (1, 1), "tensor"), "Product of two vectors.", _ports("input", "tensor")),
    _function("inner", _inner, "Products of the vectors in the last dimensions.", TWO, flops=_inner_flops),
    _function("outer", _outer, "Every product of a value of one vector and one of another.", _ports("input", "vec2")),
    _function(
        "addmm",
        _addmm,
        "Adds a product of two matrices.",
        _ports("input", "mat1", "mat2"),
        (_factor("beta", "factor on the input"), _factor("alpha", "factor on the product")),
        flops=_product_flops,
    ),
    _function(
        "cross",
        _cross,
        "Vector product of vectors of 3 numbers.",
        TWO,
        (Argument(name="dim", kind="int", default=-1, doc="the dimension that holds the vectors"),),
        "torch.linalg",
    ),
    _function(
        "cdist",
        _cdist,
        "Distances of every vector of one tensor from every one of another.",
        _ports("x1", "x2"),
        (
            Argument(name="p", kind="float", default=2.0, doc="the power of the norm"),
            Argument(
                name="compute_mode",
                kind="choice",
                default="use_mm_for_euclid_dist_if_necessary",
                choices=(
                    "use_mm_for_euclid_dist_if_necessary",
                    "use_mm_for_euclid_dist",
                    "donot_use_mm_for_euclid_dist",
                ),
                doc="whether a product of matrices is used for p 2",
            ),
        ),
    ),
    _function("kron", _kron, "Every product of a value of one tensor and one of another, as blocks.", TWO),
    _function("inverse", _of_square("inverse", True), "Inverse of matrices.", _ONE),
    _function("det", _of_square("det", False), "Determinant of matrices.", _ONE),
    _function("logdet", _of_square("logdet", False), "Logarithm of the determinant of matrices.", _ONE),
    _function("trace", _trace, "Sum over the diagonal of a matrix.", _ONE),
)
