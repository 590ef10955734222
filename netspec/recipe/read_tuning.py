"""What training starts from and what it leaves alone: `weights`, `freeze` and `unfreeze`."""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase
from typing import Any, Final

from netspec.document import Mapping, Node, Scalar
from netspec.recipe.reading import WRONG, show
from netspec.recipe.train import Thaw, Weights
from netspec.recipe.train_values import TrainReader

TORCHVISION: Final = re.compile(r"\w+_Weights\.\w+")
"""How torchvision calls its weights: `ResNet18_Weights.IMAGENET1K_V1`."""


class TuningReader(TrainReader):
    """Reads `weights`, `freeze` and `unfreeze`."""

    __slots__ = ()

    def weights(self) -> Weights | None:
        node = self.node.items.get("weights")
        if node is None or (isinstance(node, Scalar) and node.value is None):
            return None
        entries = node.items if isinstance(node, Mapping) else {}
        stated = entries.get("from", node)
        source = self.text(stated, "from" if entries else "weights")
        package = self.text(entries["package"], "package") if "package" in entries else None
        if source is None:
            return None
        if package is None and not TORCHVISION.fullmatch(source):
            source = self.path(source, stated, "train.weights.from" if entries else "train.weights")
        return Weights(
            source=source,
            package=package,
            renames=self.renames(entries.get("renames")),
            skip=self.skip(entries.get("skip")),
            strict=self.flag("strict", True, node) if isinstance(node, Mapping) else True,
        )

    def text(self, node: Node, key: str) -> str | None:
        found = self.value(node)
        if isinstance(found, str) and found:
            return found
        self.reject(found, "NS508", f"`{key}` is a text, and got {show(found)}", node.span)
        return None

    def path(self, text: str, node: Node, place: str) -> str:
        """An absolute path; a warning where there is nothing."""
        file = node.span.file
        folder = os.path.dirname(file) if os.path.isfile(file) else ""
        path = os.path.normpath(os.path.join(folder, os.path.expanduser(text)))
        if not os.path.exists(path):
            self.diagnostics.warning(
                "NS507",
                f"there is nothing at `{path}`",
                node.span,
                help="a path is relative to the file that states it; torchvision's weights are named as "
                "`ResNet18_Weights.DEFAULT`",
            )
        self.paths[place] = os.path.abspath(path)
        return self.paths[place]

    def renames(self, node: Node | None) -> dict[str, str]:
        found: Any = self.value(node) if node is not None else {}
        if found is WRONG or not isinstance(node, Mapping):
            return {}
        for old, new in found.items():
            if old.count("*") != str(new).count("*"):
                self.error(
                    "NS508",
                    f"`{old}` and `{new}` have different numbers of `*`",
                    node.items[old].span,
                    help="each star of the new name stands for what that of the old one matched",
                )
        return {old: str(new) for old, new in found.items()}

    def skip(self, node: Node | None) -> tuple[str, ...]:
        """Globs over all names of the weights, buffers included, which are not known here: those that match no
        parameter are seen when the weights are loaded."""
        found = self.value(node) if node is not None else []
        found = [found] if isinstance(found, str) else found
        return tuple(found) if isinstance(found, list) else ()

    def freeze(self) -> tuple[str, ...]:
        node = self.node.items.get("freeze")
        patterns = (self.parameter_globs(node, "freeze") if node is not None else None) or ()
        names = self.model.parameters
        if node is not None and names and all(any(fnmatchcase(n, p) for p in patterns) for n in names):
            self.error(
                "NS580",
                "all parameters are frozen at the start, so there is nothing to train",
                node.span,
                help="leave the last layer out",
            )
        return patterns

    def unfreeze(self, frozen: tuple[str, ...]) -> tuple[Thaw, ...]:
        node = self.node.items.get("unfreeze")
        if not isinstance(node, Mapping):
            return ()
        still = [name for name in self.model.parameters if any(fnmatchcase(name, pattern) for pattern in frozen)]
        found = []
        for pattern, duration in node.items.items():
            span = node.key_spans[pattern]
            if self.names_a_parameter(pattern, span) and not any(fnmatchcase(name, pattern) for name in still):
                self.error(
                    "NS580",
                    f"`{pattern}` is never frozen, so there is nothing to unfreeze",
                    span,
                    help=f"freeze it at the start: `freeze: {', '.join([*frozen, pattern])}`"
                    if not frozen
                    else "name it under `freeze` as well",
                )
            assert isinstance(duration, Mapping), "the schema has seen it"
            after = self.length(duration, pattern, span)
            if after is not None:
                found.append(Thaw(match=pattern, after=after))
        return tuple(found)
