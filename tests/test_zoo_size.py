"""The generated files of the ImageNet zoo are hardly longer than torchvision's own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from torchvision import models

GENERATED = Path(__file__).resolve().parent.parent / "generated" / "imagenet"
TORCHVISION = Path(models.__file__).parent
LONGEST = 1.3
"""Lines of a generated file for each of torchvision's, for the whole family of the network."""

FAMILIES = ("alexnet", "convnext", "densenet", "efficientnet", "googlenet", "inception", "maxvit", "mnasnet",
            "mobilenetv2", "mobilenetv3", "regnet", "resnet", "shufflenetv2", "squeezenet", "swin_transformer", "vgg",
            "vision_transformer")  # fmt: skip


def family(name: str) -> Path:
    """torchvision's file for a network: `regnet_y_400mf` is in regnet.py, `vit_b_16` in vision_transformer.py."""
    known = {"vit": "vision_transformer", "swin": "swin_transformer"}
    plain = name.replace("_", "").removeprefix("wide").replace("resnext", "resnet")
    file = next((word for short, word in known.items() if name.startswith(short)), "")
    file = file or next(f for f in FAMILIES if plain.startswith(f.replace("_", "")))
    return TORCHVISION / f"{file}.py"


def is_model(node: ast.stmt) -> bool:
    """Whether a statement of torchvision's file says what the model is: no weights, and no function that loads them."""
    if isinstance(node, ast.ClassDef):
        return not any(isinstance(base, ast.Name) and base.id == "WeightsEnum" for base in node.bases)
    if isinstance(node, ast.FunctionDef):
        arguments = {argument.arg for argument in [*node.args.args, *node.args.kwonlyargs]}
        return not any("register_model" in ast.unparse(d) for d in node.decorator_list) and "progress" not in arguments
    if isinstance(node, ast.Assign | ast.AnnAssign):
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
        return not (isinstance(target, ast.Name) and target.id.startswith(("_COMMON", "__all__")))
    return True


def lines_of(file: Path, *, builders: bool) -> int:
    """Lines of code: no docstrings, comments or blank lines; without `builders` also no weights and builders."""
    source = file.read_text("utf-8")
    tree = ast.parse(source)
    dropped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            dropped.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    for statement in tree.body:
        if not builders and not is_model(statement):
            first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
            dropped.update(range(first, (statement.end_lineno or 0) + 1))
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#")
        for number, line in enumerate(source.splitlines(), 1)
        if number not in dropped
    )


@pytest.mark.parametrize("file", sorted(GENERATED.glob("*.py")), ids=lambda f: f.stem)
def test_a_generated_file_is_no_longer_than_one_by_hand(file: Path) -> None:
    theirs = family(file.stem)
    ours, bar = lines_of(file, builders=True), lines_of(theirs, builders=False)
    assert ours <= LONGEST * bar, f"{file.stem}: {ours} lines, {theirs.name}: {bar}, ratio {ours / bar:.2f}"


if __name__ == "__main__":
    for file in sorted(GENERATED.glob("*.py")):
        ours, bar = lines_of(file, builders=True), lines_of(family(file.stem), builders=False)
        print(f"{file.stem:24} {family(file.stem).name:24} {ours:4} / {bar:4} = {ours / bar:.2f}")
