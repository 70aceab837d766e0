from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.cli.bench import _complaints, _json
from adafocus.cli.load.plan import Plan
from adafocus.cli.load.report import Refusal, Sample, percentile, report
from adafocus.cli.main import main


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
    samples = [Sample(0.0, 0.05, 200, 1.0, 4.0), Sample(0.0, 0.5, 200, 3.0, 4.0), Sample(1.0, 2.0, 503)]
    summary = report(samples, slo_ms=100)
    assert (summary.requests, summary.answered, summary.seconds) == (3, 2, 2.0)
    assert (summary.throughput, summary.goodput) == (1.0, 0.5)
    assert (summary.gflops_per_request, summary.share_of_full) == (2.0, 0.5)
    assert summary.statuses == {"200": 2, "503": 1}
    assert summary.refusals == [Refusal(503, None, None, 1)]
    assert summary.mostly_answered
    assert summary.latency_ms["p50"] == pytest.approx(50.0)


def test_refusals_are_counted_by_status_and_code_the_most_frequent_first() -> None:
    samples = [
        Sample(0.0, 1.0, 0, detail="timed out"),
        *(
            Sample(0.0, 1.0, 422, code=code, detail=f"{code} {n}")
            for n, code in enumerate(["too_long", "undecodable"] * 2)
        ),
        Sample(0.0, 1.0, 422, code="undecodable", detail="another"),
    ]
    summary = report(samples, slo_ms=100)
    assert summary.refusals == [
        Refusal(422, "undecodable", "undecodable 1", 3),
        Refusal(422, "too_long", "too_long 0", 2),
        Refusal(0, None, "timed out", 1),
    ]
    assert not summary.mostly_answered


OVERLOADED = {"code": "overloaded", "detail": "all 2 places are taken"}


class Handler(BaseHTTPRequestHandler):
    """Answers as the service does, every third time with 503, or from the second time on as a test wants it."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str | None, int]] = []  # noqa: RUF012 - one server a test
    later: tuple[int, bytes] | None = None

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.seen.append((self.path, self.headers.get("authorization"), len(body)))
        status, text = 200, json.dumps({"compute": {"gflops": 0.5, "gflops_full": 2.0}}).encode()
        if self.later is not None and len(self.seen) > 1:
            status, text = self.later
        elif len(self.seen) % 3 == 0:
            status, text = 503, json.dumps(OVERLOADED).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    Handler.seen, Handler.later = [], None
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
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert code == 0
    assert Handler.seen == [("/classify?exit=fast", "Bearer k", 10)] * 9, "the load, after one request to try"
    assert summary["requests"] == 8
    assert summary["statuses"] == {"200": 5, "503": 3}
    assert summary["refusals"] == [{"status": 503, **OVERLOADED, "count": 3}]
    line = captured.err.splitlines()[0]
    assert line.endswith("3 of 8 requests were not answered with 200: 3 × 503 overloaded (all 2 places are taken)")
    assert summary["share_of_full"] == 0.25


def test_a_step_load_reports_each_rate(url: str, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", str(clip), "--url", url, "--rate", "50,100", "--step-seconds", "0.2"]
    assert main([*command, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [step["rate"] for step in summary["steps"]] == [50, 100]
    assert sum(step["requests"] for step in summary["steps"]) == summary["requests"] == len(Handler.seen) - 1
    assert sum(step["answered"] for step in summary["steps"]) == summary["answered"]
    assert summary["generator_cpu_ms"] > 0
    assert main(command) == 0
    assert sum(line.startswith("step ") for line in capsys.readouterr().out.splitlines()) == 2


def test_a_step_counts_only_its_own_requests() -> None:
    samples = [
        Sample(0.1, 0.15, 200, step=0),
        Sample(0.5, 1.5, 200, step=0, late=0.5),
        Sample(1.2, 4.0, 200, step=1),
        Sample(1.3, 1.4, 503, step=1, late=0.02),
    ]
    plan = Plan("http://h", [b""], {}, 1, rates=(2.0, 2.0, 1.0), step_seconds=1.0)
    slow, slower, none = report(samples, 100.0, plan).steps
    assert (slow.requests, slow.answered, slow.sent_late) == (2, 2, 1)
    assert (slow.throughput, slow.goodput) == (pytest.approx(2 / 1.4), pytest.approx(1 / 1.4))
    assert (slower.requests, slower.answered, slower.statuses) == (2, 1, {"200": 1, "503": 1})
    assert slower.throughput == pytest.approx(1 / 2.8), "the time that it took to answer counts"
    assert (none.requests, none.answered, none.throughput) == (0, 0, 0.0)
    told = json.loads(_json(report(samples, 100.0, plan)), parse_constant=lambda word: pytest.fail(word))
    assert told["steps"][2]["latency_ms"]["p50"] is None


def test_a_rate_that_was_not_kept_is_said() -> None:
    samples = [Sample(number, number + 0.5, 200, late=0.3 if number < 2 else 0.0) for number in range(100)]
    summary = report(samples, 100.0)
    assert (summary.sent_late, summary.most_late_ms) == (2, pytest.approx(300))
    (line,) = _complaints(summary)
    assert "2 of 100 requests more than 10 ms late, at most 300 ms" in line
    assert _complaints(report(samples[1:], 100.0)) != []
    assert _complaints(report(samples[2:], 100.0)) == []


def test_a_person_reads_a_table(url: str, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(clip), "--url", url, "--requests", "1"]) == 0
    words = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert words == {"requests", "throughput", "goodput", "latency", "compute", "generator"}


RATE_LIMITED = {"code": "rate_limited", "detail": "10 requests in 60 s are permitted"}
BAD_PARAMETER = {"code": "bad_parameter", "detail": "top_k is from 1 to 4; got 9"}


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (429, json.dumps(RATE_LIMITED), "4 × 429 rate_limited (10 requests in 60 s are permitted)"),
        (400, json.dumps(BAD_PARAMETER), "4 × 400 bad_parameter (top_k is from 1 to 4; got 9)"),
        (502, "<html>", "4 × 502"),
        (503, "[]", "4 × 503"),
        (200, "<html>", "4 × no answer (the server returned 200 but not"),
        (200, '{"compute": {}}', "4 × no answer (the server returned 200 but not"),
    ],
)
def test_a_load_that_is_refused_says_so_and_fails(
    url: str, clip: Path, status: int, answer: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Handler.later = (status, answer.encode())
    assert main(["bench", str(clip), "--url", url, "--requests", "4", "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["answered"] == 0
    (line,) = captured.err.splitlines()
    assert f"4 of 4 requests were not answered with 200: {said}" in line
    assert "the figures cover fewer than half" in line
    assert ("--rate" in line) == (status in (429, 503))


def test_what_is_no_adafocus_is_said_before_the_load(
    url: str, clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Handler, "do_POST", _answers_with_a_page)
    assert main(["bench", str(clip), "--url", url]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "not a classification" in captured.err
    assert "--url" in captured.err


def _answers_with_a_page(handler: Handler) -> None:
    handler.rfile.read(int(handler.headers["content-length"]))
    handler.send_response(200)
    handler.send_header("content-length", "6")
    handler.end_headers()
    handler.wfile.write(b"<html>")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--url", "http://127.0.0.1:1"], 1, "no service answers at http://127.0.0.1:1"),
        (["--rate", "1", "--concurrency", "2"], 2, "exclude each other"),
        (["--rate", "0"], 2, "0"),
        (["--rate", "nan"], 2, "--rate"),
        (["--rate", "inf"], 2, "--rate"),
        (["--slo", "nan"], 2, "--slo"),
        (["--rate", "10,,20"], 2, "10,20,40"),
        (["--rate", "10,-1"], 2, "--rate"),
        (["--step-seconds", "5"], 2, "needs --rate"),
        (["--step-seconds", "0", "--rate", "1"], 2, "--step-seconds"),
        (["--rate", "1,2", "--requests", "5"], 2, "omit --requests"),
        (["--rate", "1000000", "--step-seconds", "5"], 2, "1000000 requests"),
        (["--rate", "0.0001", "--step-seconds", "0.0001"], 2, "no request at all"),
        (["--url", "http://localhost:99999"], 1, "no service answers at http://localhost:99999"),
        (["--url", "localhost:8000"], 2, "http://localhost:8000"),
        (["--url", "ftp://localhost"], 2, "http://localhost:8000"),
        (["--key", "clé"], 2, "printable ASCII"),
        (["--key", "two\nlines"], 2, "printable ASCII"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    clip: Path, options: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(clip), *options]) == code
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
