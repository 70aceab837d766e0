"""The application of `adafocus watch`."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from adafocus.service.http.cameras import create_cameras_app
from adafocus.service.live.camera_state import CameraState
from adafocus.service.live.demuxer_process import StreamWindow
from adafocus.service.schemas.cameras import CamerasReport
from adafocus.service.settings import Settings
from adafocus.service.telemetry.camera_definitions import CAMERA_CATALOGUE, camera_metrics
from adafocus.service.telemetry.camera_metrics import CameraMetrics
from adafocus.service.telemetry.metrics import Metrics

NAMES = ("gate", "yard")


class World:
    """Two cameras and the application about them."""

    def __init__(self, **settings: object) -> None:
        metrics, self.of_cameras = Metrics(4), CameraMetrics(NAMES, 1000.0)
        metrics.include(self.of_cameras.collect)
        self.states = [CameraState(name, self.of_cameras) for name in NAMES]
        self.app: FastAPI = create_cameras_app(
            Settings(bundle=Path("none"), **settings),  # type: ignore[arg-type]
            metrics,
            lambda: CamerasReport(cameras=tuple(state.report() for state in self.states)),
        )

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://watch")

    async def metric(self, name: str, **labels: str) -> float:
        async with self.client() as client:
            text = (await client.get("/metrics")).text
        return next(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        )


async def test_cameras_are_told_in_the_order_of_the_file_and_without_their_urls() -> None:
    world = World()
    gate = world.states[0]
    gate.opens()
    gate.lives()
    gate.arrived(StreamWindow(0.0, 2.0, b"x", brightness=200.0, change=None, cpu_s=0.5))
    gate.answered("drone", 0.87654321, lag_s=0.25, at=1_700_000_000.0, gflops=0.5)
    world.states[1].opens()
    world.states[1].lost("the camera was silent for too long")
    world.states[1].opens()
    async with world.client() as client:
        answer = await client.get("/cameras")
    assert answer.headers["cache-control"] == "no-store"
    first, second = answer.json()["cameras"]
    assert (first["name"], first["state"], first["label"], first["score"]) == ("gate", "live", "drone", 0.8765)
    assert (first["last_window"], first["lag_s"], first["windows"]) == ("2023-11-14T22:13:20.000+00:00", 0.25, 1)
    assert (second["state"], second["reconnects"], second["windows"]) == ("lost", 1, 0)
    assert "url" not in first


async def test_every_series_exists_from_the_start_and_counts() -> None:
    world = World()
    async with world.client() as client:
        text = (await client.get("/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for metric in camera_metrics(NAMES):
        family = families[metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name]
        assert {tuple(sample.labels[name] for name in metric.labels) for sample in family.samples} == set(
            metric.series(1)
        )
    gate = world.states[0]
    gate.opens()
    gate.lives()
    gate.arrived(StreamWindow(0.0, 2.0, b"x", brightness=3.0, change=0.0, cpu_s=0.5))
    gate.dropped_one()
    gate.failed_one()
    gate.arrived(StreamWindow(2.0, 2.0, b"x", brightness=3.0, change=0.0, cpu_s=0.75))
    gate.opens()  # another process of which the time is counted from 0
    gate.arrived(StreamWindow(0.0, 2.0, b"x", brightness=None, change=None, cpu_s=0.25))
    world.of_cameras.notified("mqtt", "delivered")
    expected = {
        "adafocus_camera_up": 1.0,
        "adafocus_camera_black": 1.0,
        "adafocus_camera_frozen": 1.0,
        "adafocus_camera_reconnects_total": 1.0,
        "adafocus_camera_demuxer_cpu_seconds_total": 1.0,
        "adafocus_camera_last_window_timestamp_seconds": 1000.0,
    }
    assert {name: await world.metric(name, camera="gate") for name in expected} == expected
    for outcome in ("dropped", "failed"):
        assert await world.metric("adafocus_camera_windows_total", camera="gate", outcome=outcome) == 1
    assert await world.metric("adafocus_camera_notifications_total", channel="mqtt", outcome="delivered") == 1
    gate.ended()
    assert await world.metric("adafocus_camera_up", camera="gate") == 0


def test_names_have_base_units() -> None:
    for metric in CAMERA_CATALOGUE:
        assert metric.name.startswith("adafocus_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")


async def test_keys_guard_cameras_and_not_health() -> None:
    world = World(api_keys=["s3cr3t-key"], metrics_need_key=True)
    async with world.client() as client:
        for path in ("/cameras", "/metrics"):
            refused = await client.get(path)
            assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
            assert (await client.get(path, headers={"Authorization": "Bearer s3cr3t-key"})).status_code == 200
        assert (await client.get("/healthz")).json() == {"status": "alive"}
        assert (await client.get("/")).status_code == 200


@pytest.mark.parametrize("path", ["/", "/web/cameras.js", "/web/cameras.css", "/web/base.css"])
async def test_the_page_is_served_with_its_guards(path: str) -> None:
    async with World().client() as client:
        answer = await client.get(path)
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert (await client.head(path)).status_code == 200
        assert (await client.get("/web/none.js")).json()["code"] == "not_found"
