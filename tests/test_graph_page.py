"""The page of `netspec graph -o x.html`, in a real browser: blocks open, search finds, nothing is loaded or run that is
not ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from browser_support import CHROMIUM, Browser, browser

import netspec
from netspec.cli import main
from netspec.graph_page import page_data, to_page

ROOT = Path(__file__).resolve().parent.parent
RESNET = ROOT / "specs" / "imagenet" / "resnet18.yaml"

NASTY = """\
netspec: 1
name: nasty
description: "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 2'>"
model:
  inputs: {x: [N, 4, 8, 8]}
  layers:
    conv: {type: Conv2d, out_channels: 4, kernel_size: 3, padding: 1}
    body:
      layers:
        one: {type: Conv2d, out_channels: 4, kernel_size: 3, padding: 1}
        two: {use: one}
        mask: {compute: two * (two < one)}
    norm: {type: BatchNorm2d, freeze: true}
"""

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


class _Parts(HTMLParser):
    """The elements of a page with their attributes, and the text of the data."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.data = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][1].get("id") == "graph-data" and not self.data:
            self.data = data


@pytest.fixture
def nasty(tmp_path: Path) -> Path:
    (tmp_path / "nasty.yaml").write_text(NASTY, encoding="utf-8")
    return tmp_path / "nasty.yaml"


@pytest.fixture(scope="module")
def shared() -> Iterator[Browser]:
    with browser() as tab:
        yield tab


@pytest.fixture
def tab(shared: Browser) -> Iterator[Browser]:
    yield shared
    assert shared.problems == []


def shown(tab: Browser) -> list[str]:
    """The paths of what is drawn."""
    paths: list[str] = tab.evaluate("[...document.querySelectorAll('.node')].map(node => node.dataset.path)")
    return paths


def open_page(tab: Browser, spec: Path, folder: Path, depth: int = 1) -> dict[str, Any]:
    program = netspec.compile(spec)
    file = folder / f"{program.name}.html"
    file.write_text(to_page(program, depth), encoding="utf-8")
    tab.open(file.as_uri())
    return page_data(program)


def test_what_the_spec_says_is_data_in_the_page(nasty: Path) -> None:
    page = to_page(netspec.compile(nasty))
    parts = _Parts(page)
    assert [tag for tag, _ in parts.elements].count("script") == 2
    assert not {"img", "link", "iframe"} & {tag for tag, _ in parts.elements}
    assert not any({"src", "href", "onerror"} & attributes.keys() for _, attributes in parts.elements)
    assert "<" not in parts.data and "&" not in parts.data
    assert any(node["type"] == "two * (two < one)" for node in json.loads(parts.data)["nodes"])


def test_the_policy_lets_nothing_in(nasty: Path) -> None:
    policy = next(a["content"] for _, a in _Parts(to_page(netspec.compile(nasty))).elements if "http-equiv" in a)
    assert policy is not None and policy.startswith("default-src 'none'; ")
    assert "script-src 'sha256-" in policy and not re.search(r"https?:|\*", policy)


def test_the_data_hold_the_graph_and_the_costs() -> None:
    program = netspec.compile(RESNET)
    data = page_data(program)
    nodes = data["nodes"]
    drawn = {
        (nodes[e["from"]]["path"], nodes[e["to"]]["path"]) for e in data["edges"] if nodes[e["to"]]["kind"] != "output"
    }
    assert drawn == set(program.graph.edges)
    assert nx.is_directed_acyclic_graph(nx.DiGraph([(edge["from"], edge["to"]) for edge in data["edges"]]))
    top = [node for node in nodes if node["parent"] < 0]
    assert sum(node["parameters"] for node in top) == 11_689_512
    by_path = {node["path"]: node for node in nodes}
    conv = by_path["layer2.0.conv1"]
    assert nodes[conv["parent"]]["path"] == "layer2.0"
    assert ("stride", "2", "") in conv["arguments"] and ("in_channels", "64", "inferred") in conv["arguments"]
    assert conv["outputs"] == [("", "[N, 128, 28, 28] float32")]
    assert re.fullmatch(r".*resnet\.yaml:\d+", conv["place"])
    assert nodes[by_path["layer1.0.out"]["shares"]]["path"] == "layer1.0.relu"


@needs_browser
def test_a_page_runs_only_what_is_ours(tab: Browser, nasty: Path, tmp_path: Path) -> None:
    open_page(tab, nasty, tmp_path)
    assert tab.evaluate("window.broken") is None
    assert tab.evaluate("document.querySelector('header p').textContent").startswith("</script><script>window.broken")
    assert shown(tab) == ["x", "conv", "body", "norm", "output norm"]
    assert tab.evaluate("document.querySelectorAll('script, img').length") == 2


@needs_browser
def test_blocks_open_in_place_and_edges_follow(tab: Browser, tmp_path: Path) -> None:
    data = open_page(tab, RESNET, tmp_path)
    top = [node["path"] for node in data["nodes"] if node["parent"] < 0]
    assert sorted(shown(tab)) == sorted(top)
    number = next(i for i, node in enumerate(data["nodes"]) if node["path"] == "layer2")
    before = tab.evaluate(f"document.querySelector('#node-{number} .box').getBoundingClientRect().y")
    tab.click(f"#node-{number} .fold")
    assert {"layer2.0", "layer2.1"} <= set(shown(tab)) and "layer2.0.conv1" not in shown(tab)
    after = tab.evaluate(f"document.querySelector('#node-{number} .box').getBoundingClientRect().y")
    assert abs(before - after) < 1
    inside = tab.evaluate("placed.lines.filter(line => line.label === '[N, 128, 28, 28]').length")
    assert inside == 2  # from 0 to 1, and out of the block
    tab.click(f"#node-{number} .fold")
    assert sorted(shown(tab)) == sorted(top)


@needs_browser
@pytest.mark.parametrize("name", ["googlenet", "densenet121", "vit_b_16", "shufflenet_v2_x1_0"])
def test_nothing_overlaps_when_all_is_open(tab: Browser, name: str, tmp_path: Path) -> None:
    data = open_page(tab, ROOT / f"specs/imagenet/{name}.yaml", tmp_path)
    tab.click("#open-all")
    assert len(shown(tab)) == len(data["nodes"])
    boxes = {int(key): box for key, box in tab.evaluate("placed.items").items()}
    members: dict[int, list[int]] = {}
    for number, node in enumerate(data["nodes"]):
        members.setdefault(node["parent"], []).append(number)
        if node["parent"] >= 0:
            box, frame = boxes[number], boxes[node["parent"]]
            assert frame["x"] <= box["x"] and box["x"] + box["w"] <= frame["x"] + frame["w"]
            assert frame["y"] + 30 <= box["y"] and box["y"] + box["h"] <= frame["y"] + frame["h"]
    for beside in members.values():
        for place, a in enumerate(beside):
            for b in beside[place + 1 :]:
                one, other = boxes[a], boxes[b]
                apart = (
                    one["x"] + one["w"] <= other["x"]
                    or other["x"] + other["w"] <= one["x"]
                    or one["y"] + one["h"] <= other["y"]
                    or other["y"] + other["h"] <= one["y"]
                )
                assert apart, f"{data['nodes'][a]['path']} lies over {data['nodes'][b]['path']}"
    for edge in data["edges"]:
        one, other = data["nodes"][edge["from"]], data["nodes"][edge["to"]]
        if one["parent"] == other["parent"]:
            assert boxes[edge["from"]]["y"] + boxes[edge["from"]]["h"] < boxes[edge["to"]]["y"]


@needs_browser
def test_search_opens_and_marks_what_it_finds(tab: Browser, tmp_path: Path) -> None:
    data = open_page(tab, RESNET, tmp_path)
    tab.key("/")
    tab.type("downsample")
    tab.wait("document.getElementById('found').textContent === '1 of 8'")
    matches = tab.evaluate("[...document.querySelectorAll('.match')].map(node => node.dataset.path)")
    assert sorted(matches) == [f"layer{stage}.{copy}.downsample" for stage in (1, 2, 3, 4) for copy in (0, 1)]
    tab.key("Enter")
    tab.wait("document.getElementById('found').textContent === '2 of 8'")
    tab.evaluate("search.value = 'batchnorm2d'; look()")
    count = sum(node["type"] == "BatchNorm2d" for node in data["nodes"])
    assert tab.evaluate("document.querySelectorAll('.match').length") == count
    tab.evaluate("search.value = 'nowhere'; look()")
    assert tab.evaluate("document.getElementById('found').textContent") == "nothing"


@needs_browser
def test_the_panel_tells_of_a_layer(tab: Browser, nasty: Path, tmp_path: Path) -> None:
    data = open_page(tab, nasty, tmp_path, depth=2)
    number = next(i for i, node in enumerate(data["nodes"]) if node["path"] == "body.two")
    tab.click(f"#node-{number}")
    text = tab.evaluate("document.getElementById('details').innerText")
    assert "weights of\nbody.one" in text and "[N, 4, 8, 8] float32" in text and "nasty.yaml:11" in text
    assert tab.evaluate("document.querySelector('.lender').dataset.path") == "body.one"
    tab.click("#details .link")
    text = tab.evaluate("document.getElementById('details').innerText")
    assert "kernel_size\t3" in text and "in_channels\t4inferred" in text and "parameters\n148" in text
    tab.key("Escape")
    assert tab.evaluate("document.getElementById('panel').hidden")


@needs_browser
def test_the_keyboard_does_all(tab: Browser, nasty: Path, tmp_path: Path) -> None:
    open_page(tab, nasty, tmp_path)
    focused = "document.activeElement.dataset.path"
    tab.evaluate("document.querySelector('.node[tabindex=\"0\"]').focus()")
    assert tab.evaluate(focused) == "x"
    for _ in range(2):
        tab.key("ArrowDown")
    assert tab.evaluate(focused) == "body"
    assert "body.one" not in shown(tab)
    tab.key(" ")
    assert "body.one" in shown(tab) and tab.evaluate(focused) == "body"
    assert tab.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    tab.key("PageDown")
    assert tab.evaluate(focused) == "body.one"
    tab.key("Enter")
    assert not tab.evaluate("document.getElementById('panel').hidden")
    tab.key("c")
    assert "body.one" not in shown(tab)
    before = tab.evaluate("view.k")
    tab.key("+")
    assert tab.evaluate("view.k") > before


@needs_browser
def test_pan_zoom_and_both_colour_schemes(tab: Browser, tmp_path: Path) -> None:
    open_page(tab, RESNET, tmp_path)
    start = tab.evaluate("[view.x, view.y, view.k]")
    wheel = {"type": "mouseWheel", "x": 400, "y": 400, "deltaX": 0, "deltaY": 120}
    tab.call("Input.dispatchMouseEvent", **wheel)
    tab.wait(f"view.y < {start[1]} && view.k === {start[2]}")
    tab.call("Input.dispatchMouseEvent", **wheel, modifiers=2)
    tab.wait(f"view.k < {start[2]}")
    background = "getComputedStyle(document.body).backgroundColor"
    colours = set()
    for scheme in ("light", "dark"):
        tab.prefer(scheme)
        colours.add(tab.evaluate(background))
    assert len(colours) == 2


def test_the_command_writes_the_page(nasty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.html"
    assert main(["graph", str(nasty), "--depth", "2", "-o", str(file)]) == 0
    assert json.loads(_Parts(file.read_text("utf-8")).data)["depth"] == 2
    assert capsys.readouterr().out.endswith("x.html: 6 layers drawn\n")
