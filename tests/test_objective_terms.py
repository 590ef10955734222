"""What stands on the losses of a training, against the same written in torch: targets that are one number, masks, parts
without gradients, values of the spec. Weights after several updates are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_objective import AUXILIARY, BATCH, LAYERS, NETWORK, document, loss_of
from test_train_torch import LOSSES, by_netspec
from torch import Tensor, nn
from training_support import TensorData, TensorStream

import netspec
from netspec.catalog import lookup
from netspec.catalog.constant_targets import takes_constant
from netspec.diagnostics import SpecError
from netspec.program import Program
from netspec.runtime.data import open_data
from netspec.runtime.prepare import used_fields
from netspec.runtime.run import train

STEPS = 5

TWO_HEADS = {
    "inputs": {"image": ["N", 1, 8, 8]},
    "layers": {
        "flat": {"type": "flatten", "start_dim": 1},
        "body": {"type": "Linear", "out_features": 16},
        "act": "ReLU",
        "drop": {"type": "Dropout", "p": 0.2},
        "side": {"type": "Linear", "out_features": 1, "from": "act"},
        "head": {"type": "Linear", "out_features": 10, "from": "drop"},
    },
    "outputs": {"logits": "head", "score": "side", "hidden": "act"},
}


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netspec.runtime.run.draw_curves", lambda *_: None, raising=False)


def spec(objective: dict[str, Any], model: dict[str, Any] = TWO_HEADS, **settings: Any) -> dict[str, Any]:
    made = document(objective, model, optimizer={"type": "SGD", "lr": 0.1, "momentum": 0.9, "fused": False}, **settings)
    made["train"] = {**{key: value for key, value in made["train"].items() if key != "epochs"}, "steps": STEPS}
    return made


def batches(program: Program) -> list[dict[str, Tensor]]:
    recipe = program.recipe
    device = torch.device("cpu")
    data = open_data(recipe.data, seed=0, device=device, fields=used_fields(recipe.train), splits=["train"])
    return [batch for epoch in range(2) for batch in data.splits["train"].batches(epoch)][:STEPS]


def check(spec: dict[str, Any], folder: Path, loss: Callable[[nn.Module, dict[str, Tensor]], Tensor]) -> None:
    """Train by the spec, and by a loop with this loss: the same weights to the last bit."""
    program = netspec.compile(spec)
    found = by_netspec(program, folder)
    model = program.module(seed=0).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    torch.manual_seed(0)
    program.module()  # a run draws its weights first, from the seed that everything else goes on with
    for batch in batches(program):
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
    expected = {name: value.detach() for name, value in model.state_dict().items()}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_weighted_losses_smoothing_and_constants(tmp_path: Path) -> None:
    """The short form: a classifier whose side score is pulled to one, and whose hidden layer is kept sparse."""
    losses = {
        "main": {"type": "CrossEntropyLoss", "from": ["logits", "label"], "label_smoothing": 0.1, "weight": 2.0},
        "side": {"type": "BCEWithLogitsLoss", "from": "score", "target": 1, "weight": 0.5},
        "sparse": {"type": "L1Loss", "from": "hidden", "target": 0, "weight": 0.01},
    }

    def by_hand(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        found = model(batch["image"])
        main = nn.CrossEntropyLoss(label_smoothing=0.1)(found.logits, batch["label"]) * 2.0
        side = nn.BCEWithLogitsLoss()(found.score, torch.ones_like(found.score)) * 0.5
        return main + side + nn.L1Loss()(found.hidden, torch.zeros_like(found.hidden)) * 0.01

    check(spec({"loss": losses}), tmp_path / "run", by_hand)


def test_an_auxiliary_head(tmp_path: Path) -> None:
    losses = {
        "main": {"type": "CrossEntropyLoss", "from": ["logits", "label"]},
        "side": {"type": "CrossEntropyLoss", "from": ["aux", "label"], "weight": 0.3},
    }

    def by_hand(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        found, criterion = model(batch["image"]), nn.CrossEntropyLoss()
        loss: Tensor = criterion(found.logits, batch["label"]) + criterion(found.aux, batch["label"]) * 0.3
        return loss

    check(spec({"loss": losses}, AUXILIARY), tmp_path / "run", by_hand)


def test_constants_and_values_of_the_spec_in_layers(tmp_path: Path) -> None:
    """Real against made samples, as a discriminator has it, and a factor that follows from the length of the run."""
    layers = {
        "noise": {"type": "randn_like", "from": "image"},
        "real": {"use": "model", "from": "image"},
        "made": {"use": "model", "from": "noise"},
        "real_loss": {"type": "BCEWithLogitsLoss", "from": "real.score", "target": 1},
        "made_loss": {"type": "BCEWithLogitsLoss", "from": {"input": "made.score"}, "target": "$low"},
        "classes": {"type": "CrossEntropyLoss", "from": "made.logits", "target": 9},
        "loss": {"compute": "real_loss + made_loss + $(1 / train.steps) * classes + $(train.optimizer.lr) * classes"},
    }
    made = {**spec({"layers": layers}), "params": {"low": 0.1}}

    def by_hand(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        noise = torch.randn_like(batch["image"])
        real, fake = model(batch["image"]), model(noise)
        bce, size = nn.BCEWithLogitsLoss(), len(noise)
        one, low = torch.ones(size, 1), torch.full((size, 1), 0.1)
        classes = nn.CrossEntropyLoss()(fake.logits, torch.full((size,), 9))
        return bce(real.score, one) + bce(fake.score, low) + (1 / STEPS) * classes + 0.1 * classes

    check(made, tmp_path / "run", by_hand)


def test_no_gradient_flows_back_through_what_says_so(tmp_path: Path) -> None:
    """A model is taught by itself: what it says of the clean image is the target for the noisy one."""
    layers = {
        "noise": {"type": "randn_like", "from": "image"},
        "noisy": {"compute": "image + 0.1 * noise"},
        "taught": {"use": "model", "from": "noisy"},
        "teacher": {"use": "model", "from": "image", "grad": False},
        "agree": {"type": "MSELoss", "from": ["taught.logits", "teacher.logits"]},
        "known": {"type": "CrossEntropyLoss", "from": ["taught.logits", "label"]},
        "loss": {"compute": "known + agree"},
    }

    def by_hand(model: nn.Module, batch: dict[str, Tensor], detached: bool = True) -> Tensor:
        noise = torch.randn_like(batch["image"])
        taught = model(batch["image"] + 0.1 * noise)
        with torch.set_grad_enabled(not detached):
            teacher = model(batch["image"])
        agree = nn.MSELoss()(taught.logits, teacher.logits)
        return nn.CrossEntropyLoss()(taught.logits, batch["label"]) + agree

    check(spec({"layers": layers}), tmp_path / "run", by_hand)
    with pytest.raises(AssertionError):
        check(spec({"layers": layers}), tmp_path / "other", lambda m, b: by_hand(m, b, detached=False))


ODDS = {**NETWORK, "layers": {**NETWORK["layers"], "odds": "sigmoid"}}  # type: ignore[dict-item]
CONSTANT = {"BCELoss": 0.9, "BCEWithLogitsLoss": 0.1, "CrossEntropyLoss": 3, "NLLLoss": 0, "MultiMarginLoss": 9}
SIGNS = ("HingeEmbeddingLoss", "SoftMarginLoss", "MarginRankingLoss", "CosineEmbeddingLoss")


@pytest.mark.parametrize("form", ["loss", "layers"])
@pytest.mark.parametrize("name", [name for name in LOSSES if takes_constant(lookup(name, "loss"))])
def test_every_loss_with_a_target_takes_one_number(name: str, form: str) -> None:
    """The value is that of torch's own loss with a tensor of that number, or of that class."""
    entry = lookup(name, "loss")
    assert entry is not None
    value: Any = -1 if name in SIGNS else CONSTANT.get(name, 0.5)
    others = [port.name for port in entry.inputs if port.name != "target" and not port.optional]
    more = {"reduction": "batchmean"} if name == "KLDivLoss" else {}
    stated = {"type": name, "from": ["odds" if form == "loss" else "found"] * len(others), "target": value, **more}
    objective = {"loss": stated} if form == "loss" else {"layers": {"found": {"use": "model"}, "loss": stated}}
    found = netspec.compile(document(objective, ODDS))
    odds = found.module(seed=0).eval()(BATCH["image"])
    rows = name in CONSTANT and isinstance(value, int)
    target = torch.full((6,), value) if rows else torch.full_like(odds, value)
    target = torch.full((6,), float(value)) if name == "CosineEmbeddingLoss" else target
    given = {**dict.fromkeys(others, odds), "target": target}
    expected = LOSSES[name](**more)(*[given[port.name] for port in entry.inputs if port.name in given])
    assert torch.equal(loss_of(document(objective, ODDS), BATCH, mode=False), expected)


@pytest.mark.parametrize("form", ["loss", "layers"])
def test_a_mask_may_be_a_comparison(form: str, tmp_path: Path) -> None:
    """Rows by their labels, and single numbers of a regression by their values."""
    rows = {"type": "CrossEntropyLoss", "from": ["logits", "label"], "mask": "label != $ignored"}
    pixels = {"type": "MSELoss", "from": ["hidden", "hidden"], "mask": "hidden > 0.1"}
    losses: dict[str, Any] = {"loss": {"rows": rows, "pixels": {**pixels, "weight": 0.5}}}
    if form == "layers":
        more = {
            "rows": {**rows, "from": ["found.logits", "label"]},
            "pixels": {**pixels, "from": ["found.hidden", "twice"], "mask": "found.hidden > 0.1"},
        }
        given = {"found": {"use": "model", "from": "image"}, "twice": {"compute": "found.hidden * 2 - 1"}}
        losses = {"layers": {**given, **more, "loss": {"compute": "rows + 0.5 * pixels"}}}
    made = {**spec(losses), "params": {"ignored": 3}}

    def by_hand(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        found = model(batch["image"])
        kept, high = batch["label"] != 3, found.hidden > 0.1
        other = found.hidden * 2 - 1 if form == "layers" else found.hidden
        assert 0 < kept.sum() < len(kept) and 0 < high.sum() < high.numel()
        loss = nn.CrossEntropyLoss()(found.logits[kept], batch["label"][kept])
        pixels = nn.MSELoss()(found.hidden[high], other[high])
        return loss + 0.5 * pixels if form == "layers" else loss + pixels * 0.5

    check(made, tmp_path / "run", by_hand)


def test_a_mask_of_no_row_counts_nothing_in_layers_as_well() -> None:
    chosen = {"type": "CrossEntropyLoss", "from": ["logits", "label"], "mask": "label > 100"}
    layers = {"logits": LAYERS["logits"], "loss": chosen}
    for objective in ({"loss": {**chosen, "from": ["fc2", "label"]}}, {"layers": layers}):
        none = loss_of(document(objective), BATCH)
        none.backward()
        assert none == 0
    accuracy = {"type": "Accuracy", "from": ["fc2", "label"], "mask": "label < 2"}
    program = netspec.compile(document({"loss": "CrossEntropyLoss"}, metrics=[accuracy]))
    from netspec.runtime.metrics import Metrics

    metrics = Metrics(program.recipe.train.metrics, ("fc2",), torch.device("cpu"))
    metrics.update(torch.eye(10)[[0, 0, 0, 0, 0, 0]], BATCH)
    assert metrics.compute() == {"accuracy": 0.5}


UNREAD = {"type": "NumPy", "path": "data.npz"}


def test_fields_of_which_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays that are not there yet tell nothing: losses, masks and the model take them as they are."""
    import numpy as np

    draw = np.random.default_rng(0)
    image, label = draw.normal(size=(40, 1, 8, 8)).astype("float32"), draw.integers(0, 10, 40)
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", image=image, label=label, other=image * 2)
    layers = {
        "seen": {"use": "model", "from": "other"},
        "known": {"type": "CrossEntropyLoss", "from": ["seen", "label"], "mask": "label >= 2"},
        "loss": {"compute": "known * 2"},
    }
    made = document({"layers": layers}, NETWORK)
    made["data"] = {"source": UNREAD, "split": {"train": 0.8, "val": 0.2}, "batch_size": 8}
    done = train(netspec.compile(made), run_dir=tmp_path / "run", progress="none")
    assert done.history[0]["train.loss"] > 1
    without = {key: value for key, value in made.items() if key != "data"}
    stream = TensorStream({"other": torch.tensor(image), "label": torch.tensor(label)}, batch_size=8)
    again = train(
        netspec.compile(without), run_dir=tmp_path / "again", data=TensorData({"train": stream}), progress="none"
    )
    assert again.history[0]["train.loss"] > 1
    made["train"]["layers"] = {**layers, "mean": {"type": "mean", "from": "label"}, "loss": {"compute": "known + mean"}}
    with pytest.raises(SpecError, match="NS565 `mean` needs the shape of the field `label`"):
        netspec.compile(made, headers=False)
    with pytest.raises(SpecError, match="NS402 `mean`: mean takes floating point, and got int64"):
        netspec.compile(made)  # the header of the file says what it holds


MISTAKES: dict[str, tuple[dict[str, Any], str, str]] = {
    "share": ({"type": "BCEWithLogitsLoss", "target": 2}, "NS566", "lies between 0 and 1, and got 2"),
    "sign": ({"type": "SoftMarginLoss", "target": 0}, "NS566", "is 1 or -1, and got 0"),
    "class": ({"type": "CrossEntropyLoss", "target": 10}, "NS566", "the number of a class, 0 to 9, and got 10"),
    "whole": ({"type": "CrossEntropyLoss", "target": 0.5}, "NS566", "the number of a class, 0 to 9, and got 0.5"),
    "numbers": ({"type": "CrossEntropyLoss", "mask": "label"}, "NS552", "int64 [N]"),
    "shape": ({"type": "CrossEntropyLoss", "mask": "image > 0"}, "NS552", "[N, 1, 8, 8]"),
    "name": ({"type": "CrossEntropyLoss", "mask": "labels >= 0"}, "", "labels"),
    "broadcast": ({"type": "CrossEntropyLoss", "mask": "label > image"}, "", "[N, 1, 8, 8]"),
}


@pytest.mark.parametrize("form", ["loss", "layers"])
@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_told_at_their_place(case: str, form: str, tmp_path: Path) -> None:
    import yaml

    stated, code, words = MISTAKES[case]
    output = "fc2" if form == "loss" else "logits"
    taken = [output] if "target" in stated else [output, "label"]
    loss = {**stated, "from": taken}
    made = document({"loss": loss} if form == "loss" else {"layers": {"logits": LAYERS["logits"], "loss": loss}})
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump(made, sort_keys=False, default_flow_style=None))
    with pytest.raises(SpecError) as caught:
        netspec.compile(file)
    (found,) = [one for one in caught.value.diagnostics if one.severity == "error"]
    assert words in found.message, found.message
    assert not code or found.code == code
    assert found.span is not None
    line = file.read_text().splitlines()[found.span.line - 1]
    assert str(stated.get("target", stated.get("mask", ""))) in line or (form == "loss" and "type" in line)


def test_an_activation_that_the_loss_applies_itself_is_warned_of_in_layers_as_well() -> None:
    layers = {
        "scores": LAYERS["logits"],
        "shares": {"type": "softmax", "dim": 1, "from": "scores"},
        "loss": {"type": "CrossEntropyLoss", "from": ["shares", "label"]},
    }
    (found,) = netspec.compile(document({"layers": layers})).warnings
    assert (found.code, found.message) == ("NS553", "softmax right before CrossEntropyLoss")
    layers["loss"] = {"type": "BCELoss", "from": ["shares", "shares"]}
    assert not netspec.compile(document({"layers": layers})).warnings


def test_what_belongs_to_training_is_refused_in_a_model() -> None:
    layers = {**NETWORK["layers"], "again": {"use": "fc2", "from": "dropout", "grad": False}}  # type: ignore[dict-item]
    with pytest.raises(SpecError, match=r"NS346 .*`grad: false` is for `use` in `train.layers`"):
        netspec.compile(document({"loss": "CrossEntropyLoss"}, {**NETWORK, "layers": layers}))
    alone = {"netspec": 1, "name": "alone", "model": {"inputs": {"x": ["N", 4]}}}
    for key, value in (("target", 1), ("mask", "x > 0")):
        alone["model"]["layers"] = {"loss": {"type": "MSELoss", "from": ["x"], key: value}}  # type: ignore[index]
        with pytest.raises(SpecError, match=f"NS106 `MSELoss` has no argument `{key}`"):
            netspec.compile(alone)
    alone["model"]["layers"] = {"fc": {"type": "Linear", "out_features": 2, "grad": False}}  # type: ignore[index]
    with pytest.raises(SpecError, match="`grad` alone"):
        netspec.compile(alone)
