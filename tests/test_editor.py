"""A real editor's language server, spoken to over LSP, completes, explains and checks a spec by the published schema.

The server is Red Hat's yaml-language-server, which VS Code and Neovim use for YAML. It is installed with npm into
pytest's cache; without node, npm or a network the tests are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netspec.catalog import lookup
from netspec.schema.structure import STEERING

ROOT = Path(__file__).parent.parent
SPEC = ROOT / "specs" / "imagenet" / "resnet50.yaml"
PACKAGE = "yaml-language-server@1"


class Server:
    """A language server on the other end of two pipes."""

    def __init__(self, program: Path) -> None:
        command = ["node", str(program), "--stdio"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
        )
        self.count = 0
        self.diagnostics: dict[str, list[dict[str, Any]]] = {}
        self.request("initialize", {"processId": os.getpid(), "rootUri": ROOT.as_uri(), "capabilities": CAPABILITIES})
        self.notify("initialized", {})
        self.notify("workspace/didChangeConfiguration", {"settings": SETTINGS})

    def close(self) -> None:
        self.request("shutdown", None)
        self.notify("exit", None)
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=10)
        self.process.stdout.close()

    def open(self, text: str, folder: Path = SPEC.parent) -> str:
        """Open a text as if it were a new spec in the folder, and wait until it has been checked."""
        self.count += 1
        uri = (folder / f"unsaved_{self.count}.yaml").as_uri()
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": document})
        while uri not in self.diagnostics:
            self.read()
        return uri

    def ask(self, method: str, text: str, place: str) -> Any:
        """Ask about the place in the text that `|` marks in `place`; the text is opened with the mark taken out."""
        before, after = place.split("|")
        assert text.count(before + after) == 1, "the place is unique"
        offset = text.index(before + after) + len(before)
        line, column = text.count("\n", 0, offset), offset - (text.rfind("\n", 0, offset) + 1)
        position = {"line": line, "character": column}
        return self.request(method, {"textDocument": {"uri": self.open(text)}, "position": position})

    def request(self, method: str, params: Any) -> Any:
        self.count += 1
        number = self.count
        self.send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        while True:
            message = self.read()
            if message.get("id") == number and "method" not in message:
                assert "error" not in message, message
                return message["result"]

    def notify(self, method: str, params: Any) -> None:
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def send(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        assert self.process.stdin is not None
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self.process.stdin.flush()

    def read(self) -> dict[str, Any]:
        """The next message. Requests of the server's are answered, and diagnostics kept."""
        stream = self.process.stdout
        assert stream is not None
        length = 0
        while line := stream.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        assert length, "the server has gone"
        message: dict[str, Any] = json.loads(stream.read(length))
        if message.get("method") == "textDocument/publishDiagnostics":
            self.diagnostics[message["params"]["uri"]] = message["params"]["diagnostics"]
        elif "id" in message and "method" in message:
            answer = None
            if message["method"] == "workspace/configuration":
                answer = [SETTINGS.get(item.get("section")) for item in message["params"]["items"]]
            self.send({"jsonrpc": "2.0", "id": message["id"], "result": answer})
        return message


SETTINGS: dict[str, Any] = {
    "yaml": {"validate": True, "hover": True, "completion": True, "schemaStore": {"enable": False}}
}
CAPABILITIES = {
    "workspace": {"configuration": True},
    "textDocument": {
        "completion": {"completionItem": {"snippetSupport": True, "documentationFormat": ["markdown", "plaintext"]}},
        "hover": {"contentFormat": ["markdown", "plaintext"]},
        "publishDiagnostics": {},
    },
}


def install(cache: Path) -> Path:
    """The server's program, installed once. The folder takes its place whole: two runs cannot meet half of one."""
    home = cache / "installed"
    program = home / "node_modules" / "yaml-language-server" / "bin" / "yaml-language-server"
    if program.exists():
        return program
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not here")
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        target = Path(folder) / "installed"
        target.mkdir()
        command = ["npm", "install", "--prefix", str(target), "--no-audit", "--no-fund", "--fetch-retries=0", PACKAGE]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=120)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            pytest.skip("npm could not install yaml-language-server")
        if not home.exists():
            target.rename(home)
    return program


@pytest.fixture(scope="module")
def server(pytestconfig: pytest.Config) -> Iterator[Server]:
    assert pytestconfig.cache is not None
    running = Server(install(pytestconfig.cache.mkdir("yaml-language-server")))
    yield running
    running.close()


@pytest.fixture(scope="module")
def spec() -> str:
    return SPEC.read_text(encoding="utf-8")


def swap(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, old
    return text.replace(old, new)


@pytest.mark.parametrize("path", sorted((ROOT / "specs").rglob("*.yaml")), ids=lambda path: path.stem)
def test_a_good_spec_is_not_underlined(server: Server, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=")
    assert server.diagnostics[server.open(text, path.parent)] == []


@pytest.mark.parametrize(
    ("right", "wrong", "key"),
    [
        ("stride: 2, padding: 3", "strid: 2, padding: 3", "strid"),
        ("kernel_size: 7", "kernal_size: 7", "kernal_size"),
        ("flat: {type: flatten", "flat: {typ: flatten", "typ"),
        ("      for: {s: 4", "      fro: {s: 4", "fro"),
        ("\nparams:", "\nparam:", "param"),
    ],
)
def test_a_misspelt_key_is_underlined(server: Server, spec: str, right: str, wrong: str, key: str) -> None:
    text = swap(spec, right, wrong)
    found = server.diagnostics[server.open(text)]
    starts = [d["range"]["start"] for d in found if key in d["message"].split()]
    assert starts, found
    assert text.splitlines()[starts[0]["line"]][starts[0]["character"] :].startswith(key)


def test_a_value_of_the_wrong_type_is_underlined(server: Server, spec: str) -> None:
    text = swap(spec, "stride: 2, padding: 3", "stride: two, padding: 3")
    (found,) = server.diagnostics[server.open(text)]
    assert text.splitlines()[found["range"]["start"]["line"]][found["range"]["start"]["character"] :].startswith("two")


def completions(server: Server, text: str, place: str) -> dict[str, dict[str, Any]]:
    answer = server.ask("textDocument/completion", text, place)
    return {item["label"]: item for item in (answer["items"] if isinstance(answer, dict) else answer)}


def test_a_type_is_completed_with_its_description(server: Server, spec: str) -> None:
    text = swap(spec, "flat: {type: flatten,", "flat: {type: fla,")
    found = completions(server, text, "flat: {type: fla|,")
    entry = lookup("flatten")
    assert entry is not None and entry.doc
    assert found["flatten"]["documentation"] == entry.doc
    assert {"Conv2d", "BatchNorm2d", "CrossEntropyLoss"} <= found.keys()


def test_a_bare_name_is_completed_too_and_only_modules_in_a_list(server: Server, spec: str) -> None:
    assert "BatchNorm2d" in completions(server, swap(spec, "bn1: BatchNorm2d", "bn1: Batch"), "bn1: Batch|")
    text = swap(spec, "    avgpool: {", "    tail:\n      - Flat\n    avgpool: {")
    found = completions(server, text, "      - Flat|")
    assert "Flatten" in found and "flatten" not in found


def test_the_arguments_of_the_type_are_completed(server: Server, spec: str) -> None:
    found = completions(server, swap(spec, "stride: 2, padding: 3", "stride: 2, pad"), "stride: 2, pad|, bias")
    assert {"padding", "padding_mode", "dilation", "from", "if"} <= found.keys()
    assert "stride" not in found, "it stands there already"
    assert "num_features" not in found, "that is another layer's"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("conv1: {type: Con|v2d, out_channels: 64", "Conv2d"),
        ("bn1: Batch|Norm2d", "BatchNorm2d"),
        ("kernel_size: 7, stri|de: 2", "Conv2d.stride"),
        ("      fo|r: {s: 4", "steering for"),
    ],
)
def test_hovering_shows_what_a_name_means(server: Server, spec: str, place: str, words: str) -> None:
    answer = server.ask("textDocument/hover", spec, place)
    assert plain_text(described(words)) in plain_text(answer["contents"]["value"])


def described(words: str) -> str:
    """What the catalog or the structure says about a name."""
    if words.startswith("steering "):
        return str(STEERING[words.removeprefix("steering ")]["description"])
    name, _, argument = words.partition(".")
    entry = lookup(name)
    assert entry is not None
    found = entry.argument(argument) if argument else entry
    assert found is not None and found.doc
    return found.doc


def plain_text(markdown: str) -> str:
    """Without the backslashes by which the server guards what Markdown would read as its own."""
    return markdown.replace("\\", "")


STACK = "{type: TransformerEncoder, num_layers: 2, encoder_layer: {type: TransformerEncoderLayer, nhead: 2}}"


def test_a_layer_among_the_arguments_is_completed_and_checked(server: Server, spec: str) -> None:
    line = "    avgpool: {"
    text = swap(spec, line, f"    stack: {STACK}\n{line}")
    assert server.diagnostics[server.open(text)] == []
    found = completions(server, swap(text, "nhead: 2}", "nhead: 2, norm}"), "nhead: 2, norm|}")
    assert {"norm_first", "dropout", "activation"} <= found.keys()
    assert "enable_nested_tensor" not in found, "that is the outer layer's"
    types = completions(server, swap(text, "num_layers: 2,", "num_layers: 2, norm: LayerN,"), "norm: LayerN|,")
    assert "LayerNorm" in types
    (mistake,) = server.diagnostics[server.open(swap(text, "nhead: 2", "nheads: 2, nhead: 2"))]
    assert "nheads" in mistake["message"]
