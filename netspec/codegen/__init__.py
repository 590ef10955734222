"""The second door: a `Program` as Python source that stands on its own.

`emit` gives the whole file. It is the same for every hash seed, working directory and machine: no timestamps, no paths
but the spec's own, no sets that are walked unsorted.
"""

from __future__ import annotations

import re
import textwrap
from functools import cache
from typing import TYPE_CHECKING

from netspec.codegen.classes import Classes, Written
from netspec.codegen.literals import docstring
from netspec.codegen.printer import WIDTH, wrap
from netspec.codegen.source_map import Code, Mark, Piece, Place, SourceMap, marked, source_map, spread

if TYPE_CHECKING:
    import jinja2

    from netspec.program import Program

MAKE_DIVISIBLE = '''def make_divisible(value: float, divisor: int) -> int:
    """The nearest multiple of `divisor`, at least `divisor` and not below 90 % of `value`."""
    nearest = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * value else nearest'''


def emit(program: Program, name: str | None = None) -> str:
    """The model as Python source. `name` is the spec's path for the first line; default: the path as it was given."""
    return _emit(program, name)[0]


def emit_with_map(program: Program, name: str | None = None) -> tuple[str, SourceMap]:
    """The same source, and the map from its lines to the spec's."""
    source, sections = _emit(program, name)
    lines: list[str] = source.split("\n")[:-1]
    end = len(lines)
    for section in reversed(sections):
        lines[end - len(section) : end] = section
        end -= len(section) + 2
    return source, source_map(program, lines)


def _emit(program: Program, name: str | None) -> tuple[str, list[list[str]]]:
    """The source, and the lines of its sections, which stand at its end with two blank lines before each."""
    classes = Classes(program)
    classes.write()
    sections = [MAKE_DIVISIBLE.split("\n")] if "make_divisible" in classes.requirements else []
    for written in classes.written:
        if written.output_type:
            sections.append(_output(written))
        sections.append(_class(written, program))
    source = _template().render(
        origin=_one_line(name or program.file),
        digest=program.digest,
        doc="\n".join(_docstring(_module_doc(program), 0)),
        imports=_imports(classes),
        sections=["\n".join(section) for section in sections],
    )
    return source, sections


def model_class(program: Program) -> str:
    """The name of the model's class in the emitted source."""
    classes = Classes(program)
    classes.write()
    return classes.of(program.model).name


def model_classes(program: Program) -> dict[str, str]:
    """The names of the classes of several models in the emitted source, by model."""
    classes = Classes(program)
    classes.write()
    return {name: classes.of(part.model).name for name, part in program.parts.items()}


@cache
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("netspec.codegen"), keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("module.py.jinja")


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def _module_doc(program: Program) -> str:
    return (
        docstring(program.description)
        or f"The model{'s' if program.several else ''} of the spec {docstring(program.name)}."
    )


def _imports(classes: Classes) -> list[str]:
    """The import lines, grouped and sorted as ruff sorts them."""
    wanted = classes.imports
    standard = []
    if "math" in classes.requirements:
        standard.append("import math")
    if "OrderedDict" in wanted:
        standard.append("from collections import OrderedDict")
    abstract = sorted(wanted & {"Callable", "Sequence"})
    if abstract:
        standard.append(f"from collections.abc import {', '.join(abstract)}")
    if "fnmatchcase" in wanted:
        standard.append("from fnmatch import fnmatchcase")
    if "partial" in wanted:
        standard.append("from functools import partial")
    typing = sorted((wanted & {"NamedTuple"}) | ({"Self"} if any(w.frozen_paths for w in classes.written) else set()))
    if typing:
        standard.append(f"from typing import {', '.join(typing)}")
    libraries = sorted(line for line in wanted if line.startswith("import ") and line != "import torch")
    torch_lines = ["import torch"] if "import torch" in wanted else []
    if "F" in wanted:
        torch_lines.append("import torch.nn.functional as F")
    names = ["nn"] if all(written.base == "nn.Sequential" for written in classes.written) else ["Tensor", "nn"]
    named: dict[str, list[str]] = {"torch": names}
    for dotted in sorted(classes.written_names):
        module, _, name = dotted.rpartition(".")
        named.setdefault(module, []).append(name)
    others = [
        f"from {module} import {', '.join(sorted(names, key=_as_isort))}" for module, names in sorted(named.items())
    ]
    third = sorted([*torch_lines, *libraries]) + others
    return [*standard, "", *third] if standard else third


def _as_isort(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, as ruff puts imported names."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2, name)


def _output(written: Written) -> list[str]:
    stated = written.block.outputs or {}
    marks = [Mark(name, value.span) for name, value in stated.items() if name]
    fields = zip(written.fields, marks, strict=True)
    return [f"class {written.output_type}(NamedTuple):", *(marked(f"    {field}", mark) for field, mark in fields)]


def _class(written: Written, program: Program) -> list[str]:
    mark = Mark(written.block.name, written.block.span)
    lines = [marked(f"class {written.name}({written.base}):", mark)]
    doc = _class_doc(written, program)
    if doc:
        lines += [*doc, ""]
    lines += _signature(written)
    for level, statement in written.init:
        lines += spread(statement, wrap(statement, 8 + 4 * level))
    if written.frozen_paths:
        lines += ["", "    def train(self, mode: bool = True) -> Self:", "        super().train(mode)"]
        lines += [f"        {path}.eval()" for path in written.frozen_paths]
        lines += ["        return self"]
    if written.forward:
        lines.append("")
        inputs = ", ".join(f"{name}: {hint}" for name, hint in written.inputs)
        header = marked(f"def forward(self, {inputs}) -> {written.returns}:", mark)
        lines += spread(header, _def(header))
        for statement in written.forward:
            code, sign, comment = statement.partition("  # [")
            level = len(code) - len(code.lstrip())
            wrapped = wrap(code[level:], 8 + level)
            if sign and len(wrapped) == 1 and len(wrapped[0]) + len(sign) + len(comment) <= WIDTH:
                wrapped[0] += sign + comment
            lines += spread(statement, wrapped)
    return [line if isinstance(line, Code) or not line else marked(line, mark) for line in lines]


def _class_doc(written: Written, program: Program) -> list[str]:
    model = next((p for p in program.parts.values() or [program] if p.model.block is written.block), None)
    if model is not None:
        given = ", ".join(f"`{name}` {type_}" for name, type_ in model.inputs.items())
        gives = ", ".join(
            f"{type_}" if len(model.outputs) == 1 else f"`{name}` {type_}" for name, type_ in model.outputs.items()
        )
        return _docstring(f"Takes {docstring(given)}, gives {docstring(gives)}.", 4)
    return _docstring(docstring(written.block.description), 4)


def _docstring(text: str, indent: int) -> list[str]:
    """A docstring's lines; text that ends in a quote or a backslash gets a space, so that it cannot run into the
    end.
    """
    if not text:
        return []
    pad = " " * indent
    text += " " if text[-1] in '"\\' else ""
    if len(text) + indent + 6 <= WIDTH:
        return [f'{pad}"""{text}"""']
    whole = re.sub(r"\[[^][]*\]", lambda shape: shape.group().replace(" ", "\0"), text)  # a shape stays on one line
    lines = textwrap.wrap(whole, WIDTH - indent - 3, break_long_words=False, break_on_hyphens=False)
    lines = [line.replace("\0", " ") for line in lines]
    if len(lines) == 1:  # it fits but for its closing quotes, which ruff would put back
        lines = textwrap.wrap(text, len(text) - 1, break_long_words=False, break_on_hyphens=False)
    if len(lines) == 1:
        return [f'{pad}"""{text}"""']
    return [f'{pad}"""{lines[0]}', *(f"{pad}{line}" for line in lines[1:]), f'{pad}"""']


def _signature(written: Written) -> list[str]:
    arguments = [
        f"{a.name}: {a.hint}" + (f" = {a.default}" if a.default is not None else "") for a in written.arguments
    ]
    params = written.block.params
    pieces = [
        Piece(text, Mark(a.name, params[a.name].span))
        for a, text in zip(written.arguments, arguments, strict=True)
        if a.name in params
    ]
    mark = Mark(written.block.name, written.block.span)
    header = marked(f"def __init__({', '.join(['self', *arguments])}) -> None:", mark, pieces)
    return spread(header, _def(header))


def _def(header: str) -> list[str]:
    if len(header) + 4 <= WIDTH:
        return [f"    {header}"]
    return wrap(header, 4)


def generated_from(source: str) -> tuple[str, str] | None:
    """The spec's path and digest that an emitted file names in its first two lines, or None for another file."""
    lines = source.split("\n", 2)
    head, tail = "# Code generated by netspec from ", ". DO NOT EDIT."
    if len(lines) < 2 or not (lines[0].startswith(head) and lines[0].endswith(tail)):
        return None
    return lines[0][len(head) : -len(tail)], lines[1].rpartition(" ")[2]


__all__ = ["Place", "SourceMap", "emit", "emit_with_map", "generated_from", "model_class", "model_classes"]
