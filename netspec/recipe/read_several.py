"""How several processes train together: `distribute` and `sync_batchnorm`."""

from __future__ import annotations

from typing import Any

from netspec.catalog.several import COUNTS, FLAGS, KINDS
from netspec.document import Mapping
from netspec.recipe.read_seeing import SeeingReader
from netspec.recipe.train import Distribute


class SeveralReader(SeeingReader):
    """Reads `distribute` and `sync_batchnorm`."""

    __slots__ = ()

    def distribute(self) -> Distribute | None:
        node = self.node.items.get("distribute")
        if node is None:
            return None
        if not isinstance(node, Mapping):
            return Distribute(type=self.choice(self.node, "distribute", KINDS, "ddp"))
        kind = self.choice(node, "type", KINDS, "ddp")
        arguments: dict[str, Any] = {}
        match: tuple[str, ...] = ()
        for key in node.items:
            if key == "type":
                continue
            if key == "match" and kind == "fsdp":
                match = self.globs(node.items[key], self.model.layers, "layer that is a module")
                continue
            if key in FLAGS[kind]:
                arguments[key] = self.flag(key, False, node)
            elif key in COUNTS.get(kind, ()):
                arguments[key] = self.count(node, key, 1)
            else:
                owner = next((one for one in KINDS if key in FLAGS[one] or key in COUNTS.get(one, ())), None)
                self.error(
                    "NS508",
                    f"`{kind}` has no setting `{key}`",
                    node.key_spans[key],
                    help=f"it is one of {owner}" if owner else None,
                )
        return Distribute(type=kind, arguments=arguments, match=match)
