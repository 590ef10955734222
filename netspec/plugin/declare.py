"""What a plugin says: the methods that register, and the decorators that keep a declaration until it is asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final, TypeVar

from netspec import catalog
from netspec.catalog.entry import Argument, Category, Entry, Port, Role, Rule
from netspec.plugin import derive
from netspec.plugin.probed import probed
from netspec.spec import STEERING

T = TypeVar("T", bound=Callable[..., Any])

_NAME: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)?")
_FIRST: Final[Mapping[str, int]] = {"initializer": 1, "optimizer": 1, "scheduler": 1}
"""How many leading arguments netspec passes itself: the tensor, the parameters, the optimizer."""


class Refused(ValueError):
    """A declaration that cannot be registered; the message says why."""


@dataclass(slots=True)
class Registrar:
    """Takes what a plugin adds. Each method takes a class or function, or its dotted name.

    name: what specs call it (default: its own name). Where another library has that name, prefix it with the library's:
        `torch_geometric.LayerNorm`.
    doc: one line for `netspec explain` (default: the first paragraph of its docstring).
    arguments: `catalog.Argument`s (default: from its signature, type hints and docstring).

    All raise ValueError: where a name is taken (both definitions are shown), where something cannot be derived.
    """

    plugin: str
    added: list[Entry] = field(default_factory=list)

    def layer(
        self,
        target: Any,
        *,
        name: str | None = None,
        doc: str | None = None,
        arguments: Sequence[Argument] | None = None,
        inputs: Sequence[Port | str] | None = None,
        outputs: Sequence[str] | None = None,
        infers: Mapping[str, int | tuple[str, int]] | None = None,
        rule: Rule | None = None,
        role: Role = "",
    ) -> Entry:
        """Add an `nn.Module` class.

        inputs: the tensors of its `forward` (default: from the signature: those without a default, or hinted so).
        outputs: the names of what it returns where that is a tuple. infers: arguments that follow from an input, as the
        position of the size in the first input's shape, or (input, position): `{"in_channels": 1}`. rule: a shape rule,
        `rule(arguments, inputs) -> Inferred | Problem`; without one the layer is run to find its shapes. role: what it
        is, for the layout of generated code ("activation", "norm", "dropout", "pool", "conv", "linear").
        """
        return self._callable("layer", target, name, doc, arguments, inputs, outputs, infers, rule, role)

    def function(
        self,
        target: Any,
        *,
        name: str | None = None,
        doc: str | None = None,
        arguments: Sequence[Argument] | None = None,
        inputs: Sequence[Port | str] | None = None,
        outputs: Sequence[str] | None = None,
        rule: Rule | None = None,
        role: Role = "",
    ) -> Entry:
        """Add a function of tensors: a layer without a module. As `layer`; nothing can be inferred for it."""
        return self._callable("function", target, name, doc, arguments, inputs, outputs, None, rule, role)

    def loss(
        self,
        target: Any,
        *,
        name: str | None = None,
        doc: str | None = None,
        arguments: Sequence[Argument] | None = None,
        inputs: Sequence[Port | str] | None = None,
        rule: Rule | None = None,
    ) -> Entry:
        """Add a loss: an `nn.Module` class whose `forward` takes what the model gives, then the target."""
        return self._callable("loss", target, name, doc, arguments, inputs, None, None, rule, "")

    def initializer(self, target: Any, *, name: str | None = None, **more: Any) -> Entry:
        """Add an initializer: a function that fills the tensor that is its first argument. More: `doc`, `arguments`."""
        return self._plain("initializer", target, name, more)

    def optimizer(self, target: Any, *, name: str | None = None, **more: Any) -> Entry:
        """Add a `torch.optim.Optimizer` class, which takes the parameters first. More: `doc`, `arguments`."""
        return self._plain("optimizer", target, name, more)

    def scheduler(self, target: Any, *, name: str | None = None, **more: Any) -> Entry:
        """Add an `LRScheduler` class, which takes the optimizer first. More: `doc`, `arguments`."""
        return self._plain("scheduler", target, name, more)

    def transform(
        self,
        target: Any,
        *,
        name: str | None = None,
        doc: str | None = None,
        arguments: Sequence[Argument] | None = None,
        random: bool = True,
    ) -> Entry:
        """Add a transform of images: a class whose instances are called as those of torchvision's v2 are.

        random: whether it draws; one that does not may run once, before the data are kept in memory.
        """
        from netspec.catalog.image_rules import unknown
        from netspec.catalog.transforms import TransformEntry

        found = Found.of(target)
        return self._add(
            TransformEntry(
                name=self._named(name, found),
                category="transform",
                target=found.path,
                arguments=self._arguments(found, arguments, (), "transform"),
                doc=found.doc if doc is None else doc,
                random=random,
                image=unknown,
                plugin=self.plugin,
            )
        )

    def _callable(
        self,
        category: Category,
        target: Any,
        name: str | None,
        doc: str | None,
        arguments: Sequence[Argument] | None,
        inputs: Sequence[Port | str] | None,
        outputs: Sequence[str] | None,
        infers: Mapping[str, int | tuple[str, int]] | None,
        rule: Rule | None,
        role: Role,
    ) -> Entry:
        found = Found.of(target)
        is_module = category != "function"
        if is_module and found.thing is not None and not derive.is_module_class(found.thing):
            raise Refused(f"{found.path} is no subclass of nn.Module; a function is added with `function`")
        called = None if found.thing is None else found.thing.forward if is_module else found.thing
        ports = self._ports(found, called, inputs)
        declared = list(self._arguments(found, arguments, [port.name for port in ports], category))
        if is_module and called is not None and arguments is None:
            taken = {argument.name for argument in declared}
            in_call = derive.arguments_of(called, tuple(port.name for port in ports))
            for argument in in_call:
                if argument.name in taken:
                    raise Refused(f"{found.path} takes `{argument.name}` both in its constructor and in `forward`")
            declared += [_in_call(argument) for argument in in_call]
        inferred = dict(infers or {})
        for argument_name in inferred:
            if argument_name not in {argument.name for argument in declared}:
                raise Refused(f"`infers` names `{argument_name}`, which {found.path} does not take")
        declared = [_inferred(argument) if argument.name in inferred else argument for argument in declared]
        declared = [_fed(argument, ports) for argument in declared]
        if outputs is None:
            outputs = derive.outputs_of(called) if called is not None else ()
        entry = Entry(
            name=self._named(name, found),
            category=category,
            target=found.path,
            arguments=tuple(declared),
            inputs=ports,
            returns=tuple(outputs),
            role=role,
            doc=found.doc if doc is None else doc,
            plugin=self.plugin,
        )
        places = {key: place if isinstance(place, tuple) else (ports[0].name, place) for key, place in inferred.items()}
        return self._add(probed(entry, places, rule))

    def _plain(self, category: Category, target: Any, name: str | None, more: Mapping[str, Any]) -> Entry:
        found = Found.of(target)
        if unknown := sorted(set(more) - {"doc", "arguments"}):
            raise Refused(f"`{category}` takes no `{unknown[0]}`")
        entry = Entry(
            name=self._named(name, found),
            category=category,
            target=found.path,
            arguments=self._arguments(found, more.get("arguments"), (), category),
            inputs=(),
            doc=found.doc if more.get("doc") is None else str(more["doc"]),
            plugin=self.plugin,
        )
        return self._add(entry)

    def _add(self, entry: Entry) -> Entry:
        clash = [argument.name for argument in entry.arguments if argument.name in STEERING]
        if clash and entry.category in ("layer", "function", "loss"):
            raise Refused(f"{entry.name} takes an argument `{clash[0]}`, which is a key of the language; rename it")
        other = catalog.lookup(entry.name, None if entry.category in ("layer", "function", "loss") else entry.category)
        if other is not None and "." not in entry.name:
            library = entry.target.partition(".")[0]
            try:
                catalog.register(entry)
            except ValueError as error:
                raise Refused(f"{error}; prefix it: name='{library}.{entry.name}'") from None
        catalog.register(entry)
        self.added.append(entry)
        return entry

    def _named(self, name: str | None, found: Found) -> str:
        wanted = name or found.path.rpartition(".")[2]
        if not _NAME.fullmatch(wanted):
            raise Refused(f"{wanted!r} is no name: a Python name, or `library.Name`")
        return wanted

    def _arguments(
        self, found: Found, stated: Sequence[Argument] | None, tensors: Sequence[str], category: str
    ) -> tuple[Argument, ...]:
        if stated is not None:
            return tuple(stated)
        if found.thing is None:
            return ()
        thing = found.thing
        docs = derive.argument_docs(getattr(thing, "__doc__", None) or "")
        made = derive.arguments_of(derive.constructor(thing), tuple(tensors))
        left = made[_FIRST.get(category, 0) :]
        return tuple(_with_doc(argument, docs.get(argument.name, "")) for argument in left)

    def _ports(self, found: Found, called: Any, stated: Sequence[Port | str] | None) -> tuple[Port, ...]:
        if stated is not None:
            return tuple(one if isinstance(one, Port) else Port(name=one) for one in stated)
        ports = derive.ports_of(called) if called is not None else ()
        if not ports:
            raise Refused(f"{found.path}: nothing tells which tensors it takes; say it with `inputs=[…]`")
        return ports


@dataclass(frozen=True, slots=True)
class Found:
    """What a plugin names: its dotted path, and the thing itself."""

    path: str
    thing: Any

    @property
    def doc(self) -> str:
        return derive.first_line(self.thing)

    @classmethod
    def of(cls, target: Any) -> Found:
        """Raises Refused for what cannot be imported by the path that generated code would write."""
        path = target if isinstance(target, str) else f"{target.__module__}.{target.__qualname__}"
        module, _, name = path.rpartition(".")
        if not module or not all(part.isidentifier() for part in path.split(".")) or "<" in path:
            raise Refused(f"{path} cannot be imported by generated code: define it at the top of its module")
        try:
            thing = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise Refused(f"{path} cannot be imported: {error}") from error
        if not isinstance(target, str) and thing is not target:
            raise Refused(f"{path} is another object than the one that was given")
        return cls(path, thing)


def _inferred(argument: Argument) -> Argument:
    from dataclasses import replace

    return replace(argument, inferred=True)


def _fed(argument: Argument, ports: Sequence[Port]) -> Argument:
    """A module that is given is taken to be called with what comes first; the probe runs it and says if not."""
    from dataclasses import replace

    return replace(argument, fed=(("", ports[0].name),)) if argument.takes_module and not argument.fed else argument


def _in_call(argument: Argument) -> Argument:
    from dataclasses import replace

    return replace(argument, call=True)


def _with_doc(argument: Argument, doc: str) -> Argument:
    from dataclasses import replace

    return replace(argument, doc=doc) if doc and not argument.doc else argument


# Decorators

Declaration = tuple[str, Any, Mapping[str, Any]]
declared: dict[str, list[Declaration]] = {}
"""By module: what its decorators said, until the module is enabled as a plugin."""


def _decorator(kind: str, thing: Any, settings: Mapping[str, Any]) -> Any:
    def keep(given: T) -> T:
        declared.setdefault(given.__module__, []).append((kind, given, dict(settings)))
        return given

    return keep if thing is None else keep(thing)


def layer(thing: Any = None, /, **settings: Any) -> Any:
    """Decorator: this class joins the catalog where its module is enabled as a plugin. Settings: `Registrar.layer`."""
    return _decorator("layer", thing, settings)


def function(thing: Any = None, /, **settings: Any) -> Any:
    """Decorator for a function of tensors. Settings: those of `Registrar.function`."""
    return _decorator("function", thing, settings)


def loss(thing: Any = None, /, **settings: Any) -> Any:
    """Decorator for a loss. Settings: those of `Registrar.loss`."""
    return _decorator("loss", thing, settings)


def initializer(thing: Any = None, /, **settings: Any) -> Any:
    """Decorator for a function that fills a tensor. Settings: those of `Registrar.initializer`."""
    return _decorator("initializer", thing, settings)


def optimizer(thing: Any = None, /, **settings: Any) -> Any:
    """Decorator for an optimizer. Settings: those of `Registrar.optimizer`."""
    return _decorator("optimizer", thing, settings)


def scheduler(thing: Any = None, /, **settings: Any) -> Any:
    """Decorator for a scheduler of learning rates. Settings: those of `Registrar.scheduler`."""
    return _decorator("scheduler", thing, settings)


def transform(thing: Any = None, /, **settings: Any) -> Any:
    """Decorator for a transform of images. Settings: those of `Registrar.transform`."""
    return _decorator("transform", thing, settings)
