from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from adafocus.bundle.guarantee import Guarantee
from adafocus.bundle.manifest import Flops, FlopsPart, Manifest, Provenance, Sampling
from adafocus.bundle.store import write_bundle
from adafocus.cli.inspect import three_digits
from adafocus.cli.main import main
from tests.bundle.factory import CONTENT, make_clip_manifest, make_graph, make_manifest

PARTS = Flops(
    glance=1_000_000,
    focus=4_000_000,
    paper_per_step=5_100_000,
    convention="Multiply-adds; the paper adds the auxiliary head.",
    parts=(
        FlopsPart(name="glance network", flops=1_000_000, component="glance"),
        FlopsPart(name="focus network", flops=3_000_000, component="focus"),
        FlopsPart(name="step head", flops=1_000_000, component="focus"),
        FlopsPart(name="auxiliary head", flops=100_000),
    ),
)


def inspect(folder: Path, manifest: Manifest, *options: str) -> int:
    write_bundle(folder / "toy", manifest, dict(CONTENT))
    return main(["inspect", str(folder / "toy"), *options])


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was printed, runs of spaces as one."""
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_a_reader_is_told_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    provenance = Provenance(data="toy clips", data_licence="MIT", recipe="toy", seed=3, metrics={"acc": 0.5}, notes="n")
    assert inspect(tmp_path, make_manifest(flops=PARTS, provenance=provenance)) == 0
    out = lines(capsys)
    for line in (
        "bundle toy, version 1.0, frame model",
        "labels 3: up, down, still",
        "steps 4, one frame each, visited 2, 1, 4, 3",
        "data toy clips; MIT",
        "recipe toy, seed 3",
        "metrics acc 0.5",
        "per video (4 steps) 0.0200 0.0204",
        "per frame 0.005000000 0.005100000",
        "glance 0.001000000 0.001000000",
        "step head 0.001000000 0.001000000",
        "auxiliary head – 0.000100000",
        "Multiply-adds; the paper adds the auxiliary head.",
        "Operating points (default: balanced)",
        "balanced 0.0110 55% 0.880",
        "Thresholds on max_softmax at temperature 1 (–: no exit at this step)",
        "1 0.00500 0.9000",
        "3 0.0150 –",
        "4 0.0200 answers",
    ):
        assert line in out
    sha256 = make_manifest().graph("focus", "onnx", "fp32").sha256
    assert f"focus.onnx focus, onnx fp32 0.0 MiB {sha256} verified" in out


def test_guarantees_and_temperatures_of_steps_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full, balanced = make_manifest().operating_points
    certified = balanced.model_copy(update={"guarantee": Guarantee("answer_changed", 0.05, 0.95, 700, 21)})
    manifest = make_manifest(operating_points=(full, certified), temperatures=(0.5, 1.0, 1.25, 2.0))
    assert inspect(tmp_path, manifest) == 0
    out = lines(capsys)
    assert (
        "balanced: at most 5 % of videos change the answer, with 0.95 confidence (21 of 700 tested clips did)"
    ) in out
    assert "Thresholds on max_softmax at the temperature of each step (–: no exit at this step)" in out
    assert "step GFLOPs so far temperature balanced" in out
    assert "3 0.0150 1.25 –" in out


def test_a_clip_model_has_one_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sampling = Sampling(frames=4, focus_frames=6, first_frame=3, order=(0, 1, 2, 3))
    assert inspect(tmp_path, make_clip_manifest(sampling=sampling)) == 0
    out = lines(capsys)
    for line in (
        "steps 1, with 4 frames for the glance and 6 for the focus",
        "sampled from frame 3 on",
        "per video 0.00500 0.00510",
        "per clip 0.005000000 0.005100000",
        "full 0.00500 100% –",
    ):
        assert line in out


def test_many_labels_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = tuple(f"sign {index}" for index in range(25))
    graphs = (make_graph("glance", classes=25), make_graph("focus", classes=25))
    assert inspect(tmp_path, make_manifest(labels=labels, graphs=graphs)) == 0
    told = " ".join(lines(capsys))
    assert "labels 25: sign 0, sign 1," in told
    assert "sign 19 and 5 more" in told


def test_a_machine_is_told_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(tmp_path, make_manifest(), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert Manifest.model_validate(told["manifest"]) == make_manifest()
    assert told["gflops"]["per_step"] == {"served": 0.005, "paper": 0.0051}
    assert told["gflops"]["per_video"] == {"served": 0.02, "paper": 0.0204}
    assert [entry["verified"] for entry in told["files"]] == [True, True]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_damage_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    inspect(tmp_path, make_manifest())
    capsys.readouterr()
    (tmp_path / "toy" / "focus.onnx").write_bytes(b"cut short")
    assert main(["inspect", str(tmp_path / "toy"), *options]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"adafocus: {tmp_path}/toy/focus.onnx: has 9 bytes, the manifest says 32")
    assert captured.err.count("\n") == 1


def test_what_is_no_bundle_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path)]) == 1
    assert "manifest.json: cannot be read (no such file or directory)" in capsys.readouterr().err


def test_inspecting_needs_neither_torch_nor_a_runtime(tmp_path: Path) -> None:
    write_bundle(tmp_path / "toy", make_manifest(), dict(CONTENT))
    script = (
        "import sys; from adafocus.cli.main import main; code = main(['inspect', sys.argv[1]]); "
        "heavy = {'torch', 'onnx', 'onnxruntime', 'model', 'export', 'service'}; "
        "print(sorted(heavy & set(sys.modules))); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "toy")], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("flops", "text"),
    [(26_956_472_288, "27.0"), (1_684_842_018, "1.68"), (9_450_000, "0.00945"), (460_000_000_000, "460")],
)
def test_sums_have_three_digits(flops: int, text: str) -> None:
    assert three_digits(flops) == text


def test_exits_after_the_glance_and_thresholds_of_labels_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full, balanced = make_manifest().operating_points
    early = balanced.model_copy(update={"glance_thresholds": (0.95, None, None, None)})
    manifest = make_manifest(
        operating_points=(full, early),
        graphs=(make_graph("glance", glance_exit=True), make_graph("focus")),
        glance_temperatures=(1.5, 1.0, 1.0, 1.0),
        task="multi_label",
        exit_criterion="label_margin",
        label_thresholds=(0.5, 0.25, 0.125),
        sampling=Sampling(frames=4, order=(1, 0, 3, 2), snap="keyframe"),
    )
    assert inspect(tmp_path, manifest) == 0
    out = lines(capsys)
    for line in (
        "present several labels, from a score of up 0.5, down 0.25, still 0.125",
        "snapped to the nearest key frame of each interval, if it has one",
        "Thresholds after the glance of a step, before its focus (–: no exit there)",
        "1 0.00100 1.5 0.9500",
        "2 0.00600 1 –",
    ):
        assert line in out, out
