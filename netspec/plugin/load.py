"""Plugins, enabled: those that are installed, and files that the person names."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from netspec import catalog
from netspec.plugin import declare
from netspec.plugin.declare import Registrar
from netspec.plugin.probed import forget

if TYPE_CHECKING:
    from netspec.document import Node

GROUP: Final = "netspec.plugins"


class PluginError(ValueError):
    """A plugin that cannot be enabled: what is wrong, and a mend."""

    def __init__(self, message: str, help: str | None = None) -> None:
        super().__init__(message + (f" ({help})" if help else ""))
        self.message = message
        self.help = help


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin that is enabled. `file` is None for an installed one."""

    name: str
    file: Path | None = None
    stamp: tuple[int, int] = (0, 0)
    """The file's time and size: one that has changed is loaded again."""


_enabled: dict[str, Plugin] = {}


def enabled() -> list[Plugin]:
    """The plugins of this process, in the order in which they were enabled."""
    return list(_enabled.values())


def enable(files: Iterable[str | Path]) -> None:
    """Enable plugin files for the rest of this process. One that is enabled already is read again if it has changed.

    Raises PluginError where a file cannot be read, fails, adds nothing, or names what the catalog has already.
    """
    for file in files:
        _enable_file(Path(file))


def enable_installed() -> None:
    """Enable what installed packages offer under the entry point `netspec.plugins`. Raises PluginError."""
    if not any(_offers(folder) for folder in dict.fromkeys(sys.path)):
        return
    from importlib.metadata import entry_points

    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        name = point.dist.name if point.dist is not None else point.name
        if point.name in _enabled:
            continue
        module = import_or_refuse(name, point.module)
        entry: Any = getattr(module, point.attr, None) if point.attr else module
        if entry is None:
            raise PluginError(f"the plugin of {name} has no `{point.attr}` in {point.module}")
        _enabled[point.name] = Plugin(point.name)
        try:
            _register(point.name, module, entry if point.attr else getattr(module, "register", None))
        except BaseException:
            _disable(point.name)
            raise


def disable_all() -> None:
    """Take out of the catalog what plugins have added."""
    for name in list(_enabled):
        _disable(name)


def plugins_of(document: Node) -> list[Plugin]:
    """The plugins that a document names something of."""
    used = set(texts_of(document))
    names = {entry.plugin for entry in catalog.registered() if entry.name in used}
    return [plugin for plugin in _enabled.values() if plugin.name in names]


def texts_of(node: Any) -> Iterator[str]:
    """Every text that stands as a value in a document."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        items = getattr(node, "items", None)
        if isinstance(items, dict):
            waiting += items.values()
        elif items is not None:
            waiting += items
        elif isinstance(node.value, str):
            yield node.value


def _offers(folder: str) -> bool:
    """Whether a package installed there has entry points for us: told without importlib.metadata, which is slow."""
    try:
        with os.scandir(folder or ".") as found:
            infos = [entry.path for entry in found if entry.name.endswith((".dist-info", ".egg-info"))]
    except OSError:
        return False
    for info in infos:
        try:
            text = Path(info, "entry_points.txt").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if re.search(rf"^\s*\[\s*{re.escape(GROUP)}\s*\]", text, re.MULTILINE):
            return True
    return False


def _enable_file(file: Path) -> None:
    if file.suffix != ".py" or not file.stem.isidentifier():
        raise PluginError(
            f"{file} is no plugin: one is a Python file",
            "its name becomes that of a module: letters, digits and `_`, and `.py`",
        )
    try:
        path = file.resolve(strict=True)
        state = path.stat()
    except OSError as error:
        raise PluginError(f"the plugin {file} cannot be read: {error.strerror}", "name a file that exists") from error
    name, stamp = path.name, (state.st_mtime_ns, state.st_size)
    known = _enabled.get(name)
    if known is not None and known.file == path and known.stamp == stamp:
        return
    if known is not None and known.file != path:
        raise PluginError(f"two plugins are called {name}: {known.file} and {path}", "rename one of them")
    if known is not None:
        _disable(name)
    module = _executed(path)
    _enabled[name] = Plugin(name, path, stamp)
    try:
        _register(name, module, getattr(module, "register", None))
    except BaseException:
        _disable(name)
        raise


def _executed(path: Path) -> ModuleType:
    """The module of a plugin file, importable by its bare name from then on, as generated code does it."""
    name = path.stem
    known = sys.modules.get(name)
    ours = known is not None and getattr(known, "__file__", None) == str(path)
    if not ours:
        found = importlib.util.find_spec(name)
        if found is not None and (found.origin is None or Path(found.origin).resolve() != path):
            raise PluginError(
                f"a plugin cannot be called {path.name}: there is a module `{name}` already", "rename the file"
            )
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    declare.declared.pop(name, None)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        sys.modules.pop(name, None)
        raise PluginError(
            f"the plugin {path.name} fails: {type(error).__name__}: {error}{_line(error, path)}"
        ) from error
    return module


def _line(error: Exception, path: Path) -> str:
    """Where in the plugin it failed."""
    if isinstance(error, SyntaxError):
        return ""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" (line {line})" if line else ""


def import_or_refuse(name: str, module: str) -> ModuleType:
    """Import the module of an installed plugin."""
    try:
        return import_module(module)
    except Exception as error:
        raise PluginError(
            f"the installed plugin {name} fails: {type(error).__name__}: {error}",
            f"mend or uninstall the package {name}",
        ) from error


def _register(name: str, module: ModuleType, function: Callable[[Registrar], object] | None) -> None:
    """Let a module say what it adds: what its decorators kept, and what its `register` does."""
    registrar = Registrar(name)
    try:
        for kind, thing, settings in declare.declared.get(module.__name__, ()):
            getattr(registrar, kind)(thing, **settings)
        if callable(function):
            function(registrar)
    except Exception as error:
        said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise PluginError(f"the plugin {name} cannot be enabled: {said}") from error
    if not registrar.added:
        raise PluginError(
            f"the plugin {name} adds nothing",
            "it needs a function `register(catalog)`, or classes with `@netspec.plugin.layer`",
        )


def _disable(name: str) -> None:
    plugin = _enabled.pop(name, None)
    if plugin is not None and plugin.file is not None:
        sys.modules.pop(plugin.file.stem, None)
    catalog.unregister(name)
    forget()
