"""The commands of docs/recipes.md as they stand there, with a bucket, a video and cameras on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow.parquet
import pytest

from tests.bucket import Bucket, a_bucket
from tests.e2e.tiny import write_parts, write_tiny_bundle
from tests.service.live.rtsp_server import Camera, serving_rtsp


def recipe(root: Path, title: str) -> str:
    """The commands under a heading."""
    page = (root / "docs" / "recipes.md").read_text(encoding="utf-8")
    section = page.partition(f"## {title}\n")[2].partition("\n## ")[0]
    found = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """An environment in which ``adafocus`` is the command of this tree, with a tiny bundle."""
    commands = tmp_path / "bin"
    commands.mkdir()
    program = commands / "adafocus"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m adafocus "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    bundle = write_tiny_bundle(tmp_path / "tiny").path
    path = f"{commands}:{os.environ['PATH']}"
    root = str(Path(__file__).resolve().parent.parent.parent)
    settings = {"ADAFOCUS_BUNDLE": str(bundle), "ADAFOCUS_DECODE_WORKERS": "1", "ADAFOCUS_URL_PRIVATE": "true"}
    return {**os.environ, **settings, "PATH": path, "PYTHONPATH": root, "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="module")
def store() -> Iterator[Bucket]:
    with a_bucket() as running:
        yield running


def run(code: str, folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_bucket_overnight(
    project_root: Path, tmp_path: Path, shell: dict[str, str], store: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, label in enumerate(("dark", "bright", "grey")):
        store.put(f"last-night/{number}.mp4", write_parts(tmp_path / "clip.mp4", [(label, 2.0)]).read_bytes())
    store.use(monkeypatch)
    access = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    code = recipe(project_root, "A bucket overnight").replace("--exit fast", "--exit full")
    for _ in range(2):  # a second run finds everything done
        run(code, tmp_path, shell | access)
        (part,) = (tmp_path / "results").glob("*.parquet")
        rows = pyarrow.parquet.read_table(part).to_pylist()
        assert [row["file"] for row in rows] == [f"s3://videos/last-night/{number}.mp4" for number in range(3)]
        assert [row["predictions"][0]["label"] for row in rows] == ["dark", "bright", "grey"]


def test_an_hour_of_video(project_root: Path, tmp_path: Path, shell: dict[str, str]) -> None:
    write_parts(tmp_path / "hour.mp4", [("dark", 60.0), ("bright", 40.0), ("dark", 10.0), ("bright", 50.0)])
    run(recipe(project_root, "An hour of video").replace("balanced", "full"), tmp_path, shell)
    answer = json.loads((tmp_path / "hour.json").read_text(encoding="utf-8"))
    assert len(answer["segments"]) == 16
    assert [(event["label"], event["start_s"], event["end_s"]) for event in answer["events"]] == [
        ("dark", 0, pytest.approx(60, abs=0.5)),
        ("bright", pytest.approx(60, abs=0.5), pytest.approx(160, abs=0.5)),
    ], "ten seconds of something else are bridged"


async def test_fifty_cameras(project_root: Path, tmp_path: Path, shell: dict[str, str]) -> None:
    clip = write_parts(tmp_path / "clip.ts", [("dark", 22.0)], codec="libx264").read_bytes()
    async with serving_rtsp(lambda: Camera(clip, password="secret", holds=True)) as server:  # noqa: S106
        code = recipe(project_root, "Fifty cameras").replace("viewer:", "operator:").replace("1 50", "1 3")
        code = re.sub(r"10\.0\.7\.1%s/stream2", f"127.0.0.1:{server.port}/stream%s", code).replace("8001", "0")
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", code),
            cwd=tmp_path,
            env=shell,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stderr is not None
        try:
            url = (await process.stderr.readline()).decode().split()[-1]
            async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client, asyncio.timeout(120):
                while True:
                    cameras = (await client.get("cameras")).json()["cameras"]
                    if all(camera["windows"] for camera in cameras):
                        break
                    await asyncio.sleep(0.1)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            await process.wait()
    assert [camera["name"] for camera in cameras] == ["hall-1", "hall-2", "hall-3"]
    assert {camera["label"] for camera in cameras} == {"dark"}
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["camera"] for row in rows if row["type"] == "window"} == {"hall-1", "hall-2", "hall-3"}
    assert "secret" not in (tmp_path / "rows.jsonl").read_text(encoding="utf-8")
