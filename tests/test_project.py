"""What holds for the project as a whole: imports, torch-free halves, pins, documentation."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "netspec"
SPECS = sorted((ROOT / "specs").rglob("*.yaml"))

STAIRCASE = (
    ("diagnostics", "suggest", "pages", "failures"),
    ("text", "folders"),
    ("document",),
    ("excerpt", "render"),
    ("expressions",),
    ("origins",),
    ("shapes", "broadcast"),
    ("catalog",),
    ("reference", "arithmetic"),
    ("spec", "models"),
    ("probing",),
    ("plugin",),
    ("compose", "files", "bases", "sections", "overrides", "history", "paths"),
    ("schema",),
    ("idle",),
    ("program",),
    ("recipe",),
    (
        "elaborate",
        "absent",
        "batch_order",
        "block_calls",
        "call_parts",
        "calls",
        "choices",
        "each",
        "frame",
        "initialization",
        "initialization_check",
        "inlining",
        "instances",
        "joins",
        "loops",
        "loss_calls",
        "members",
        "mistakes",
        "model_calls",
        "module_arguments",
        "objective",
        "order",
        "patterns",
        "references",
        "several",
        "softmax_axis",
        "ties",
        "unused",
        "values",
    ),
    ("graph", "graph_layout", "graph_draw", "graph_page", "table", "costs"),
    ("compiler", "variants"),
    ("codegen",),
    ("building",),
    ("runtime",),
    ("cli", "__main__"),
)
"""A module may import those of its own step and of the steps above; packages count as one."""

UPWARD = {
    # The conveniences of a Program hand over to what is built on it, when they are called.
    ("program", "runtime"),
    ("program", "codegen"),
    ("program", "graph"),
    ("program", "table"),
    # What has no shape rule is run to find its shapes, and only `runtime` imports torch.
    ("plugin", "runtime"),
    ("model_calls", "runtime"),
    # What to write in place of a call that expressions don't have is asked when the mistake is told.
    ("expressions", "catalog"),
}
"""Imports inside functions that point the other way, each with its reason."""


def step_of(module: str) -> int | None:
    """The step of a module such as `netspec.runtime.loop`; None for what is not netspec's, and for `netspec` itself."""
    parts = module.split(".")
    if parts[0] != "netspec" or len(parts) == 1 or parts[1] == "__version__":
        return None
    steps = [number for number, names in enumerate(STAIRCASE) if parts[1] in names]
    assert len(steps) == 1, f"netspec.{parts[1]} needs a place on the staircase in {Path(__file__).name}"
    return steps[0]


def imports(tree: ast.Module) -> list[tuple[str, int, bool]]:
    """What a module imports: the name, the line, and whether it stands inside a function; not what is for types."""
    found: list[tuple[str, int, bool]] = []

    def visit(node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.orelse:
                visit(child, inside)
            return
        if isinstance(node, ast.Import):
            found.extend((alias.name, node.lineno, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            name = node.module or ""
            # `from netspec import render` imports netspec.render.
            found.extend((f"netspec.{a.name}" if name == "netspec" else name, node.lineno, inside) for a in node.names)
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(tree, False)
    return found


def modules() -> dict[str, Path]:
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def wrong_directions(module: str, source: str) -> list[str]:
    here = step_of(module)
    problems = []
    for name, line, inside in imports(ast.parse(source)):
        there = step_of(name)
        if here is None or there is None or there <= here:
            continue
        pair = (module.split(".")[1], name.split(".")[1])
        if not (inside and pair in UPWARD):
            problems.append(f"{module}, line {line}: imports {name}, which stands further down the staircase")
    return problems


def test_imports_point_one_way() -> None:
    problems = [p for module, file in modules().items() for p in wrong_directions(module, file.read_text("utf-8"))]
    assert not problems, "\n".join(problems)


def test_an_import_against_the_staircase_is_found() -> None:
    assert wrong_directions("netspec.shapes", "from netspec.catalog import lookup\n")
    assert wrong_directions("netspec.program", "from netspec.runtime.modules import build\n")
    assert not wrong_directions("netspec.program", "def f():\n    from netspec.runtime.modules import build\n")
    assert not wrong_directions("netspec.shapes", "if TYPE_CHECKING:\n    from netspec.catalog import Entry\n")


def test_every_exception_is_still_needed() -> None:
    used = set()
    for module, file in modules().items():
        for name, _, inside in imports(ast.parse(file.read_text("utf-8"))):
            if inside and step_of(module) is not None and step_of(name) is not None:
                used.add((module.split(".")[1], name.split(".")[1]))
    assert used >= UPWARD, f"no longer used: {UPWARD - used}"


TORCH_FREE = """
import importlib, sys
for name in {modules!r}:
    importlib.import_module(name)
from netspec.compiler import compile
program = compile({spec!r})
program.source("specs/digits.yaml")
program.graph
heavy = sorted({{"torch", "torchvision", "sklearn", "pandas", "matplotlib"}} & set(sys.modules))
sys.exit(f"imported: {{heavy}}" if heavy else 0)
"""


def torch_free(names: list[str], path: Path | None = None) -> subprocess.CompletedProcess[str]:
    script = TORCH_FREE.format(modules=names, spec=str(ROOT / "specs" / "digits.yaml"))
    return subprocess.run(
        [sys.executable, "-c", script], cwd=path or ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_front_half_is_free_of_torch() -> None:
    names = [name for name in modules() if not name.startswith(("netspec.runtime.", "netspec.__main__"))]
    done = torch_free(names)
    assert done.returncode == 0, done.stderr


def test_a_module_that_imports_torch_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "heavy.py").write_text("import torch\n", encoding="utf-8")
    done = torch_free(["heavy"], tmp_path)
    assert done.returncode == 1
    assert "imported: ['torch'" in done.stderr


def test_importing_netspec_imports_nothing_heavy() -> None:
    script = (
        "import sys, netspec; "
        "sys.exit(str({'torch', 'networkx', 'jsonschema', 'jinja2', 'rich', 'numpy'} & set(sys.modules) or 0))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.strip() in ("", "0"), done.stderr


def test_files_keep_to_one_subject() -> None:
    long = {
        str(f.relative_to(ROOT)): n for f in modules().values() if (n := len(f.read_text("utf-8").splitlines())) > 500
    }
    assert not long, f"more than 500 lines: {long}"


def test_pins_are_names_and_versions() -> None:
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    wrong = [line for line in lines if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?==[\w.]+", line)]
    assert not wrong
    assert len({line.split("==")[0] for line in lines}) == len(lines)


def test_every_dependency_that_is_installed_here_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *project["optional-dependencies"]["data"],
        *project["optional-dependencies"]["sweep"],
        *project["optional-dependencies"]["dev"],
    ]
    names = {re.split(r"[<>=\[; ]", text)[0].lower().replace("_", "-") for text in wanted}
    pinned = {line.split("==")[0] for line in (ROOT / "requirements.lock").read_text("utf-8").split()}
    assert names <= pinned, f"not pinned: {names - pinned}"


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_file_names_a_path_of_a_machine() -> None:
    found = []
    for file in tracked():
        if file.suffix in (".png", ".npz", ".gz", ".pt"):
            continue
        for number, line in enumerate(file.read_text("utf-8", errors="replace").splitlines(), 1):
            if re.search(r"(?<![\w.])/(work|root|home|Users)/\w", line):
                found.append(f"{file.relative_to(ROOT)}:{number}")
    assert not found


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.relative_to(ROOT / "specs").as_posix())
def test_specs_open_with_the_modeline_of_the_schema(spec: Path) -> None:
    first = spec.read_text("utf-8").splitlines()[0]
    found = re.fullmatch(r"# yaml-language-server: \$schema=(.*)", first)
    assert found, first
    assert (spec.parent / found[1]).resolve() == PACKAGE / "schema" / "netspec.schema.json"


def test_every_verb_and_option_is_in_the_guide() -> None:
    import argparse

    from netspec.cli.dispatch import make_parser

    guide = (ROOT / "docs" / "guide.md").read_text("utf-8")
    (verbs,) = (a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction))
    missing = [f"netspec {name}" for name in verbs.choices if f"netspec {name}" not in guide]
    for name, parser in verbs.choices.items():
        options = [
            o for action in parser._actions for o in action.option_strings if o.startswith("--") and o != "--help"
        ]
        missing += [
            f"netspec {name} {option}" for option in options if f"`{option}" not in guide and option not in guide
        ]
    assert not missing


def test_public_names_are_documented() -> None:
    import netspec

    undocumented = [name for name in netspec.__all__ if not (getattr(netspec, name).__doc__ or "").strip()]
    assert not undocumented


def test_modules_say_why_they_exist() -> None:
    texts = {name: file.read_text("utf-8") for name, file in modules().items()}
    assert not [name for name, text in texts.items() if text and not ast.get_docstring(ast.parse(text))]


def test_the_wheel_holds_all_that_the_package_reads(tmp_path: Path) -> None:
    from zipfile import ZipFile

    from hatchling.builders.wheel import WheelBuilder

    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    packed = set(ZipFile(wheel).namelist())
    read = {
        f.relative_to(ROOT).as_posix()
        for f in PACKAGE.rglob("*")
        if f.suffix in (".py", ".md", ".json", ".yaml", ".j2")
    }
    assert read | {"netspec/py.typed"} <= packed
    assert not [name for name in packed if name.startswith(("tests", "specs", "generated", "docs"))]
