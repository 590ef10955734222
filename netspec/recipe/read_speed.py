"""How a run is made fast: `compile`."""

from __future__ import annotations

from netspec.catalog.speed import BACKENDS, MODES
from netspec.document import Mapping
from netspec.recipe.reading import WRONG, show
from netspec.recipe.train import Compile
from netspec.recipe.train_values import TrainReader
from netspec.suggest import suggest


class SpeedReader(TrainReader):
    """Reads `compile`."""

    __slots__ = ()

    def compiling(self) -> Compile | None:
        node = self.node.items.get("compile")
        if not isinstance(node, Mapping):
            return Compile() if self.flag("compile", False, self.node) else None
        backend = self.backend(node)
        if "mode" in node.items and backend != "inductor":
            self.error(
                "NS508",
                f"`mode` tells inductor what to optimise for, and the backend is {backend}",
                node.key_spans["mode"],
                help="leave `mode` or `backend` out",
            )
        return Compile(
            backend=backend,
            mode=self.choice(node, "mode", MODES, "default"),
            dynamic=self.flag("dynamic", False, node),
            fullgraph=self.flag("fullgraph", False, node),
        )

    def backend(self, node: Mapping) -> str:
        """A compiler by name: one of torch's, or of an installed package, which is not known before torch is asked."""
        if "backend" not in node.items:
            return Compile().backend
        place = node.items["backend"]
        found = self.value(place)
        if isinstance(found, str) and found:
            near = suggest(found, BACKENDS) if found not in BACKENDS else None
            if near is not None:
                self.error("NS508", f"torch has no backend `{found}`", place.span, help=f"did you mean `{near}`?")
            return found
        if found is not WRONG:
            self.error("NS508", f"`backend` is the name of a compiler, and got {show(found)}", place.span)
        return Compile().backend
