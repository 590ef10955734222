"""Plugins: who may enable one, what it may add, how shapes are found without a rule, and what is written for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
import yaml
from torch import nn

import netspec
from netspec import catalog
from netspec.cli import main
from netspec.diagnostics import SpecError
from netspec.plugin import PluginError
from netspec.program import Program
from netspec.runtime.errors import RunError
from netspec.runtime.evaluate import evaluate
from netspec.runtime.verify import verify
from netspec.table import layer_table

ROOT = Path(__file__).resolve().parent.parent

LAYERS = '''
"""Layers of a person's own."""

import torch
from torch import Tensor, nn

import netspec


@netspec.plugin.layer(role="activation")
class Swish(nn.Module):
    """x times the sigmoid of beta x.

    Args:
        beta: where beta starts.
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(float(beta)))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.beta * x)


class Gate(nn.Module):
    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.value = nn.Linear(in_features, out_features, bias=bias)
        self.gate = nn.Linear(in_features, out_features, bias=bias)

    def forward(self, x, scale: float = 1.0):
        return self.value(x) * torch.sigmoid(self.gate(x)) * scale


class Pad(nn.Module):
    def __init__(self, left: int = 1) -> None:
        super().__init__()
        self.left = left

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x, x[:, :1].expand(-1, self.left, -1)], dim=1)


def every_other(x: Tensor) -> Tensor:
    return x[:, ::2]


def join(tensors: list[Tensor]) -> Tensor:
    return torch.cat(tensors, -1)


class Split(nn.Module):
    def forward(self, x: Tensor):
        return x[..., :2], x[..., 2:]


class Data(nn.Module):
    """Meta tensors have no values, which it looks at."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (1.0 if float(x.sum()) > 0 else 2.0)


class Distance(nn.Module):
    def __init__(self, power: int = 2) -> None:
        super().__init__()
        self.power = power

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return ((input - target).abs() ** self.power).mean()


def ramp(tensor: Tensor, top: float = 1.0) -> Tensor:
    with torch.no_grad():
        return tensor.copy_(torch.linspace(0, top, tensor.numel()).view_as(tensor))


class Plain(torch.optim.SGD):
    def __init__(self, params, lr: float = 0.01) -> None:
        super().__init__(params, lr=lr)


def register(catalog):
    catalog.layer(Gate, infers={"in_features": -1})
    catalog.layer(Pad)
    catalog.layer(Split, outputs=("first", "rest"))
    catalog.layer(Data)
    catalog.function(every_other)
    catalog.function(join)
    catalog.loss(Distance)
    catalog.initializer(ramp)
    catalog.optimizer(Plain)
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A plugin file."""
    return written(tmp_path / "my_layers.py", LAYERS)


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def document(text: str) -> dict[str, Any]:
    loaded = yaml.safe_load(textwrap.dedent(text))
    return {"netspec": 1, "name": "net", **loaded}


def compiled(text: str, plugin: Path) -> Program:
    """The program of a document whose two doors are equal."""
    program = netspec.compile(document(text), plugins=[plugin])
    assert verify(program) == []
    return program


def mistakes(text: str, plugin: Path) -> list[str]:
    with pytest.raises(SpecError) as caught:
        netspec.compile(document(text), plugins=[plugin])
    return [f"{d.code} {d.message}" for d in caught.value.diagnostics]


NET = """
model:
  inputs: {x: [N, T, 8]}
  layers:
    gate: {type: Gate, out_features: 16}
    act: {type: Swish, beta: 0.5}
    pad: {type: Pad, left: 3}
    tail: [Swish, {type: Gate, out_features: 4, bias: false}]
"""


# What a plugin's layers are in a spec


def test_layers_of_a_plugin_file(plugin: Path) -> None:
    program = compiled(NET, plugin)
    assert {path: str(type_) for path, type_ in program.shapes.items()} == {
        "gate": "[N, T, 16]",
        "act": "[N, T, 16]",
        "pad": "[N, 2*T + 3, 16]",
        "tail": "[N, 2*T + 3, 4]",
        "tail.0": "[N, 2*T + 3, 16]",
        "tail.1": "[N, 2*T + 3, 4]",
    }
    module = program.module(seed=0)
    assert list(module.state_dict())[:5] == ["gate.value.weight", "gate.value.bias", "gate.gate.weight",
                                             "gate.gate.bias", "act.beta"]  # fmt: skip
    assert module(torch.randn(3, 5, 8)).shape == (3, 13, 4)
    rows = {row.path: row.parameters for row in layer_table(program)}
    counted = {name: sum(p.numel() for p in child.parameters()) for name, child in module.named_children()}
    assert {name: rows[name] for name in counted} == counted


def test_flops_are_those_of_torch(plugin: Path) -> None:
    program = compiled("model: {inputs: {x: [N, 5, 8]}, layers: {gate: {type: Gate, out_features: 16}}}", plugin)
    (row,) = layer_table(program)
    assert row.flops == 2 * (2 * 5 * 8 * 16)


def test_the_code_imports_from_where_the_layer_lives(plugin: Path) -> None:
    source = compiled(NET, plugin).source()
    assert "from my_layers import Gate, Pad, Swish\n" in source
    assert "netspec" not in "".join(source.splitlines()[2:])
    assert "self.gate = Gate(8, 16)" in source
    assert "self.tail = nn.Sequential(Swish(), Gate(16, 4, bias=False))" in source


def test_a_name_that_the_code_needs_itself_is_written_with_its_module(plugin: Path) -> None:
    program = compiled(
        "{params: {Swish: 3}, model: {inputs: {x: [N, 8]}, layers: {a: {type: Gate, out_features: $Swish}, b: Swish}}}",
        plugin,
    )
    assert "import my_layers\n" in program.source()
    assert "self.b = my_layers.Swish()" in program.source()


def test_a_block_of_the_name_wins_and_a_model_of_the_name_does_not_clash(plugin: Path) -> None:
    program = netspec.compile(
        {"netspec": 1, "name": "swish", "model": {"inputs": {"x": ["N", 8]}, "layers": {"act": "Swish"}}},
        plugins=[plugin],
    )
    assert verify(program) == []
    assert "class Swish2(nn.Module)" in program.source()


def test_functions_ports_and_arguments_of_forward(plugin: Path) -> None:
    program = compiled(
        """
        model:
          inputs: {x: [N, 8]}
          layers:
            parts: Split
            gate: {type: Gate, from: parts.rest, out_features: 2, scale: 0.5}
            both: {type: join, from: [parts.first, gate]}
            act: Swish
        """,
        plugin,
    )
    assert str(program.shapes["both"]) == "[N, 4]"
    assert "self.gate(rest, scale=0.5)" in program.source()


def test_a_layer_that_meta_tensors_cannot_run_is_run_on_real_ones(plugin: Path) -> None:
    assert str(compiled("model: {inputs: {x: [N, 3]}, layers: {a: Data}}", plugin).shapes["a"]) == "[N, 3]"


def test_an_inferred_argument_may_be_stated_and_is_checked(plugin: Path) -> None:
    text = "model: {inputs: {x: [N, 8]}, layers: {a: {type: Gate, in_features: %d, out_features: 2}}}"
    compiled(text % 8, plugin)
    (said,) = mistakes(text % 9, plugin)
    assert said.startswith("NS403") and "in_features 9" in said and "has 8 at size -1 of x" in said


def test_arguments_are_checked_by_their_hints(plugin: Path) -> None:
    text = "model: {inputs: {x: [N, 8]}, layers: {a: {type: Gate, %s}}}"
    assert mistakes(text % "out_features: two", plugin)[0].startswith("NS103 `out_features` takes an integer")
    assert mistakes(text % "out_feature: 2", plugin)[0].startswith("NS106")
    assert mistakes(text % "bias: false", plugin)[0].startswith("NS107")


@pytest.mark.parametrize(
    ("layer", "code"),
    [
        ("every_other", "NS408"),
        ("{type: Pad, left: -2}", "NS409"),
        ("{type: Gate, from: ids, out_features: 2}", "NS409"),
    ],
)
def test_what_probing_cannot_tell_is_refused(plugin: Path, layer: str, code: str) -> None:
    text = "model: {inputs: {x: [N, T, 8], ids: {shape: [N, 8], dtype: int64}}, layers: {a: %s}}"
    assert mistakes(
        text % layer.replace("every_other", "{type: every_other, from: x}").replace("Pad,", "Pad, from: x,"), plugin
    )[0].startswith(code)


def test_known_sizes_need_no_rule(plugin: Path) -> None:
    assert str(compiled("model: {inputs: {x: [N, 7, 8]}, layers: {a: every_other}}", plugin).shapes["a"]) == "[N, 4, 8]"


def test_a_rule_that_the_plugin_states_is_asked(tmp_path: Path) -> None:
    plugin = written(
        tmp_path / "ruled.py",
        """
        from netspec.catalog.rules import one, rule, tensor
        from torch import Tensor, nn

        class Halve(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x[:, ::2]

        @rule
        def halved(arguments, inputs):
            x = tensor(inputs, "Halve", "x")
            return one((x.shape[0], -(-x.shape[1] // 2)), x.dtype)

        def register(catalog):
            catalog.layer(Halve, rule=halved)
        """,
    )
    program = compiled("model: {inputs: {x: [N, 2*t]}, layers: {a: Halve}}", plugin)
    assert str(program.shapes["a"]) == "[N, t]"


def test_probing_draws_nothing(plugin: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    netspec.compile(document(NET), plugins=[plugin])
    assert torch.equal(torch.rand(3), expected)


def test_initialisation_by_a_plugin(plugin: Path) -> None:
    program = compiled(
        """
        model:
          inputs: {x: [N, 4]}
          layers:
            a: {type: Linear, out_features: 2, initialize: {weight: {type: ramp, top: 7.0}}}
            b: {type: Swish, initialize: {beta: 0.25}}
        """,
        plugin,
    )
    module = program.module()
    assert torch.equal(module.get_parameter("a.weight"), torch.linspace(0, 7.0, 8).view(2, 4))
    assert module.get_parameter("b.beta").item() == 0.25


# Who may enable one


def test_a_spec_enables_nothing(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(plugin.parent)
    for name in ("os.system", "my_layers.Swish", "Swish", "builtins.eval", "netspec.plugin.enable"):
        with pytest.raises(SpecError) as caught:
            netspec.compile(document(f"model: {{inputs: {{x: [N, 8]}}, layers: {{a: {{type: {name}}}}}}}"))
        assert [d.code for d in caught.value.diagnostics] == ["NS105"]
    with pytest.raises(SpecError) as caught:
        netspec.compile({**document(NET), "plugins": [str(plugin)]})
    assert "NS101" in [d.code for d in caught.value.diagnostics]
    assert "my_layers" not in sys.modules


@pytest.mark.parametrize("verb", ["validate", "show", "graph", "build", "train"])
def test_verbs_take_plugins(
    plugin: Path, verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(plugin.parent)
    spec = written(plugin.parent / "net.yaml", yaml.safe_dump({**document(NET)}))
    more = ["--stdout"] if verb == "build" else []
    assert main([verb, str(spec), *more]) == 1
    assert "no layer, function or block `Gate`" in capsys.readouterr().err
    assert main([verb, str(spec), *more, "--plugin", str(plugin)]) == (3 if verb == "train" else 0)


def test_explain_and_schema_know_what_is_enabled(plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "Swish"]) == 2
    capsys.readouterr()
    assert main(["explain", "Swish", "--plugin", str(plugin)]) == 0
    said = capsys.readouterr().out
    assert "Swish: layer, my_layers.Swish" in said and "beta: a number (default 1.0)\n    Where beta starts." in said
    assert main(["schema", "--plugin", str(plugin)]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.validate(document(NET), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document("model: {inputs: {x: [N, 8]}, layers: {a: {type: Gate, out_feature: 2}}}"), schema)


# What cannot be enabled


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "adds nothing"),
        ("x = 1 / 0", r"fails: ZeroDivisionError: division by zero \(line 1\)"),
        ("def f(:", "fails: SyntaxError"),
        ("from torch import nn\ndef register(c): c.layer(nn.ReLU)", r"already: torch\.nn\.ReLU \(layer\) came first"),
        ("def register(c): c.layer('no_such_module.Layer')", "cannot be imported"),
        ("def register(c):\n  def f(x): return x\n  c.function(f)", "define it at the top of its module"),
        ("def f(*x): return x\ndef register(c): c.function(f)", "which tensors it takes"),
        ("def f(x, use=1): return x\ndef register(c): c.function(f)", "`use`, which is a key of the language"),
        ("def f(x): return x\ndef register(c): c.layer(f)", "no subclass of nn.Module"),
        ("def f(x): return x\ndef register(c): c.function(f, name='a b')", "'a b' is no name"),
    ],
)
def test_what_is_wrong_with_a_plugin_is_said(tmp_path: Path, text: str, said: str) -> None:
    plugin = written(tmp_path / "wrong.py", text)
    before = catalog.names()
    with pytest.raises(PluginError, match=said):
        netspec.plugin.enable([plugin])
    assert catalog.names() == before and netspec.plugin.enabled() == []


def test_a_plugin_may_not_hide_a_module(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="there is a module `json` already"):
        netspec.plugin.enable([written(tmp_path / "json.py", LAYERS)])
    with pytest.raises(PluginError, match="is no plugin"):
        netspec.plugin.enable([tmp_path / "my-layers.py"])


def test_two_plugins_with_one_name_show_both_definitions(plugin: Path) -> None:
    other = written(plugin.parent / "others.py", LAYERS)
    netspec.plugin.enable([plugin])
    with pytest.raises(PluginError) as caught:
        netspec.plugin.enable([other])
    said = str(caught.value)
    assert "my_layers.Swish (layer of the plugin my_layers.py) came first" in said
    assert "others.Swish (layer of the plugin others.py) is the second" in said
    assert "name='others.Swish'" in said
    assert len(netspec.plugin.enabled()) == 1  # and nothing of the second stays
    assert {entry.plugin for entry in catalog.registered()} == {"my_layers.py"}


def test_a_prefixed_name(tmp_path: Path) -> None:
    plugin = written(
        tmp_path / "others.py",
        """
        from torch import Tensor, nn

        class LayerNorm(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x - x.mean(-1, keepdim=True)

        def register(catalog):
            catalog.layer(LayerNorm, name="others.LayerNorm")
        """,
    )
    program = compiled("model: {inputs: {x: [N, 8]}, layers: {a: others.LayerNorm, b: LayerNorm}}", plugin)
    assert list(program.module().state_dict()) == ["b.weight", "b.bias"]
    assert "from others import LayerNorm" in program.source() and "nn.LayerNorm(8)" in program.source()


def test_a_file_that_has_changed_is_read_again(plugin: Path) -> None:
    assert str(compiled(NET, plugin).shapes["pad"]) == "[N, 2*T + 3, 16]"
    plugin.write_text(LAYERS.replace("torch.cat([x, x, x[", "torch.cat([x, x, x, x["), encoding="utf-8")
    os.utime(plugin, ns=(1, 1))
    assert str(compiled(NET, plugin).shapes["pad"]) == "[N, 3*T + 3, 16]"


# Runs

TRAINED = """
model:
  inputs: {features: [N, 4]}
  layers: {gate: {type: Gate, out_features: 3}, act: Swish}
data:
  source: {type: CSV, path: table.csv, target: [a, b, c]}
  split: {train: 0.5, val: 0.5, seed: 0}
  batch_size: 4
train:
  epochs: 1
  loss: {type: Distance, power: 2}
  optimizer: {type: Plain, lr: 0.1}
"""


def test_a_run_names_its_plugins_and_needs_them_again(
    plugin: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = plugin.parent
    monkeypatch.chdir(folder)
    rows = [",".join(str((i * j) % 7) for j in range(1, 8)) for i in range(1, 17)]
    written(folder / "table.csv", "\n".join(["p,q,r,s,a,b,c", *rows]))
    spec = written(folder / "net.yaml", yaml.safe_dump(document(TRAINED)))
    arguments = ["train", str(spec), "--run-dir", "run", "--progress", "none"]
    assert main([*arguments, "--plugin", str(plugin)]) == 0, capsys.readouterr().err
    assert json.loads(Path("run/summary.json").read_text())["plugins"] == ["my_layers.py"]
    assert Path("run/my_layers.py").read_text() == LAYERS
    sys.modules["netspec.plugin.load"].disable_all()
    capsys.readouterr()
    for verb in (["eval", "run", "--split", "val"], ["predict", "run", "table.csv"], ["train", "--resume", "run"]):
        assert main(verb) == 3
        said = capsys.readouterr().err
        assert "NS914" in said and "my_layers.py, which is not enabled" in said
        assert f"--plugin {Path('run', 'my_layers.py')}" in said
    with pytest.raises(RunError, match="NS914"):
        evaluate("run", "val")
    assert main(["eval", "run", "--split", "val", "--plugin", "run/my_layers.py"]) == 0
    more = ["--set", "train.epochs=2", "--plugin", "run/my_layers.py", "--progress", "none"]
    assert main(["train", "--resume", "run", *more]) == 0, capsys.readouterr().err
    code = "import model; print(len(model.Net().state_dict()))"  # the run's source stands beside what it imports
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd="run", env=env, capture_output=True, text=True, check=False)
    assert done.stdout == "5\n", done.stderr


# Installed plugins


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with an installed package that offers a plugin."""
    site = tmp_path / "site"
    written(
        site / "shiny" / "layers.py",
        """
        import torch
        from torch import Tensor, nn

        class Shine(nn.Module):
            \"\"\"A bias for each channel.\"\"\"

            def __init__(self, channels: int, bright: float = 1.0) -> None:
                super().__init__()
                self.light = nn.Parameter(torch.full((channels, 1, 1), bright))

            def forward(self, x: Tensor) -> Tensor:
                return x + self.light
        """,
    )
    written(site / "shiny" / "__init__.py", "from shiny.layers import Shine as Shine")
    written(
        site / "shiny" / "for_netspec.py",
        """
        def register(catalog):
            catalog.layer("shiny.Shine", infers={"channels": 1})
        """,
    )
    info = site / "shiny-1.0.dist-info"
    written(info / "METADATA", "Metadata-Version: 2.1\nName: shiny\nVersion: 1.0\n")
    written(
        info / "entry_points.txt",
        "[console_scripts]\nx = y:z\n\n[netspec.plugins]\nshiny = shiny.for_netspec:register\n",
    )
    written(
        tmp_path / "net.yaml",
        "netspec: 1\nname: net\nmodel: {inputs: {x: [N, 3, 8, 8]}, layers: {a: {type: Shine, bright: 0.5}}}\n",
    )
    return site


def run_netspec(*arguments: str, folder: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    places = [str(ROOT), *([str(path)] if path is not None else [])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    return subprocess.run(
        [sys.executable, "-m", "netspec", *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def test_an_installed_plugin_is_enabled(installed: Path) -> None:
    folder = installed.parent
    without = run_netspec("validate", "net.yaml", folder=folder)
    assert without.returncode == 1 and "NS105" in without.stderr
    done = run_netspec("build", "net.yaml", "-o", "out", "--verify", folder=folder, path=installed)
    assert done.returncode == 0, done.stderr
    source = (folder / "out" / "net.py").read_text(encoding="utf-8")
    assert "from shiny import Shine\n" in source and "self.a = Shine(3, bright=0.5)" in source
    explained = run_netspec("explain", "Shine", folder=folder, path=installed)
    assert "A bias for each channel" in explained.stdout


def test_an_installed_plugin_that_fails_is_named(installed: Path) -> None:
    written(installed / "shiny" / "for_netspec.py", "raise RuntimeError('too dark')")
    done = run_netspec("validate", "net.yaml", folder=installed.parent, path=installed)
    assert done.returncode == 2
    assert "the installed plugin shiny fails: RuntimeError: too dark" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_plugins_nothing_heavy_is_imported() -> None:
    code = (
        "import sys\nfrom netspec.cli import main\n"
        "assert main(['validate', 'specs/digits.yaml']) == 0\n"
        "sys.exit(str({'torch', 'importlib.metadata'} & set(sys.modules) or 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.strip() in ("", "0"), done.stderr


def test_layers_of_torch_geometric_would_fit(tmp_path: Path) -> None:
    """A graph layer's signature: two inputs of which one holds indices, optional weights, inferred channels."""
    plugin = written(
        tmp_path / "graphs.py",
        """
        from typing import Optional, Union

        import torch
        from torch import Tensor, nn

        class GCNConv(nn.Module):
            def __init__(self, in_channels: int, out_channels: int, improved: bool = False, aggr: Optional[str] = "add",
                         **kwargs) -> None:
                super().__init__()
                self.lin = nn.Linear(in_channels, out_channels)

            def forward(self, x: Tensor, edge_index: Union[Tensor, "SparseTensor"],
                        edge_weight: Optional[Tensor] = None) -> Tensor:
                x = self.lin(x)
                source, to = edge_index[0], edge_index[1]
                return torch.zeros_like(x).index_add(0, to, x[source])

        def register(catalog):
            catalog.layer(GCNConv, inputs=["x", "edge_index"], infers={"in_channels": ("x", 1)})
        """,
    )
    program = compiled(
        """
        model:
          inputs: {x: [nodes, 16], edge_index: {shape: [2, edges], dtype: int64}}
          layers:
            conv1: {type: GCNConv, from: {x: x, edge_index: edge_index}, out_channels: 8}
            relu: ReLU
            conv2: {type: GCNConv, from: [relu, edge_index], out_channels: 4}
        """,
        plugin,
    )
    assert str(program.shapes["conv2"]) == "[nodes, 4]"
    assert isinstance(program.module(), nn.Module)
