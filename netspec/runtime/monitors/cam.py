"""Class activation maps: where in an image the model saw what it answered.

CAM is Zhou et al., "Learning Deep Features for Discriminative Localization" (2016); Grad-CAM is Selvaraju et al.,
"Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization" (2017), equation 1 and 2.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from netspec.recipe.seeing import Method
from netspec.runtime.cut import whole
from netspec.runtime.errors import RunError


def activation_maps(
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    layer: str,
    method: Method = "gradcam",
    classes: Tensor | None = None,
    pick: Callable[[Any], Tensor] = lambda found: found,
) -> tuple[Tensor, Tensor]:
    """The maps [N, h, w] of a layer that gives [N, C, h, w], and the scores [N, classes]; the model stands in `eval()`.

    Grad-CAM is the positive part of the channels' sum, each times the mean gradient of the class's score over the
    map; CAM the sum of the channels times the last layer's weights of the class. classes: which class the map is of,
    [N]; by default the answer. pick: from what the model gives to the scores. No `grad` of a parameter is touched.

    Raises RunError NS930 where the layer gives no maps, or CAM does not apply.
    """
    held: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _, __, output: held.append(output))
    try:
        with torch.enable_grad():
            # Of a model whose layers are all frozen nothing has a gradient, so the input asks for one.
            asked = tuple(one.detach().requires_grad_(one.is_floating_point()) for one in inputs)
            scores = pick(model(*asked))
    finally:
        handle.remove()
    if not held or not isinstance(held[-1], Tensor) or held[-1].dim() != 4:
        raise RunError("NS930", f"the layer `{layer}` gives no maps [N, C, h, w]", help="name a convolution or a block")
    maps = held[-1]
    if scores.dim() == 1:
        scores = scores.unsqueeze(1)
    if scores.dim() != 2:
        raise RunError("NS930", f"the model gives {list(scores.shape)}, and no score for each class, [N, classes]")
    chosen = scores.detach().argmax(1) if classes is None else classes
    if method == "cam":
        return _cam(model, maps.detach(), scores.detach(), chosen), scores.detach()
    (gradient,) = torch.autograd.grad(scores.gather(1, chosen.unsqueeze(1)).sum(), maps)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * maps.detach()).sum(1).relu(), scores.detach()


def _cam(model: nn.Module, maps: Tensor, scores: Tensor, chosen: Tensor) -> Tensor:
    """Zhou's maps, where the scores are one Linear of the maps' means."""
    last = next((m for m in reversed(list(model.modules())) if isinstance(m, nn.Linear)), None)
    fits = last is not None and (last.out_features, last.in_features) == (scores.shape[1], maps.shape[1])
    if last is None or not fits or not torch.allclose(_applied(last, maps.mean((2, 3))), scores, rtol=1e-3, atol=1e-3):
        raise RunError(
            "NS930",
            "CAM wants a layer whose maps are averaged and go through one Linear into the scores",
            help="--method gradcam works with any layer that gives maps",
        )
    return torch.einsum("nchw,nc->nhw", maps, whole(last.weight.detach())[chosen])


def _applied(linear: nn.Linear, rows: Tensor) -> Tensor:
    weight, bias = linear.weight, linear.bias
    return nn.functional.linear(rows, whole(weight), None if bias is None else whole(bias))


def map_layer(model: nn.Module, inputs: tuple[Tensor, ...], glob: str | None = None) -> str:
    """The last layer to give maps [N, C, h, w] with more than one place; with a glob, the last of those that match.

    Raises RunError NS930 where there is none.
    """
    found: list[str] = []
    handles = []

    def look(path: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: object, output: object) -> None:
            if isinstance(output, Tensor) and output.dim() == 4 and output.shape[2] * output.shape[3] > 1:
                found.append(path)

        return hook

    for path, module in model.named_modules():
        if path and (glob is None or fnmatchcase(path, glob)):
            handles.append(module.register_forward_hook(look(path)))
    try:
        with torch.no_grad():
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        which = f"no layer that matches `{glob}`" if glob else "no layer of the model"
        raise RunError(
            "NS930", f"{which} gives maps [N, C, h, w] of more than one place", help="`netspec show` lists the layers"
        )
    return found[-1]
