"""Batches on a Ray cluster of two nodes on this machine, and what happens when its parts are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adafocus.bundle.store import load_bundle
from adafocus.cli.configuration import settings_from
from adafocus.cli.in_process import UNBOUNDED, VideoInput
from adafocus.cli.main import main
from adafocus.cli.offline import on_ray
from adafocus.cli.offline.on_ray import Classifier, Pool, classify_on_ray
from adafocus.service.schemas.parameters import parse_parameters
from adafocus.service.settings import Settings
from tests.cli.test_batch import KILLED, read_rows
from tests.conftest import ROOT
from tests.e2e.tiny import write_clip, write_tiny_bundle

ray = pytest.importorskip("ray", reason="needs ray (the extra ray)")

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]

STORE_BYTES = 80 << 20  # the least that Ray accepts
NODE: dict[str, Any] = {
    "num_cpus": 1,
    "object_store_memory": STORE_BYTES,
    "include_dashboard": False,
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and another node, each with one core."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        made = Cluster(initialize_head=True, head_node_args=NODE)
        made.add_node(**{name: value for name, value in NODE.items() if name != "include_dashboard"})
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny").path


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADAFOCUS_DECODE_WORKERS", "1")
    monkeypatch.setattr(on_ray, "VIDEOS_PER_BLOCK", 3)
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(11):
        write_clip(folder / f"{number:02d}.mp4", ("dark", "grey", "bright")[number % 3])
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


class Poisoned(Classifier):
    """Ends its process at one name."""

    def __call__(self, block: dict[str, Any]) -> dict[str, Any]:
        if any(name.endswith("05.mp4") for name in block["name"]):
            os._exit(1)
        return super().__call__(block)


def options(bundle: Path, clips: Path, out: Path) -> list[str]:
    return ["batch", str(clips), "--bundle", str(bundle), "--out", str(out)]


def on_cluster(cluster: Any) -> list[str]:
    return ["--ray", cluster.address, "--actor-cores", "1"]


def test_the_rows_are_those_of_a_run_without_ray(cluster: Any, bundle: Path, clips: Path, tmp_path: Path) -> None:
    assert main([*options(bundle, clips, tmp_path / "ray"), *on_cluster(cluster)]) == 0
    assert main(options(bundle, clips, tmp_path / "here")) == 0
    assert read_rows(tmp_path / "ray") == read_rows(tmp_path / "here")
    assert len(read_rows(tmp_path / "ray")) == 12


def test_a_driver_that_is_killed_goes_on_with_ray_or_without(
    cluster: Any, bundle: Path, clips: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ray"
    command = [sys.executable, "-c", KILLED, str(random.randint(1, 9)), *options(bundle, clips, out)]
    done = subprocess.run([*command, *on_cluster(cluster)], cwd=ROOT, capture_output=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert main(options(bundle, clips, out)) == 0
    assert main(options(bundle, clips, tmp_path / "here")) == 0
    assert read_rows(out) == read_rows(tmp_path / "here")


def asked(bundle: Path, clips: Path) -> tuple[list[VideoInput], Settings, Any]:
    settings = settings_from({"bundle": bundle, **UNBOUNDED})
    videos = [VideoInput(path.name, path) for path in sorted(clips.iterdir())]
    return videos, settings, parse_parameters([], load_bundle(bundle).manifest)


def test_a_video_that_ends_its_process_is_one_error_row(
    cluster: Any, bundle: Path, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "MOST_RETRIES", 1)
    videos, settings, ask = asked(bundle, clips)
    rows = list(classify_on_ray(videos, settings, ask, Pool(1), cluster.address, Poisoned))
    assert sorted(row["file"] for row in rows) == [video.name for video in videos]
    codes = {row["file"]: row["error"]["code"] for row in rows if "error" in row}
    assert codes == {"05.mp4": "internal", "broken.mp4": "unsupported_media"}


def test_a_node_that_is_lost_costs_no_row(cluster: Any, bundle: Path, clips: Path) -> None:
    """The second node is killed when the first rows have come."""
    node = cluster.add_node(**{name: value for name, value in NODE.items() if name != "include_dashboard"})
    videos, settings, ask = asked(bundle, clips)
    rows = []
    for row in classify_on_ray(videos, settings, ask, Pool(1), cluster.address):
        if not rows:
            cluster.remove_node(node, allow_graceful=False)
        rows.append(row)
    assert sorted(row["file"] for row in rows) == [video.name for video in videos]
    assert [row["file"] for row in rows if "error" in row] == ["broken.mp4"]


def test_no_cluster_is_one_sentence(
    bundle: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*options(bundle, clips, tmp_path / "out"), "--ray", "127.0.0.1:1"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("adafocus: there is no Ray cluster at 127.0.0.1:1: ")
