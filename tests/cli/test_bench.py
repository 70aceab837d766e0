from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.bench import _json
from cli.load import Sample, percentile, report
from cli.main import main


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.integers(1, 100))
def test_a_percentile_is_one_of_the_values_and_bounds_that_share_of_them(values: list[float], percent: int) -> None:
    ascending = sorted(values)
    found = percentile(ascending, percent)
    assert found in ascending
    assert sum(value <= found for value in ascending) * 100 >= percent * len(ascending)
    assert sum(value < found for value in ascending) * 100 < percent * len(ascending)


def test_without_an_answer_the_object_is_still_json() -> None:
    told = json.loads(_json(report([Sample(0.0, 1.0, 503)], 100.0)), parse_constant=lambda word: pytest.fail(word))
    assert told["latency_ms"] == {"p50": None, "p90": None, "p95": None, "p99": None}


def test_a_report_counts_only_what_was_answered_and_in_time() -> None:
    samples = [Sample(0.0, 0.05, 200, 1.0, 4.0), Sample(0.0, 0.5, 200, 3.0, 4.0), Sample(1.0, 2.0, 503, problem="busy")]
    summary = report(samples, slo_ms=100)
    assert (summary.requests, summary.answered, summary.seconds) == (3, 2, 2.0)
    assert (summary.throughput, summary.goodput) == (1.0, 0.5)
    assert (summary.gflops_per_request, summary.share_of_full) == (2.0, 0.5)
    assert summary.statuses == {"200": 2, "503": 1}
    assert summary.problems == {"busy": 1}
    assert summary.latency_ms["p50"] == pytest.approx(50.0)


class Handler(BaseHTTPRequestHandler):
    """Answers as the service does, every ``refuse_every``-th time with 503."""

    protocol_version = "HTTP/1.1"
    refuse_every = 3
    seen: list[tuple[str, str | None, int]] = []  # noqa: RUF012 - one server a test

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.seen.append((self.path, self.headers.get("authorization"), len(body)))
        status = 503 if len(self.seen) % self.refuse_every == 0 else 200
        answer = {"compute": {"gflops": 0.5, "gflops_full": 2.0}} if status == 200 else {"code": "overloaded"}
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    Handler.seen = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"0123456789")
    return path


@pytest.mark.parametrize("loop", [["--concurrency", "3"], ["--rate", "500"]])
def test_a_load_is_sent_whole_and_summed_up(
    url: str, clip: Path, loop: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["bench", str(clip), "--url", url, "--requests", "8", "--exit", "fast", "--key", "k", "--json", *loop])
    summary = json.loads(capsys.readouterr().out)
    assert code == 0
    assert Handler.seen == [("/classify?exit=fast", "Bearer k", 10)] * 9, "the load, after one request to try"
    assert summary["requests"] == 8
    assert summary["statuses"] == {"200": 5, "503": 3}
    assert summary["problems"] == {"overloaded": 3}
    assert summary["share_of_full"] == 0.25


def test_a_load_that_is_mostly_refused_is_no_success(
    url: str, clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Handler, "refuse_every", 2)
    assert main(["bench", str(clip), "--url", url, "--requests", "9"]) == 1
    said = capsys.readouterr()
    assert "5 of 9 requests were not answered: overloaded 5" in said.err
    assert "200: 4, 503: 5" in said.out


def test_a_person_reads_a_table(url: str, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(clip), "--url", url, "--requests", "1"]) == 0
    words = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert words == {"requests", "throughput", "goodput", "latency", "compute"}


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--url", "http://127.0.0.1:1"], 1, "no service answers at http://127.0.0.1:1"),
        (["--rate", "1", "--concurrency", "2"], 2, "give one of them"),
        (["--rate", "0"], 2, "0"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    clip: Path, options: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(clip), *options]) == code
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
