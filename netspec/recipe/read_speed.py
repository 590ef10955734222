"""How a run is made fast: `compile` and `cuda_graphs`."""

from __future__ import annotations

from netspec.catalog.speed import BACKENDS, GRAPHED, MODES
from netspec.document import Mapping
from netspec.recipe.reading import WRONG, show
from netspec.recipe.train import Compile
from netspec.recipe.train_values import TrainReader
from netspec.suggest import suggest


class SpeedReader(TrainReader):
    """Reads `compile` and `cuda_graphs`."""

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

    def recording(self) -> bool:
        node = self.node.items.get("compile")
        wanted = self.flag("cuda_graphs", False, self.node)
        if wanted and isinstance(node, Mapping):
            mode = self.choice(node, "mode", MODES, "default")
            if mode in GRAPHED or self.backend(node) == "cudagraphs":
                self.error(
                    "NS508",
                    "`cuda_graphs` records whole steps, and what `compile` makes here would record parts of them",
                    self.node.key_spans["cuda_graphs"],
                    help="leave `cuda_graphs` out, or take `mode: max-autotune-no-cudagraphs`",
                )
        return wanted

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
