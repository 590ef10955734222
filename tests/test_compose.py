"""Bases, imports, files, parameters and overrides: one document, and where each of its values comes from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netspec.compose import Composed, compose, compose_mapping, directory_of, resolved_text
from netspec.diagnostics import Diagnostics, Span, SpecError
from netspec.document import Mapping, parse_document, plain
from netspec.render import render
from netspec.schema import knows, suggest_path

SPECS = sorted((Path(__file__).resolve().parent.parent / "specs").rglob("*.yaml"))

Write = Callable[..., None]

BASE = """
netspec: 1
name: base
params: {width: 8, classes: 10}
model:
  inputs: {x: [N, 4]}
  layers:
    fc: {type: Linear, out_features: $width}
    act: ReLU
    head: {type: Linear, out_features: $classes}
train:
  epochs: 3
  optimizer: {type: SGD, lr: 0.1, momentum: 0.9}
  scheduler: {type: StepLR, step_size: 1}
  metrics: [Accuracy, F1Score]
"""
BLOCK = """
netspec: 1
name: blocks
blocks:
  MLP: {params: {width: int}, layers: [{type: Linear, out_features: $width}, ReLU]}
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """`write(spec=…, sub__other=…)` makes `spec.yaml` and `sub/other.yaml` in the working directory."""
    monkeypatch.chdir(tmp_path)

    def files(**texts: str) -> None:
        for name, text in texts.items():
            path = tmp_path / f"{name.replace('__', '/')}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    return files


def composed(*overrides: str, path: str = "spec.yaml") -> Composed:
    found = compose(path, overrides, knows=knows, meant=suggest_path)
    assert found is not None
    return found


def values(*overrides: str, path: str = "spec.yaml") -> dict[str, Any]:
    found = plain(composed(*overrides, path=path).document)
    assert isinstance(found, dict)
    return found


def codes(*overrides: str) -> list[str]:
    diagnostics = Diagnostics()
    compose("spec.yaml", overrides, diagnostics, knows=knows, meant=suggest_path)
    return [found.code for found in diagnostics]


# extends and remove


def test_mappings_merge_and_lists_replace(write: Write) -> None:
    write(base=BASE, spec="extends: base.yaml\nname: mine\ntrain: {optimizer: {lr: 0.01}, metrics: [Accuracy]}\n")
    found = values()
    assert found["name"] == "mine"
    assert found["train"]["optimizer"] == {"type": "SGD", "lr": 0.01, "momentum": 0.9}
    assert found["train"]["metrics"] == ["Accuracy"]
    assert list(found) == ["netspec", "name", "params", "model", "train"]


def test_layers_keep_the_order_of_the_base(write: Write) -> None:
    write(base=BASE, spec="extends: base.yaml\nmodel: {layers: {new: GELU, act: GELU}}\n")
    assert values()["model"]["layers"]["act"] == "GELU"
    assert list(values()["model"]["layers"]) == ["fc", "act", "head", "new"]


def test_chains(write: Write) -> None:
    write(
        base=BASE,
        sub__two="extends: ../base.yaml\nname: two\ntrain: {epochs: 4}\n",
        spec="extends: sub/two.yaml\nname: three\n",
    )
    assert values()["train"]["epochs"] == 4
    assert values()["name"] == "three"
    assert composed().sources == ("spec.yaml", "sub/two.yaml", "base.yaml")


def test_remove(write: Write) -> None:
    write(base=BASE, spec="extends: base.yaml\nremove: [train.scheduler, train.metrics.0, model.layers.act]\n")
    assert "scheduler" not in values()["train"]
    assert values()["train"]["metrics"] == ["F1Score"]
    assert list(values()["model"]["layers"]) == ["fc", "head"]


def test_remove_then_state_anew(write: Write) -> None:
    write(base=BASE, spec="extends: base.yaml\nremove: [train.optimizer]\ntrain: {optimizer: {type: AdamW}}\n")
    assert values()["train"]["optimizer"] == {"type": "AdamW"}


def test_paths_find_keys_with_dots(write: Write) -> None:
    write(
        base="model: {tie: {head.weight: embed.weight}}\n", spec="extends: base.yaml\nremove: [model.tie.head.weight]\n"
    )
    assert values() == {"model": {"tie": {}}}


# imports


def test_imports_bring_blocks_only(write: Write) -> None:
    write(
        sub__blocks=BLOCK + "train: {epochs: 9}\n",
        spec=BASE + "imports: [sub/blocks.yaml]\nblocks: {Own: {layers: [ReLU]}}\n",
    )
    assert list(values()["blocks"]) == ["MLP", "Own"]
    assert values()["train"]["epochs"] == 3
    assert "imports" not in values()


def test_one_block_may_come_over_two_ways(write: Write) -> None:
    write(
        blocks=BLOCK,
        base=BASE + "imports: [blocks.yaml]\n",
        spec="extends: base.yaml\nimports: [blocks.yaml, ./blocks.yaml]\n",
    )
    assert list(values()["blocks"]) == ["MLP"]


def test_imported_files_may_import(write: Write) -> None:
    write(
        sub__blocks=BLOCK,
        sub__more="imports: [blocks.yaml]\nblocks: {More: {layers: [ReLU]}}\n",
        spec="imports: [sub/more.yaml]\n",
    )
    assert list(values()["blocks"]) == ["MLP", "More"]


# file: sections


def test_a_model_from_a_file_brings_blocks_and_parameters(write: Write) -> None:
    write(
        blocks=BLOCK,
        models__net=BASE + "imports: [../blocks.yaml]\n",
        spec="model: {file: models/net.yaml, params: {classes: 3}, outputs: act}\ntrain: {epochs: 1}\n",
    )
    found = values()
    assert found["params"] == {"width": 8, "classes": 3}
    assert list(found["blocks"]) == ["MLP"]
    assert found["model"]["outputs"] == "act"
    assert found["train"] == {"epochs": 1}
    assert "file" not in found["model"]
    assert "params" not in found["model"]


def test_a_parameter_is_passed_on(write: Write) -> None:
    write(net=BASE, spec="params: {classes: 5}\nmodel: {file: net.yaml, params: {classes: $classes}}\n")
    assert values()["params"] == {"width": 8, "classes": 5}


def test_several_models_keep_their_parameters_apart(write: Write) -> None:
    write(
        net=BASE,
        gan=BASE.replace("model:", "models:\n generator:")
        .replace("  inputs", "   inputs")
        .replace("  layers:", "   layers:")
        .replace("\n    ", "\n      "),
        spec="params: {classes: 5}\nmodels:\n  teacher: {file: net.yaml, params: {classes: $classes}, freeze: true}\n"
        "  student: {file: gan.yaml#models.generator}\n",
    )
    models = values()["models"]
    assert models["teacher"]["params"] == {"width": 8, "classes": "$classes"}
    assert models["teacher"]["freeze"] is True
    assert models["student"]["params"] == {"width": 8, "classes": 10}
    assert list(models["student"]["layers"]) == ["fc", "act", "head"]
    assert values()["params"] == {"classes": 5}


@pytest.mark.parametrize(
    "text", ["epochs: 7\nloss: MSELoss\n", "netspec: 1\nname: x\ntrain: {epochs: 7, loss: MSELoss}\n"]
)
def test_a_section_is_a_file_or_stands_in_one(write: Write, text: str) -> None:
    write(train=text, spec=BASE.partition("train:")[0] + "train: {file: train.yaml, loss: L1Loss}\n")
    assert values()["train"] == {"epochs": 7, "loss": "L1Loss"}


def test_relative_paths_start_from_the_file_that_states_them(write: Write, tmp_path: Path) -> None:
    write(sub__data="source: {type: ImageFolder, root: images}\n", spec="data: {file: sub/data.yaml}\n")
    data = composed("data.split=3").document.items["data"]
    assert isinstance(data, Mapping)
    source = data.items["source"]
    assert isinstance(source, Mapping)
    assert directory_of(source.items["root"].span) == Path("sub")
    assert directory_of(data.items["split"].span) == Path()
    assert composed(path=str(tmp_path / "spec.yaml")).sources[1] == str(tmp_path / "sub" / "data.yaml")


# overrides


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("train.epochs=5", "train.epochs", 5),
        ("train.optimizer.lr=1e-3", "train.optimizer.lr", 0.001),
        ("train.metrics.1=Recall", "train.metrics.1", "Recall"),
        ("train.metrics=[Recall]", "train.metrics.0", "Recall"),
        ("train.optimizer={type: Adam}", "train.optimizer.type", "Adam"),
        ("train.scheduler=", "train.scheduler", None),
        ("train.clip_grad=1.5", "train.clip_grad", 1.5),
        ("train.checkpoint.keep=2", "train.checkpoint.keep", 2),
        ("description=a = b", "description", "a = b"),
        ("model.layers.fc.bias=false", "model.layers.fc.bias", False),
    ],
)
def test_override(write: Write, override: str, path: str, value: object) -> None:
    write(spec=BASE)
    found: Any = values(override)
    for step in path.split("."):
        found = found[int(step) if isinstance(found, list) else step]
    assert found == value
    assert composed(override).provenance(path)[-1][0].file == f"--set {override}"


def test_the_last_of_two_overrides_counts(write: Write) -> None:
    write(spec=BASE)
    assert values("train.epochs=5", "train.epochs=6")["train"]["epochs"] == 6


def test_an_override_replaces_a_mapping_whole(write: Write) -> None:
    write(spec=BASE)
    assert values("train.optimizer={type: Adam}")["train"]["optimizer"] == {"type": "Adam"}


def test_overrides_reach_what_a_file_brought_and_what_it_is_given(write: Write) -> None:
    write(net=BASE, other=BASE.replace("width: 8", "width: 99"), spec="model: {file: net.yaml}\n")
    assert values("params.width=5")["params"]["width"] == 5
    assert values("model.params.width=6")["params"]["width"] == 6
    assert values("model.file=other.yaml")["params"]["width"] == 99
    assert values("model.layers.fc.out_features=4")["model"]["layers"]["fc"]["out_features"] == 4


def test_a_new_key_needs_the_schema(write: Write) -> None:
    write(spec=BASE)
    diagnostics = Diagnostics()
    compose("spec.yaml", ["train.clip_grad=1"], diagnostics)
    assert [found.code for found in diagnostics] == ["NS041"]


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("train.epoch=5", "train.epochs"),
        ("trian.epochs=5", "train.epochs"),
        ("lr=5", "train.optimizer.lr"),
        ("train.clip_gard=5", "train.clip_grad"),
        ("params.widht=5", "params.width"),
    ],
)
def test_a_typo_in_an_override_is_answered_with_what_was_meant(write: Write, override: str, meant: str) -> None:
    write(spec=BASE)
    diagnostics = Diagnostics()
    compose("spec.yaml", [override], diagnostics, knows=knows, meant=suggest_path)
    (found,) = diagnostics
    assert (found.code, found.help) == ("NS041", f"did you mean `{meant}`?")


def test_mistakes_of_several_files_come_together(write: Write) -> None:
    write(base=BASE + "name: again\n", spec="extends: base.yaml\nimports: [none.yaml]\nx: {a: 1, a: 2}\n")
    assert codes("train.epoch=3", "bad") == ["NS040", "NS041", "NS020", "NS001", "NS020"]


# provenance


def test_provenance(write: Write) -> None:
    write(base=BASE, mid="extends: base.yaml\ntrain: {epochs: 4}\n", spec="extends: mid.yaml\ntrain: {epochs: 5}\n")
    found = composed("train.epochs=6")
    assert [(str(span), note) for span, note in found.provenance("train.epochs")] == [
        ("base.yaml:12:11", "`3`"),
        ("mid.yaml:2:17", "replaces it with `4`"),
        ("spec.yaml:2:17", "replaces it with `5`"),
        ("--set train.epochs=6", "replaces it with `6`"),
    ]
    assert [str(span) for span, _ in found.provenance("train.optimizer.lr")] == ["base.yaml:13:30"]
    assert found.provenance("train.nothing") == []


def test_provenance_follows_sections_that_moved(write: Write) -> None:
    write(
        base=BASE,
        net="extends: base.yaml\nname: net\nmodel: {layers: {act: GELU}}\n",
        spec="models: {a: {file: net.yaml, params: {width: 3}}}\n",
    )
    origins = composed().provenance("models.a.layers.act")
    assert [(str(span), note) for span, note in origins] == [
        ("base.yaml:9:10", "`ReLU`"),
        ("net.yaml:3:23", "replaces it with `GELU`"),
    ]


# in memory


def test_a_mapping() -> None:
    spec = {"netspec": 1, "name": "net", "params": {"sizes": (1, 2), "rate": 1e-5, "act": "on"}, "train": {"epochs": 3}}
    found = compose_mapping(spec, ["train.epochs=4"])
    assert found is not None
    assert plain(found.document) == {
        **spec,
        "params": {"sizes": [1, 2], "rate": 1e-5, "act": "on"},
        "train": {"epochs": 4},
    }
    assert found.document.items["name"].span == Span("<mapping>", 2, 7, 2, 10)


@pytest.mark.parametrize(
    "spec", [{"a": object()}, {"a": {1: 2}}, {"a": [{2}]}, {"a": b"x"}], ids=["object", "number", "set", "bytes"]
)
def test_a_mapping_holds_what_yaml_can_say(spec: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as caught:
        compose_mapping(spec)
    assert [found.code for found in caught.value.diagnostics] == ["NS028"]


def test_a_mapping_that_holds_itself() -> None:
    spec: dict[str, Any] = {}
    spec["a"] = spec
    with pytest.raises(SpecError):
        compose_mapping(spec)


def test_no_mapping_at_all() -> None:
    with pytest.raises(SpecError, match="NS005"):
        compose_mapping([1])


# resolved text


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_the_resolved_text_is_the_spec(path: Path) -> None:
    found = compose(path)
    assert found is not None
    text = resolved_text(found)
    assert not {"extends", "imports", "remove"} & set(found.document.items)
    again = compose_mapping(plain(parse_document(text, "again", Diagnostics()) or found.document))
    assert again is not None
    assert resolved_text(again) == text
    assert plain(again.document) == plain(found.document)


def test_the_resolved_text_is_the_same_however_it_was_written(write: Write) -> None:
    write(
        one="netspec: 1\nname: n\ntrain: {epochs: 3, lr: 1e-3} # fast\nmodel: {layers: {b: ReLU, a: GELU}}\n",
        two="model:\n  layers:\n    b: 'ReLU'\n    a: GELU\nname: n\nnetspec: 0x1\ntrain:\n  epochs: 3\n  lr: 0.001\n",
        three="model:\n  layers:\n    a: GELU\n    b: ReLU\nname: n\nnetspec: 1\ntrain: {epochs: 3, lr: 0.001}\n",
    )
    one, two, three = (resolved_text(composed(path=f"{name}.yaml")) for name in ("one", "two", "three"))
    assert one == two
    assert one != three, "the order of layers means something"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.text(alphabet="abc.$() :#-'\n😀\x85", max_size=6), JSON, min_size=1))
def test_any_values_survive_as_text(spec: dict[str, Any]) -> None:
    found = compose_mapping(spec)
    assert found is not None
    assert plain(found.document) == spec
    again = parse_document(resolved_text(found), "again", Diagnostics())
    assert again is not None
    assert plain(again) == spec


# robustness


def test_files_that_double_what_they_hold(write: Write) -> None:
    texts = {
        f"f{i}": f"models: {{a: {{file: f{i + 1}.yaml#models}}, b: {{file: f{i + 1}.yaml#models}}}}\n"
        for i in range(30)
    }
    write(**texts, f30="models: {a: {layers: [ReLU]}}\n", spec="models: {a: {file: f0.yaml#models}}\n")
    assert set(codes()) == {"NS007"}


def test_files_in_a_long_row(write: Write) -> None:
    write(**{f"f{i}": f"extends: f{i + 1}.yaml\n" for i in range(60)}, f60="name: x\n", spec="extends: f0.yaml\n")
    assert codes() == ["NS032"]


def test_files_inside_each_other(write: Write) -> None:
    deep = "models: {a: " + "{x: " * 60 + "%s" + "}" * 60 + "}\n"
    write(
        inner=deep % "1",
        outer="models: {a: {file: inner.yaml#models}}\n",
        spec="models: {a: {file: outer.yaml#models}}\n",
    )
    assert codes() == []
    write(spec="models:\n  a: {file: outer.yaml#models, a: {a: " + "{x: " * 60 + "{y: " * 60 + "1" + "}" * 122 + "}\n")
    assert set(codes()) == {"NS008"}


def test_an_override_of_something_too_deep(write: Write) -> None:
    write(spec=BASE)
    assert codes("model" + ".layers.a" * 60 + ".type=ReLU") == ["NS008"]


NASTY = "abc.=[]{}:,#&*!|'\"$()\n\t 01\x85é-~<"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("composed")
    (folder / "base.yaml").write_text(BASE, encoding="utf-8")
    (folder / "blocks.yaml").write_text(BLOCK, encoding="utf-8")
    return folder


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(
        ["", "train.", "train.optimizer.lr", "model.layers.fc.", "params.width", "train.metrics.0", "model.file"]
    ),
    st.text(alphabet=NASTY, max_size=12),
)
def test_any_override_gives_diagnostics_only(base: Path, path: str, rest: str) -> None:
    diagnostics = Diagnostics()
    found = compose(base / "base.yaml", [path + rest], diagnostics, knows=knows, meant=suggest_path)
    assert found is not None
    render(diagnostics)
    if not diagnostics.has_errors:
        assert parse_document(resolved_text(found), "again", Diagnostics()) is not None


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from(["extends", "imports", "remove", "model", "models", "data", "train", "params", "blocks"]),
        st.recursive(
            st.sampled_from(
                ["base.yaml", "base.yaml#model", "blocks.yaml", "spec.yaml", "none", "$width", "", 3, None, "model"]
            )
            | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["file", "params", "width", "MLP", "layers", "x"]), inner)
            ),
            max_leaves=6,
        ),
        min_size=1,
    )
)
def test_any_use_of_files_gives_diagnostics_only(base: Path, spec: dict[str, Any]) -> None:
    file = base / "spec.yaml"
    file.write_text(json.dumps(spec), encoding="utf-8")
    diagnostics = Diagnostics()
    found = compose(file, ["model.params.width=3"], diagnostics, knows=knows, meant=suggest_path)
    render(diagnostics)
    if found is not None and not diagnostics.has_errors:
        assert not {"extends", "imports", "remove"} & set(found.document.items)
        assert parse_document(resolved_text(found), "again", Diagnostics()) is not None
