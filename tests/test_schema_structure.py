"""The structure of a document is stated once: its keys are those that are read, and all its readers agree on it.

jsonschema is the judge of values, and the oracle of the quick answer that mostly spares its import; the schema for
editors is held against what `validate` reports.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from netspec import catalog
from netspec.catalog.kinds import accepts, json_schema
from netspec.diagnostics import Diagnostics
from netspec.document import parse_document, plain
from netspec.recipe.data import DataRecipe, Split
from netspec.recipe.train import Checkpoint, ClipGrad, Duration, EarlyStopping, Scheduler, TrainRecipe, WarmUp
from netspec.schema import UNSUPPORTED, editor_schema
from netspec.schema.accept import acceptor
from netspec.schema.engine import bare, validator_class
from netspec.schema.sections import BESIDE
from netspec.schema.structure import KINDS, STEERING
from netspec.schema.typed import CATEGORIES, entry_schema, word_of
from netspec.spec import STEERING as STEERING_OF_SPECS
from netspec.spec import TYPE_WORDS

ROOT = Path(__file__).resolve().parent.parent
SPECS = sorted((ROOT / "specs").rglob("*.yaml"))
GOLDEN = ROOT / "tests" / "golden" / "diagnostics"
PUBLISHED = ROOT / "netspec" / "schema" / "netspec.schema.json"

ENTRIES = [
    (kind, entry)
    for kind, category in (("layer", None), *CATEGORIES.items())
    for name in catalog.names(category)
    if (entry := catalog.lookup(name, category)) is not None
]


def plain_document(path: Path) -> Any:
    document = parse_document(path.read_text(encoding="utf-8"), path.name, Diagnostics())
    assert document is not None
    return plain(document)


# One statement of each key


def test_the_steering_keys_are_those_that_specs_are_read_by() -> None:
    assert {key for key in STEERING if f"layer.{key}" not in UNSUPPORTED} <= STEERING_OF_SPECS <= set(STEERING)


def test_no_argument_is_called_as_a_steering_key() -> None:
    layers = [entry for kind, entry in ENTRIES if kind == "layer"]
    assert [(e.name, a.name) for e in layers for a in e.arguments if a.name in STEERING] == []


def test_type_words() -> None:
    for word in (*TYPE_WORDS, "tensor"):
        params = parse_document(f"p: {word}", "spec.yaml", Diagnostics())
        assert params is not None
        assert (word_of(params.items["p"]) == word) == (word in TYPE_WORDS)


def keys(kind: str) -> set[str]:
    schema = next(s for s in (KINDS[kind], *KINDS[kind].get("anyOf", ())) if "properties" in s)
    return {key for key in schema["properties"] if f"{kind}.{key}" not in UNSUPPORTED}


def names(record: type, **spelled: set[str]) -> set[str]:
    """The fields of a dataclass, as the spec spells them."""
    return {key for field in fields(record) for key in spelled.get(field.name, {field.name})}


def test_the_keys_of_train_are_the_fields_of_the_recipe() -> None:
    spelled = {"length": {"epochs", "steps"}, "losses": {"loss"}, "objective": {"layers"}, "paths": set[str]()}
    assert keys("train") == names(TrainRecipe, **spelled)
    assert keys("checkpoint") == names(Checkpoint)
    assert keys("early_stopping") == names(EarlyStopping)
    assert keys("clip_grad") == names(ClipGrad)
    assert keys("duration") == names(Duration)
    assert keys("warmup") == names(WarmUp, length=names(Duration))
    assert set(BESIDE["scheduler"]) == names(Scheduler, type=set(), target=set(), arguments=set())


def test_the_keys_of_data_are_the_fields_of_the_recipe() -> None:
    sampling = {"sampler": {"sampler", "balance"}}
    inferred: dict[str, set[str]] = {"name": set(), "fractional": set(), "fields": set()}
    split = names(Split, **sampling, **inferred)
    assert keys("dataset") == split | {"shuffle"}
    whole = names(
        DataRecipe, splits={"train", "val", "test"}, cut={"split"}, select={"fields"}, paths=set(), auto=set()
    )
    assert keys("data") == whole | split


# jsonschema is the judge, and what spares us its import agrees with it


SCALARS = [None, True, False, *range(-2, 4), 0.0, 0.5, 1.0, 1.5, 2.0, float("inf"), float("nan"), "", "x", "$x", "a $x"]
LISTS = [
    [],
    *([one] * count for one in (1, 0, -1, 0.5, 1.0, "x", "$x", True, None) for count in (1, 2, 3)),
    [1, "x"],
    [[1]],
]
MAPPINGS: list[Any] = [{}, {"x": 1}, {"x": "x"}, {"x": [1]}, {"type": "x"}, {"match": "x"}, {"epochs": 1}, {"norm": -1}]


def forms() -> Iterator[Any]:
    """Every schema that a whole place is ever held against."""
    for schema in KINDS.values():
        yield from (bare(part) for part in schema.get("anyOf", [schema]))
    yield from (bare(entry_schema(kind, entry.name)) for kind, entry in ENTRIES)


FORMS = list(forms())
RECORDS = [form for form in FORMS if isinstance(form, dict) and "properties" in form]
INSIDE = {json.dumps(inside): inside for form in RECORDS for inside in form["properties"].values()}


def words(form: Any) -> list[Any]:
    """The choices that a schema names, at any depth."""
    if isinstance(form, list):
        return [word for part in form for word in words(part)]
    return [*form.get("enum", []), *words(list(form.values()))] if isinstance(form, dict) else []


@pytest.mark.parametrize("form", [*INSIDE.values(), *FORMS[: len(KINDS)]], ids=lambda form: json.dumps(form)[:60])
def test_the_quick_answer_is_jsonschemas(form: Any) -> None:
    fits, judge = acceptor(form), validator_class()(form)
    for value in (*SCALARS, *LISTS, *MAPPINGS, *words(form)):
        assert fits(value) == judge.is_valid(value), value


VALUES = st.sampled_from([*SCALARS, *LISTS, *MAPPINGS])


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_the_quick_answer_about_keys_is_jsonschemas(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(RECORDS))
    chosen = data.draw(st.lists(st.sampled_from([*form["properties"], "other"]), max_size=4))
    needed = form.get("required", []) if data.draw(st.booleans()) else []
    value = {key: data.draw(VALUES) for key in (*chosen, *needed)}
    assert acceptor(form)(value) == validator_class()(form).is_valid(value)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from([a for _, entry in ENTRIES for a in entry.arguments]), VALUES)
def test_a_value_is_judged_alike_written_out_and_evaluated(argument: catalog.Argument, value: Any) -> None:
    if "tensor" in argument.kind or argument.takes_module or argument.takes_class:
        return  # of these the schema says less than `accepts`
    assert validator_class()(json_schema(argument)).is_valid(value) == (accepts(argument, value) is None)


@pytest.mark.parametrize(("kind", "entry"), ENTRIES, ids=lambda value: getattr(value, "name", value))
def test_every_entry_takes_its_defaults_and_expressions(kind: str, entry: catalog.Entry) -> None:
    fits = acceptor(bare(entry_schema(kind, entry.name)))
    given = {
        a.name: "$value" if a.required else _as_yaml(a.default)
        for a in entry.arguments
        if not a.inferred and a.name not in BESIDE.get(kind, {})
    }
    beside = {"type": entry.name} if kind != "layer" or "type" not in given else {}
    assert fits({**given, **beside})
    assert fits({**dict.fromkeys(given, "$(width * 2)"), **beside})


def _as_yaml(value: Any) -> Any:
    return [_as_yaml(item) for item in value] if isinstance(value, tuple) else value


# The schema for editors


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_real_specs_pass_in_an_editor(path: Path) -> None:
    document = plain_document(path)
    assert [error.message for error in Draft7Validator(editor_schema()).iter_errors(document)] == []


def test_the_published_schema_is_the_current_one() -> None:
    text = json.dumps(editor_schema(), indent=2, ensure_ascii=False) + "\n"
    assert PUBLISHED.read_text(encoding="utf-8") == text, (
        "write it anew: netspec schema -o netspec/schema/netspec.schema.json"
    )


def test_the_published_schema_is_draft_07_and_knows_all_it_refers_to() -> None:
    schema = editor_schema()
    Draft7Validator.check_schema(schema)
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert set(_references(schema)) == {f"#/definitions/{name}" for name in schema["definitions"]}


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for part in schema.values():
            yield from _references(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _references(part)


COMPUTED = "wrong by what an expression gives, and an editor evaluates none"

ONLY_VALIDATE = {
    "NS103_block_parameter": "what a block takes is in the document, not in the schema",
    "NS103_whole_float": "in JSON Schema 3.0 is an integer",
    "NS106_block": "what a block takes is in the document, not in the schema",
    "NS107_block": "what a block takes is in the document, not in the schema",
    "NS107_bare": "a name alone may be a block's",
    "NS101_params_of_the_model": "beside `file` they are right",
    "NS102_inputs": "the rest may stand in a base",
    "NS102_model": "the rest may stand in a base",
    "NS103_block_word": COMPUTED,
    "NS103_null_layer": COMPUTED,
    "NS103_by_value": COMPUTED,
    "NS103_computed_float": COMPUTED,
    "NS103_if_text": COMPUTED,
    "NS103_initializer_value": COMPUTED,
    "NS103_type_is_a_number": COMPUTED,
    "NS104_computed": COMPUTED,
    "NS106_by_value": COMPUTED,
    "NS107_by_value": COMPUTED,
}
"""What only `validate` reports, and why."""


@pytest.mark.parametrize(
    "folder",
    [f for f in sorted(GOLDEN.glob("NS10[123467]_*")) if f.name not in ONLY_VALIDATE],
    ids=lambda folder: folder.name,
)
def test_an_editor_underlines_what_validate_reports(folder: Path) -> None:
    assert not Draft7Validator(editor_schema()).is_valid(plain_document(folder / "spec.yaml"))


@pytest.mark.parametrize("name", ONLY_VALIDATE)
def test_an_exception_of_the_editor_is_still_needed(name: str) -> None:
    assert Draft7Validator(editor_schema()).is_valid(plain_document(GOLDEN / name / "spec.yaml"))
    if ONLY_VALIDATE[name] is COMPUTED:
        assert "$" in (GOLDEN / name / "spec.yaml").read_text("utf-8").partition("\nmodel:")[2]
