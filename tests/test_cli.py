"""The command line: verbs, exit codes, and what each prints. Diagnostics have tests of their own (test_diagnostics)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from netspec.cli import main

ROOT = Path(__file__).resolve().parent.parent
RESNET = str(ROOT / "specs" / "imagenet" / "resnet18.yaml")

TINY = """\
netspec: 1
name: tiny
description: A tiny network.
params: {width: 4}
model:
  inputs: {image: [N, 1, 6, 6]}
  layers:
    conv: {type: Conv2d, out_channels: $width, kernel_size: 3}
    norm: {type: BatchNorm2d, freeze: true}
    body:
      - ReLU
      - Flatten
      - {type: Linear, out_features: 2}
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small spec in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    path = Path("tiny.yaml")
    path.write_text(TINY, encoding="utf-8")
    return path


# The command line itself


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    from netspec.cli.dispatch import VERBS

    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f" {verb} " in shown for verb in VERBS)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["vaildate"], "there is no verb vaildate; did you mean validate?"),
        ([], "the following arguments are required: VERB"),
        (["train", "x.yaml", "--rundir", "y"], "unrecognized arguments: --rundir y; did you mean --run-dir?"),
        (["init", "digit"], "invalid choice: 'digit'"),
        (["graph", "x.yaml", "-o", "x.png"], "x.png: a picture ends in .svg"),
        (["show", "x.yaml", "--depth", "0"], "'0' is not a whole number from 1"),
        (["train"], "name a spec, or a run with --resume"),
        (["train", "--resume", "nowhere"], "nowhere does not exist"),
    ],
)
def test_a_wrong_command_line_exits_with_2(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv", [["init"], ["graph", "tiny.yaml", "-o", "FILE.svg"], ["build", "tiny.yaml"], ["schema", "-o", "FILE"]]
)
def test_a_place_that_cannot_be_written_is_named(
    argv: list[str], tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("", encoding="utf-8")
    argv = [part.replace("FILE", "file/x") for part in argv]
    assert main(argv if "-o" in argv else [*argv, "-o", "file/x"]) == 2
    assert "cannot be written: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "needs a header"), (b"\xff\xfe\x00", "cannot be read as a CSV file")]
)
def test_init_refuses_what_is_no_table(
    content: bytes, said: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.csv").write_bytes(content)
    assert main(["init", "csv", "--data", "bad.csv"]) == 2
    assert said in capsys.readouterr().err


def test_help_is_quick() -> None:
    """`--help` imports nothing that it does not need: well under the time of importing numpy alone, let alone torch."""
    script = "import sys; from netspec.cli import main; main(['--help']); sys.exit(len(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=False)
    bare = subprocess.run([sys.executable, "-c", "import sys; sys.exit(len(sys.modules))"], check=False)
    assert done.returncode - bare.returncode < 120


def test_a_closed_pipe_is_no_error() -> None:
    reader = f"{sys.executable} -m netspec show {RESNET} | head -n 1"
    done = subprocess.run(reader, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""


# validate


def test_validate_says_what_a_good_spec_gives(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(tiny)]) == 0
    assert capsys.readouterr().out == "tiny.yaml: good (image [N, 1, 6, 6] → body [N, 2], 178 parameters)\n"


def test_validate_takes_folders(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("more").mkdir()
    Path("more/wide.yml").write_text(TINY.replace("width: 4", "width: 8"), encoding="utf-8")
    assert main(["validate", "."]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["more/wide.yml", "tiny.yaml"]


def test_validate_as_json_and_sarif(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write_text(TINY.replace("kernel_size", "kernel_sise"), encoding="utf-8")
    assert main(["validate", str(tiny), "--format", "json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["severity"], found["line"]) == ("error", 8)
    assert main(["validate", str(tiny), "--format", "sarif"]) == 1
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["results"][0]["ruleId"] == found["code"]


def test_all_specs_are_good(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["validate", "specs"]) == 0
    assert "error" not in capsys.readouterr().err


# show


def test_show_prints_the_layer_table(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(tiny)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["layer", "type", "output", "parameters", "FLOPs", "kept"]
    assert ["conv", "Conv2d", "[N,", "4,", "4,", "4]", "40", "1.15", "k", "144", "B"] in lines
    assert lines[-3][:3] == ["tiny:", "178", "parameters,"]
    assert "170 of them trained" in " ".join(lines[-3])
    assert lines[-2][:2] == ["to", "run"] and lines[-1][:2] == ["to", "train"]


def test_show_as_json_counts_what_torch_counts(capsys: pytest.CaptureFixture[str]) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    import netspec

    assert main(["show", RESNET, "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    module = netspec.compile(RESNET).module(seed=0).eval()
    assert shown["parameters"] == sum(p.numel() for p in module.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(1, 3, 224, 224))
    assert shown["flops"] == counter.get_total_flops()
    by_path = {layer["path"]: layer for layer in shown["layers"]}
    for name, child in module.named_modules():
        if name:
            assert by_path[name]["parameters"] == sum(p.numel() for p in child.parameters())


def test_a_notebook_shows_the_same_table(tiny: Path) -> None:
    import netspec

    page = netspec.compile(tiny)._repr_html_()
    root = ElementTree.fromstring(page)
    cells = [[cell.text or "" for cell in row] for row in root.iter("tr")]
    assert cells[0] == ["layer", "type", "output", "parameters", "FLOPs", "kept"]
    assert ["conv", "Conv2d", "[N, 4, 4, 4]", "40", "1.15 k", "144 B"] in cells
    assert "178 parameters" in page


def test_show_with_a_depth_shows_so_many_levels(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", RESNET, "--format", "json", "--depth", "1"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert sum(layer["parameters"] for layer in shown["layers"]) == shown["parameters"] == 11_689_512


def test_show_resolved_prints_a_spec_that_is_itself_good(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", RESNET, "--resolved", "--set", "params.num_classes=7"]) == 0
    text = capsys.readouterr().out
    assert "imports" not in text
    Path("resolved.yaml").write_text(text, encoding="utf-8")
    assert main(["show", "resolved.yaml", "--resolved"]) == 0
    assert capsys.readouterr().out == text
    assert main(["validate", "resolved.yaml"]) == 0
    assert "fc [N, 7]" in capsys.readouterr().out


# graph


def test_graph_as_svg_is_well_formed_and_shows_every_layer(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", str(tiny), "-o", "tiny.svg"]) == 0
    texts = "\n".join(ElementTree.parse("tiny.svg").getroot().itertext())
    for layer in ("image", "conv", "norm", "body.0", "body.2"):
        assert layer in texts
    assert "[N, 4, 4, 4]" in texts


def test_graph_as_html_needs_nothing_else(tiny: Path) -> None:
    assert main(["graph", str(tiny), "-o", "tiny.html"]) == 0
    page = Path("tiny.html").read_text("utf-8")
    assert "<svg" in page
    assert "src=" not in page and "href=" not in page


def test_graph_as_mermaid_and_dot_and_json(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", str(tiny)]) == 0
    mermaid = capsys.readouterr().out
    assert mermaid.startswith("flowchart TD\n")
    assert main(["graph", str(tiny), "-o", "tiny.dot"]) == 0
    dot = Path("tiny.dot").read_text("utf-8")
    assert '"conv" -> "norm" [label="[N, 4, 4, 4]"];' in dot
    assert main(["graph", str(tiny), "-o", "tiny.json"]) == 0
    drawn = json.loads(Path("tiny.json").read_text("utf-8"))
    edges = {(edge["from"], edge["to"]) for edge in drawn["edges"]}
    assert {("image", "conv"), ("conv", "norm"), ("norm", "body.0"), ("body.0", "body.1")} <= edges
    assert mermaid.count(" -->|") == dot.count(" -> ") == len(edges)


def test_graph_with_a_depth_draws_groups_as_one(tiny: Path) -> None:
    assert main(["graph", str(tiny), "--depth", "1", "-o", "tiny.json"]) == 0
    drawn = json.loads(Path("tiny.json").read_text("utf-8"))
    assert [node["path"] for node in drawn["nodes"]] == ["image", "conv", "norm", "body"]
    assert drawn["nodes"][-1]["parameters"] == 130


# build


def test_build_mirrors_the_folders_of_specs(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("specs/nets").mkdir(parents=True)
    Path("specs/nets/tiny.yaml").write_text(TINY, encoding="utf-8")
    Path("specs/shared.yaml").write_text("netspec: 1\nname: shared\nblocks: {B: {layers: [ReLU]}}\n", encoding="utf-8")
    assert main(["build", "specs"]) == 0
    assert capsys.readouterr().out == "generated/nets/tiny.py: written\n"
    text = Path("generated/nets/tiny.py").read_text("utf-8")
    assert text.startswith("# Code generated by netspec from specs/nets/tiny.yaml. DO NOT EDIT.\n")
    assert "class Tiny(nn.Module):" in text
    assert main(["build", "specs/nets/tiny.yaml"]) == 0
    assert capsys.readouterr().out == "generated/nets/tiny.py: unchanged\n"


def test_build_check_shows_drift_and_orphans(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("specs").mkdir()
    spec = Path("specs/tiny.yaml")
    spec.write_text(TINY, encoding="utf-8")
    assert main(["build", "specs", "--check"]) == 1
    assert "+class Tiny(nn.Module):" in capsys.readouterr().out
    assert not Path("generated").exists()

    assert main(["build", "specs"]) == 0
    capsys.readouterr()
    assert main(["build", "specs", "--check"]) == 0
    spec.write_text("# a comment changes nothing\n" + TINY, encoding="utf-8")
    assert main(["build", "specs", "--check"]) == 0
    capsys.readouterr()

    spec.write_text(TINY.replace("kernel_size: 3", "kernel_size: 5"), encoding="utf-8")
    assert main(["build", "specs", "--check"]) == 1
    diff = capsys.readouterr().out
    assert "--- generated/tiny.py" in diff and "+++ generated/tiny.py (what the spec says)" in diff

    spec.rename("specs/other.yaml")
    assert main(["build", "specs", "--check"]) == 1
    assert "generated/tiny.py: no spec gives this file any more" in capsys.readouterr().out


def test_build_goes_on_after_a_wrong_spec(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("wrong.yaml").write_text(TINY.replace("Conv2d", "Conv2D"), encoding="utf-8")
    assert main(["build", "wrong.yaml", str(tiny)]) == 1
    said = capsys.readouterr()
    assert "generated/tiny.py: written" in said.out
    assert "did you mean" in said.err


def test_build_to_stdout_writes_nothing(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(tiny), "--stdout"]) == 0
    assert capsys.readouterr().out.startswith("# Code generated by netspec from ")
    assert not Path("generated").exists()


def test_build_verify_proves_both_doors_equal(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(tiny), "--verify"]) == 0
    assert "keys, weights and outputs are those of the live module" in capsys.readouterr().out


# init


@pytest.mark.parametrize("kind", ["digits", "images", "csv", "regression"])
def test_starters_are_good_specs(kind: str, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", kind, "-o", "nets/start.yaml"]) == 0
    assert main(["validate", "nets/start.yaml"]) == 0
    assert "nets/start.yaml: good" in capsys.readouterr().out


def test_init_does_not_overwrite(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "csv", "-o", str(tiny)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert tiny.read_text("utf-8") == TINY


def test_init_fits_a_folder_of_images(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("ants", "bees", "no images"):
        Path("photos", name).mkdir(parents=True)
    for name in ("ants", "bees"):
        Path("photos", name, "1.JPG").touch()
    assert main(["init", "images", "--data", "photos", "-o", "nets/insects.yaml"]) == 0
    text = Path("nets/insects.yaml").read_text("utf-8")
    assert "num_classes: 2," in text and "root: ../photos}" in text and "name: insects\n" in text
    assert main(["validate", "nets/insects.yaml"]) == 0


def test_init_fits_a_csv_file_and_trains(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "csv", "--data", str(ROOT / "specs" / "data" / "iris.csv"), "-o", "iris.yaml"]) == 0
    text = Path("iris.yaml").read_text("utf-8")
    assert "label: species" in text and "[N, 4]" in text and "num_classes: 3}" in text
    assert main(["train", "iris.yaml", "--set", "train.epochs=2", "--run-dir", "run"]) == 0
    assert Path("run/metrics.csv").is_file()


# explain and schema


def test_explain_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    from netspec.pages import codes, page

    code = codes()[0]
    assert main(["explain", code.lower()]) == 0
    assert capsys.readouterr().out == page(code)
    assert main(["explain", "NS000"]) == 2
    assert code in capsys.readouterr().err


def test_explain_a_layer_and_an_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "Conv2d"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Conv2d: layer, torch.nn.Conv2d\n")
    assert "out_channels" in shown and "inferred" in shown
    assert main(["explain", "Conv2d.stride"]) == 0
    assert capsys.readouterr().out.startswith("stride: ")
    assert main(["explain", "conv2D"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert main(["explain", "Conv2d.strid"]) == 2
    assert "did you mean stride?" in capsys.readouterr().err


def test_explain_where_a_value_comes_from(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("wide.yaml").write_text("extends: tiny.yaml\nparams: {width: 8}\n", encoding="utf-8")
    assert main(["explain", "wide.yaml", "params.width", "--set", "params.width=16"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["tiny.yaml:4:17", "wide.yaml:2:17", "--set params.width=16"]
    assert main(["explain", "wide.yaml", "params.widht"]) == 2
    assert main(["explain", "wide.yaml", "train.epochs"]) == 0
    assert "not stated" in capsys.readouterr().out


def test_schema_is_the_one_that_is_committed(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "-o", "netspec.schema.json"]) == 0
    committed = ROOT / "netspec" / "schema" / "netspec.schema.json"
    assert Path("netspec.schema.json").read_text("utf-8") == committed.read_text("utf-8")
    capsys.readouterr()
    assert main(["schema"]) == 0
    assert capsys.readouterr().out == committed.read_text("utf-8")


# train, eval, predict


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run on digits."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    spec = str(ROOT / "specs" / "digits.yaml")
    assert main(["train", spec, "--set", "train.epochs=2", "--run-dir", str(folder), "--progress", "plain"]) == 0
    return folder


def test_train_leaves_a_run(run_dir: Path) -> None:
    left = {path.name for path in run_dir.iterdir()}
    assert {"resolved.yaml", "model.py", "metrics.csv", "curves.png", "summary.json", "checkpoints"} <= left
    summary = json.loads((run_dir / "summary.json").read_text("utf-8"))
    assert summary["status"] == "finished" and summary["results"]["test"]["accuracy"] > 0.8


def test_train_dry_run_writes_nothing(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(Path().rglob("*"))
    assert main(["train", str(ROOT / "specs" / "digits.yaml"), "--dry-run"]) == 0
    assert sorted(Path().rglob("*")) == before


def test_a_run_that_fails_exits_with_3(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(tiny)]) == 3
    said = capsys.readouterr().err
    assert said.startswith("error[NS9") and "Traceback" not in said


def test_a_wrong_spec_does_not_train(tiny: Path) -> None:
    tiny.write_text(TINY.replace("Conv2d", "Conv2D"), encoding="utf-8")
    assert main(["train", str(tiny)]) == 1


def test_a_finished_run_resumes_and_evaluates_from_its_folder_alone(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    summary = json.loads((run_dir / "summary.json").read_text("utf-8"))
    assert main(["eval", str(run_dir), "--format", "json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["test"]["accuracy"] == pytest.approx(summary["results"]["test"]["accuracy"])
    assert main(["eval", str(run_dir), "--split", "train"]) == 0
    assert capsys.readouterr().out.startswith("train: loss ")
    assert main(["train", "--resume", str(run_dir), "--set", "train.epochs=3"]) == 0
    assert json.loads((run_dir / "summary.json").read_text("utf-8"))["epochs"] == 3


def test_predict_applies_a_run_to_the_rows_of_a_file(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ROOT / "specs" / "data" / "iris.csv"
    assert main(["train", str(ROOT / "specs" / "mlp_csv.yaml"), "--run-dir", "run", "--progress", "none"]) == 0
    capsys.readouterr()
    assert main(["predict", "run", str(data)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    truth = [line.rpartition(",")[2] for line in data.read_text("utf-8").splitlines()[1:]]
    assert sum(row["class"] == name for row, name in zip(rows, truth, strict=True)) >= 140
    assert all(sum(row["probabilities"].values()) == pytest.approx(1) for row in rows)

    assert main(["predict", "run", str(data), "--format", "csv"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.startswith("input,prediction,class,probability of setosa,")
    assert [line.split(",")[2] for line in lines] == [row["class"] for row in rows]


def test_predict_names_a_file_that_is_missing(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(run_dir), "nowhere.png"]) == 3
    assert "nowhere.png" in capsys.readouterr().err


def test_a_run_directory_that_cannot_be_made_is_named(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("", encoding="utf-8")
    assert main(["train", str(ROOT / "specs" / "digits.yaml"), "--run-dir", "file/run"]) == 3
    assert "file/run cannot be made: " in capsys.readouterr().err


def test_a_device_that_does_not_exist_is_named(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run_dir), "--device", "gpu"]) == 3
    assert "this machine has no device `gpu`" in capsys.readouterr().err


def test_eval_of_what_is_no_run_exits_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(tmp_path)]) == 3
    assert "no run" in capsys.readouterr().err


# Speed


@pytest.mark.long
def test_validating_takes_a_fifth_of_importing_torch() -> None:
    def seconds(argv: list[str]) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
            times.append(time.perf_counter() - start)
        return sorted(times)[2]

    spec = "specs/imagenet/resnet50.yaml"
    validate = seconds([sys.executable, "-c", f"from netspec.cli import main; main(['validate', {spec!r}])"])
    assert validate / seconds([sys.executable, "-c", "import torch"]) < 0.2
