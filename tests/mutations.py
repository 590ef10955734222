"""Specs with random mistakes, and a process with limits that compiles them.

A mutation changes the text (a character, a line, an indentation) or the tree (a value, a key, a layer more). Run as
`python mutations.py FOLDER FIRST LAST`: every seed of that range is a spec of FOLDER with one to three mutations. What
ends in anything but diagnostics or a program, in more than 5 seconds of the processor or in more than 1 GiB, is
printed with its seed.
"""

from __future__ import annotations

import copy
import json
import resource
import signal
import sys
import traceback
from pathlib import Path
from random import Random
from typing import Any

import yaml

SECONDS = 5.0
MEMORY = 1 << 30

ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**63,
    -(2**63) - 1,
    10**40,
    1e308,
    float("inf"),
    float("nan"),
    "",
    " ",
    "$",
    "$$",
    "$(",
    "$x",
    "$()",
    "$(1/0)",
    "$(10 ** 1000)",
    "$(2 ** 62)",
    "$([0] * 10 ** 9)",
    "$([i for i in range(10 ** 9)])",
    "$('a' * 10 ** 9)",
    "$(sum([1, 2]))",
    "$(x[0])",
    "$(sqrt(-1))",
    "$(log(0))",
    "$(int('x'))",
    "$(shape(x))",
    "$(shape(x)[9])",
    "$(((((((((((1)))))))))))",
    "$(" + "(" * 300,
    "$(" + "-" * 300 + "1)",
    "x.y.z",
    "previous",
    "x",
    "N",
    "_",
    "...",
    "16*h",
    "0*h",
    "*",
    "[",
    "__class__",
    "os.system",
    "torch.load",
    "a" * 5000,
    "é\u202e\u0000\ud800",
    "'; import os #",
    '"""',
    "\\",
    "Conv2d",
    "relu",
    "cat",
    "LSTM",
    "Buffer",
    "Parameter",
    "MultiheadAttention",
    [],
    {},
    [[]],
    [None],
    {"": None},
    ["N", 3, "H", "W"],
    ["..."],
    [2**40, 2**40],
    {"type": "Conv2d"},
    {"type": "relu"},
    {"layers": []},
    {"layers": {"a": "ReLU"}},
    {"compute": "x + x"},
    {"use": "x"},
    {"for": {"i": 10**9}, "type": "ReLU"},
    {"for": {"i": 3, "j": [1]}, "type": "ReLU"},
    {"repeat": 200, "layers": [{"repeat": 200, "type": "ReLU"}]},
    {"type": "Linear", "out_features": 2**62},
    {"type": "Conv2d", "out_channels": 8, "kernel_size": 10**12},
    {"type": "reshape", "shape": [-1, -1]},
    {"type": "cat", "from": "x", "dim": 99},
    {"branches": ["ReLU", "Tanh"]},
    {"branches": {"a": "ReLU", "b": {"type": "Linear", "out_features": 3}}},
    {"each": "x", "type": "ReLU"},
    {"select": "mode", "of": {"a": "ReLU"}},
    {"when": "training", "type": "ReLU"},
    {"list": ["N", 3]},
    {"type": "TransformerEncoderLayer", "nhead": 2},
    {"type": "TransformerEncoder", "encoder_layer": {"type": "TransformerEncoderLayer", "nhead": 1}, "num_layers": 2},
    {"type": "Conv2dNormActivation", "out_channels": 4, "norm_layer": {"type": "GroupNorm", "num_groups": 2}},
    {"type": "MLP", "hidden_channels": [4, 4], "activation_layer": "$x"},
    {"type": "LayerNorm"},
)
KEYS = (
    "type", "from", "use", "compute", "layers", "if", "for", "repeat", "inline", "branches", "each", "select", "of",
    "when", "initialize", "freeze", "expect", "inputs", "outputs", "let", "params", "blocks", "model", "models", "tie",
    "encoder_layer", "norm", "norm_layer", "activation", "num_layers",
    "data", "train", "extends", "imports", "remove", "name", "netspec", "description", "file", "x", "self", "forward",
    "0", "a.b", "$i", "layer$(i)", "class", "training", "weight", "",
)  # fmt: skip
CHARACTERS = "{}[]:,#&*!|>'\"%@`$()\\\t\n -?0aé\u00a0\ufeff\u2028"


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every container of a tree with each of its keys or positions."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in keys:
            found.append((one, key))
            waiting.append(one[key])
    return found


def change_tree(tree: Any, random: Random) -> None:
    """One mistake in a document, in place."""
    known = places(tree)
    if not known:
        return
    owner, key = random.choice(known)
    other_owner, other_key = random.choice(known)
    match random.randrange(9):
        case 0 | 1:
            owner[key] = copy.deepcopy(random.choice(ODD))
        case 2:
            del owner[key]
        case 3:
            owner[key] = copy.deepcopy(other_owner[other_key])
        case 4 if isinstance(owner, dict):
            owner[random.choice((*KEYS, str(key) + "s", str(key)[:-1], str(other_key)))] = owner.pop(key)
        case 5 if isinstance(owner, dict):
            owner[random.choice(KEYS)] = copy.deepcopy(random.choice((*ODD, other_owner[other_key])))
        case 5 | 6 if isinstance(owner, list):
            owner.insert(random.randrange(len(owner) + 1), copy.deepcopy(random.choice((*ODD, other_owner[other_key]))))
        case 7:
            owner[key] = random.choice(([owner[key]], {random.choice(KEYS): owner[key]}))
        case _:
            owner[key], other_owner[other_key] = other_owner[other_key], copy.deepcopy(owner[key])


def change_text(text: str, random: Random) -> str:
    """One mistake in a text."""
    lines = text.split("\n")
    at = random.randrange(len(lines))
    place = random.randrange(len(text) + 1)
    match random.randrange(8):
        case 0:
            return text[:place] + random.choice(CHARACTERS) + text[place:]
        case 1:
            return text[:place] + text[place + random.choice((1, 1, 1, 5, 40)) :]
        case 2:
            del lines[at]
        case 3:
            lines.insert(at, random.choice(lines))
        case 4:
            lines[at] = " " * random.choice((1, 2, 4)) + lines[at]
        case 5:
            lines[at] = lines[at].removeprefix("  ")
        case 6:
            return text[:place]
        case _:
            other = random.randrange(len(text) + 1)
            start, end = sorted((place, other))
            return text[:end] + text[start : min(end, start + 200)] + text[end:]
    return "\n".join(lines)


def mutated(text: str, random: Random) -> str:
    """A spec's text with one to three mistakes."""
    if random.random() < 0.7:
        tree = yaml.safe_load(text)
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            change_tree(tree, random)
        try:
            return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=100)
        except (RecursionError, UnicodeEncodeError):
            return text
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        text = change_text(text, random)
    return text


def compiled(file: Path) -> str:
    """What becomes of a spec: `program` or the codes of its mistakes."""
    from netspec.compiler import check
    from netspec.diagnostics import Diagnostics
    from netspec.render import render, to_json, to_sarif
    from netspec.table import layer_table

    diagnostics = Diagnostics()
    program = check(file, [], diagnostics)
    for form in (render, to_json, to_sarif):
        form(list(diagnostics))
    if program is None:
        return " ".join(sorted({d.code for d in diagnostics}))
    layer_table(program)
    program.source("spec.yaml")
    program.layer_graph()
    return "program"


class TooLong(Exception):
    """A spec took more of the processor than any spec may."""


def _too_long(*_: Any) -> None:
    raise TooLong


def run(folder: Path, first: int, last: int) -> None:
    files = sorted(file for file in folder.rglob("*.yaml"))
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, _too_long)
    outcomes: dict[str, int] = {}
    for seed in range(first, last):
        random = Random(f"mutation {seed}")
        file = random.choice(files)
        text = mutated(texts[file], random)
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            outcome = compiled(file)
        except BaseException as error:
            outcome = "failure"
            told = {
                "seed": seed,
                "file": file.name,
                "error": f"{type(error).__name__}: {error}"[:300],
                "where": traceback.format_exc().splitlines()[-13:],
                "text": text if len(text) < 6000 else text[:6000],
            }
            print(json.dumps(told), flush=True)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            file.write_text(texts[file], encoding="utf-8")
        kind = outcome if outcome in ("program", "failure") else "diagnostics"
        outcomes[kind] = outcomes.get(kind, 0) + 1
    print(json.dumps({"outcomes": outcomes}), flush=True)


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
