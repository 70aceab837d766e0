"""The authors' files through the command line into every runtime: their own outputs, and the published price."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from adafocus.bundle.instructions import has_bf16
from adafocus.bundle.manifest import Precision
from adafocus.bundle.store import Bundle, load_bundle
from adafocus.cli.inspect import command as inspect
from adafocus.service.engine.runners.selection import RunnerOptions, open_runner
from tests import tolerances
from tests.fixtures.authors import weights
from tests.parity import authors

pytestmark = pytest.mark.parity


@dataclass(frozen=True)
class Published:
    """A configuration and what the tables say of it, in GFLOPs."""

    config: str
    per_video: str
    per_step: str
    served: str


CASES = {
    "act_mbv2_p128": Published("actnet_mbv2_p128", "27.0", "1.684842018", "1.684126592"),
    "act_res50_p128": Published("actnet_res50_p128", "34.1", "2.131277762", "2.130399232"),
    "sth_tsm_p128": Published("sthv2_tsm_p128", "18.5", "18.458820608", "18.452762624"),
}


@dataclass(frozen=True)
class Case:
    bundle: Bundle
    published: Published
    expected: authors.Arrays
    told: dict[str, Any]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Future[Case]]]:
    """All of them at once, in two processes: torch's exporter keeps one processor busy for most of a minute each."""
    root = tmp_path_factory.mktemp("exports")
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(exported, name, root / name) for name in CASES}
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, exports: Mapping[str, Future[Case]]) -> Iterator[Case]:
    """One of them; its folder is large and goes when its tests are done."""
    found = exports[request.param].result()
    yield found
    shutil.rmtree(found.bundle.path.parent)


def exported(name: str, folder: Path) -> Case:
    """Export a file written as the authors write theirs, in a process of its own."""
    folder.mkdir()
    spec = json.loads((authors.FOLDER / f"state_dict_spec_{name}.json").read_text())
    state = weights.make_state(spec["entries"], keep_module=True)
    torch.save({"state_dict": {key: torch.from_numpy(value) for key, value in state.items()}}, folder / "ckpt.pth.tar")
    del state
    published = CASES[name]
    arguments = ["--checkpoint", folder / "ckpt.pth.tar", "--config", published.config, "--format", "onnx,torchscript"]
    command = [Path(sys.executable).with_name("adafocus"), "export", *arguments, "--out", folder / "bundle", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Case(
        load_bundle(folder / "bundle"), published, authors.expected(f"expected_{name}"), json.loads(done.stdout)
    )


def answers(
    case: Case, backend: str, precision: Precision = "fp32", *, looked: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Logits [V, T, C] and patch centres [V, T, 2] in the runner that serves, on its patches or others."""
    if case.bundle.manifest.kind == "frame":
        frames = np.stack([weights.make_video(index, 16) for index in range(2)], axis=1)  # (T, V, H, W, 3)
        steps = [(frame, frame) for frame in frames]
    else:
        seen, looked_at = (
            np.stack([weights.make_video(first + index, count) for index in range(4)])
            for first, count in ((10, 8), (20, 12))
        )
        steps = [(seen, looked_at)]
    runner = open_runner(case.bundle, RunnerOptions(torch.get_num_threads(), (1, 2, 4), backend, precision))
    rows = len(steps[0][0])
    policy, pooled = (np.zeros((rows, size), np.float32) for size in (runner.widths.policy, runner.widths.pooled))
    logits, centres = [], []
    for number, (seen, looked_at) in enumerate(steps):
        glance = runner.glance(seen, policy)
        step = np.full(rows, number, np.int64)
        centre = glance.patch_centre if looked is None else looked[:, number]
        focus = runner.focus(looked_at, centre, glance.feature, pooled, step)
        policy, pooled = glance.policy_state, focus.pooled_state
        logits.append(focus.logits)
        centres.append(glance.patch_centre)
    runner.close()
    return np.stack(logits, axis=1), np.stack(centres, axis=1)


@pytest.mark.parametrize("backend", ["onnxruntime-cpu", "openvino", "torchscript"])
def test_every_runtime_answers_as_the_authors_code(case: Case, backend: str) -> None:
    frame, want = case.bundle.manifest.kind == "frame", case.expected
    logits, centres = answers(case, backend)
    logits = logits - (want["cat_logits"] if frame else want["pred"][:, None])
    centres = centres - (want["actions"] if frame else want["actions"][:, None])
    assert np.abs(centres).max() <= tolerances.ACTIONS
    assert np.abs(logits).max() <= tolerances.LOGITS_MAX
    assert np.sqrt(np.mean(logits**2)) <= tolerances.LOGITS_RMS


@pytest.mark.parametrize("backend", ["onnxruntime-cpu", "openvino"])
def test_several_steps_of_one_video_in_a_batch_answer_as_the_authors_code(case: Case, backend: str) -> None:
    if case.bundle.manifest.kind != "frame":
        pytest.skip("a clip model has one step")
    options = RunnerOptions(torch.get_num_threads(), (1, 2, 4), backend, "fp32", look_ahead=4)
    runner = open_runner(case.bundle, options)
    for index, (want, actions) in enumerate(zip(case.expected["cat_logits"], case.expected["actions"], strict=True)):
        video = weights.make_video(index, 16)
        policy, pooled = (np.zeros((1, size), np.float32) for size in (runner.widths.policy, runner.widths.pooled))
        for step in np.arange(16).reshape(4, 4):
            glance = runner.glance(video[step], policy)
            focus = runner.focus(video[step], glance.patch_centre, glance.feature, pooled, step)
            policy, pooled = glance.policy_state[-1:], focus.pooled_state[-1:]
            assert np.abs(glance.patch_centre - actions[step]).max() <= tolerances.ACTIONS
            assert np.abs(focus.logits - want[step]).max() <= tolerances.LOGITS_MAX
    runner.close()


@pytest.mark.skipif(not has_bf16(), reason="needs a processor with bf16")
def test_bf16_reads_what_the_authors_code_reads_on_the_same_patches(case: Case) -> None:
    """On its own patches rounding would come back as another picture: these weights answer at random."""
    if case.published.config != "actnet_mbv2_p128":
        pytest.skip("its bound was measured for actnet_mbv2_p128")
    frame, want = case.bundle.manifest.kind == "frame", case.expected
    looked = (want["actions"] if frame else want["actions"][:, None]).astype(np.float32)
    logits, centres = answers(case, "openvino", "bf16", looked=looked)
    logits = logits - (want["cat_logits"] if frame else want["pred"][:, None])
    assert np.abs(centres - looked).max() <= tolerances.BF16_ACTIONS
    assert np.abs(logits).max() <= tolerances.BF16_LOGITS_MAX
    assert np.sqrt(np.mean(logits**2)) <= tolerances.BF16_LOGITS_RMS


@pytest.mark.parametrize("fmt", ["onnx", "torchscript"])
def test_exported_graphs_answer_as_torch_on_the_same_patches(case: Case, fmt: str) -> None:
    verified = case.told["verified"][fmt]
    assert verified["features_max"] <= tolerances.FEATURE_MAP
    assert verified["logits_max"] <= tolerances.LOGITS_MAX
    assert verified["logits_rms"] <= tolerances.LOGITS_RMS


def test_inspect_states_the_published_price_and_the_served_one(case: Case) -> None:
    result = CliRunner().invoke(inspect, [str(case.bundle.path)])
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    per_video = next(line for line in lines if line[:2] == ["per", "video"])
    per_step = next(line for line in lines if line[:2] in (["per", "frame"], ["per", "clip"]))
    assert per_video[-1] == case.published.per_video
    assert per_step[-2:] == [case.published.served, case.published.per_step]
    assert "auxiliary training heads" in " ".join(result.stdout.split())
    assert sum(line[-1:] == ["verified"] for line in lines) == 4
