"""Several fronts and one engine as real processes: they are one service, and outlive each other."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.test_serve import Process, command, server
from tests.e2e.tiny import write_clip, write_tiny_bundle

FRONTS = 2
PATIENCE_SECONDS = 60.0
FRONT, HUB, DECODER = "adafocus.cli.fronts.front", "adafocus.service.engine.hub", "adafocus.service.decode.worker.main"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny").path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_clip(tmp_path_factory.mktemp("clips") / "bright.mp4", "bright").read_bytes()


@pytest.fixture
def service(project_root: Path, bundle: Path) -> Iterator[Service]:
    options = {"ADAFOCUS_DRAIN_GRACE_SECONDS": "0", "ADAFOCUS_DECODE_WORKERS": "2", "ADAFOCUS_FRONTS": str(FRONTS)}
    with server(project_root, "--bundle", bundle, **options) as (process, url):
        service = Service(process, url)
        service.until(service.all_ready)
        yield service


class Service:
    """A service with several fronts, and its processes."""

    def __init__(self, process: Process, url: str) -> None:
        self.process = process
        self.url = url

    def pids(self, module: str) -> set[int]:
        """The processes of one kind, however deep below the supervisor."""
        return {pid for pid in _descendants(self.process.popen.pid) if module in _command_line(pid)}

    def ask(self, clip: bytes) -> httpx.Response:
        """Classify on a new connection."""
        return httpx.post(f"{self.url}/classify", content=clip, timeout=PATIENCE_SECONDS, trust_env=False)

    def metric(self, name: str, **labels: str) -> float:
        text = httpx.get(f"{self.url}/metrics", timeout=PATIENCE_SECONDS, trust_env=False).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        found = [sample for sample in samples if sample.name == name and labels.items() <= sample.labels.items()]
        return sum(sample.value for sample in found)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that other processes bring about."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            try:
                if condition():
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError("waited in vain")

    def answers(self, clip: bytes) -> bool:
        return self.ask(clip).status_code == 200

    def all_ready(self) -> bool:
        """Whether every front is there and ready; new connections are spread over the fronts."""
        if self.metric("adafocus_slots") != FRONTS:
            return False
        asked = [httpx.get(f"{self.url}/readyz", timeout=PATIENCE_SECONDS, trust_env=False) for _ in range(4 * FRONTS)]
        return all(answer.status_code == 200 for answer in asked)


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield int(child)
            yield from _descendants(int(child))


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def test_fronts_are_one_service_whichever_is_asked_and_end_together(service: Service, clip: bytes) -> None:
    assert len(service.pids(FRONT)) == FRONTS
    assert len(service.pids(HUB)) == 1
    answers = [service.ask(clip).json() for _ in range(8)]
    assert [answer.get("code") for answer in answers] == [None] * 8
    assert {answer["predictions"][0]["label"] for answer in answers} == {"bright"}
    for _ in range(4):
        assert service.metric("adafocus_requests_total", outcome="ok") == 8
        assert service.metric("adafocus_batch_size_count", component="glance") >= 1
        assert service.metric("adafocus_ready") == 1
        assert service.metric("adafocus_slots") == FRONTS
        assert service.metric("adafocus_model_info") == 1
    service.process.popen.send_signal(signal.SIGTERM)
    assert service.process.popen.wait(timeout=PATIENCE_SECONDS) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in service.pids(""))


def test_a_front_that_is_killed_is_started_again_and_nothing_else_is_lost(service: Service, clip: bytes) -> None:
    assert service.ask(clip).status_code == 200
    before = service.pids(FRONT)
    os.kill(next(iter(before)), signal.SIGKILL)
    # The other one takes every connection that begins after the end, and what was counted stays counted.
    service.until(lambda: service.answers(clip))
    service.until(lambda: len(service.pids(FRONT)) == FRONTS and service.pids(FRONT) != before)
    service.until(service.all_ready)
    counted = service.metric("adafocus_requests_total", outcome="ok")
    assert counted >= 2
    assert all(service.answers(clip) for _ in range(4))
    assert service.metric("adafocus_requests_total", outcome="ok") == counted + 4


def test_an_engine_that_is_killed_comes_back_and_answers_what_it_had(service: Service, clip: bytes) -> None:
    (hub,) = service.pids(HUB)
    os.kill(hub, signal.SIGSTOP)  # so that requests are in flight when it ends
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(service.ask, clip) for _ in range(2)]
        service.until(lambda: service.metric("adafocus_slots_active") >= 1)
        os.kill(hub, signal.SIGKILL)
        statuses = {future.result().status_code for future in asked}
    assert 200 in statuses
    assert statuses <= {200, 503}, "one that had not been taken in when the engine ended may be refused"
    service.until(lambda: service.pids(HUB) not in (set(), {hub}))
    service.until(lambda: service.answers(clip))
    service.until(service.all_ready)
    assert httpx.get(f"{service.url}/readyz", trust_env=False).status_code == 200


def test_a_decoder_that_is_killed_is_replaced(service: Service, clip: bytes) -> None:
    decoders = service.pids(DECODER)
    for pid in decoders:
        os.kill(pid, signal.SIGKILL)
    service.until(lambda: len(service.pids(DECODER) - decoders) == len(decoders))
    service.until(lambda: service.answers(clip))
    templates = FRONTS  # each front has one, and it is no worker
    assert service.metric("adafocus_decode_worker_restarts_total") == len(decoders) - templates


def test_fronts_and_the_engine_end_when_their_supervisor_is_killed(service: Service) -> None:
    processes = service.pids("python")
    assert len(processes) >= 2 * FRONTS + 1
    service.process.popen.kill()
    service.until(lambda: not any(Path(f"/proc/{pid}/fd").exists() and _command_line(pid) for pid in processes))


def test_a_bundle_that_cannot_be_loaded_is_said_in_one_line(project_root: Path, bundle: Path) -> None:
    arguments = command("--port", 0, "--bundle", bundle, "--fronts", 2, "--backend", "torchscript")
    ran = subprocess.run(arguments, cwd=project_root, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert ran.returncode != 0
    assert "torchscript" in ran.stderr.splitlines()[-1]
    assert ran.stderr.splitlines()[-1].startswith("adafocus: ")


def test_a_limit_holds_for_all_fronts_together(project_root: Path, bundle: Path, clip: bytes) -> None:
    options = {"ADAFOCUS_FRONTS": str(FRONTS), "ADAFOCUS_RATE_LIMIT_PER_MINUTE": "1"}
    with server(project_root, "--bundle", bundle, **options) as (process, url):
        service = Service(process, url)
        service.until(service.all_ready)
        assert [service.ask(clip).status_code for _ in range(8)] == [200] + [429] * 7


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_service_with_one_front_drains_on_these_signals_too(
    project_root: Path, bundle: Path, number: signal.Signals
) -> None:
    with server(project_root, "--bundle", bundle, ADAFOCUS_DRAIN_GRACE_SECONDS="0") as (process, _):
        process.popen.send_signal(number)
        process.until("draining")
        assert process.popen.wait(timeout=PATIENCE_SECONDS) == 0
