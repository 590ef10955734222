"""Where the modules of specs go, and back: which spec a generated file came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from netspec.folders import RESOLVED, is_run


def spec_files(name: str | Path) -> list[Path]:
    """The file itself, or the YAML files below a folder in the order of their paths, without those of runs.

    Of a run itself it is the spec that it keeps.
    """
    path = Path(name)
    if not path.is_dir():
        return [path]
    if is_run(path):
        return [path / RESOLVED]
    found = sorted(file for file in path.rglob("*") if file.suffix in (".yaml", ".yml") and file.is_file())
    runs = {file.parent for file in found if is_run(file.parent)}
    return [file for file in found if not runs & {file.parent, *file.parents}]


def root_of(path: Path) -> Path | None:
    """The nearest folder called `specs` around a path; else the folder itself, and none for a file."""
    path = path.resolve()
    around = [path, *path.parents]
    return next((folder for folder in around if folder.name == "specs"), path if path.is_dir() else None)


def named(name: str | Path) -> dict[Path, Path]:
    """Every spec file with its name from its folder of specs: `specs/imagenet/resnet50.yaml`."""
    root = root_of(Path(name))
    return {file: file.resolve().relative_to(root.parent) if root else Path(file.name) for file in spec_files(name)}


def target(output: Path, place: Path) -> Path:
    """Where the module of a spec goes: the folders below that of the specs are mirrored."""
    return output.joinpath(*place.parts[1:] if len(place.parts) > 1 else place.parts).with_suffix(".py")


def build(
    *specs: str | Path,
    output: str | Path = "generated",
    set: Mapping[str, Any] | None = None,
    plugins: Sequence[str | Path] = (),
) -> list[Path]:
    """Write the module of each spec below `output`, as `netspec build` does.

    A spec may be a folder of them; files without a model, such as shared blocks, are passed over. `set` overrides
    values as in `netspec.compile`, and `plugins` are enabled as there. Gives the paths of the modules; one that is what
    its spec says is left alone. Raises SpecError with the mistakes of all specs, before anything is written, and
    ValueError where two would become one file.
    """
    from netspec.compiler import check, override_texts
    from netspec.diagnostics import Diagnostics
    from netspec.plugin.load import enable

    enable(plugins)
    sources: dict[Path, str] = {}
    diagnostics = Diagnostics()
    for file, place in (pair for spec in specs for pair in named(spec).items()):
        own = Diagnostics()
        program = check(file, override_texts(set), own, headers=False)
        diagnostics.found += own.found
        if program is None:
            continue
        path = target(Path(output), place)
        if path in sources:
            raise ValueError(f"two specs would both become {path}")
        sources[path] = program.source(place.as_posix())
    diagnostics.raise_if_errors()
    for path, source in sources.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != source:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source, encoding="utf-8")
    return list(sources)


def spec_of(generated: Path, name: str) -> Path | None:
    """The spec that a generated file names in its first line: in a folder around the file or around the working
    directory, or in a run beside it.
    """
    around = [*generated.resolve().parents, Path.cwd(), *Path.cwd().parents]
    found = next((folder / name for folder in around if (folder / name).is_file()), None)
    resolved = generated.with_name("resolved.yaml")
    if found is not None and found.is_relative_to(Path.cwd()):
        return found.relative_to(Path.cwd())
    return found or (resolved if resolved.is_file() else None)
