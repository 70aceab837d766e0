"""The load generator against small servers of its own, over real sockets."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from adafocus.cli.load.connection import Endpoint
from adafocus.cli.load.plan import Plan
from adafocus.cli.load.report import Sample
from adafocus.cli.load.run import run
from tests.tls import CERTIFICATE, server_context

BODY = json.dumps({"compute": {"gflops": 0.5, "gflops_full": 2.0}}).encode()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
BUSY = b'HTTP/1.1 503 \r\nContent-Length: 21\r\n\r\n{"code":"overloaded"}'
CLIP = bytes(range(256)) * 8192  # two mebibytes: more than a socket takes at once

Behaviour = Callable[[socket.socket, int], None]


class Server:
    """Accepts connections, each on a thread, and does with each what it was made for."""

    def __init__(self, behave: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self.received: list[tuple[bytes, bytes]] = []
        self._behave = behave
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def _serve(self, accepted: socket.socket) -> None:
        with accepted:
            try:
                side = accepted if self._tls is None else self._tls.wrap_socket(accepted, server_side=True)
                with side:
                    first = side.recv(1, socket.MSG_PEEK) if self._tls is None else b"x"
                    if first:  # the look-up's probe says nothing
                        self.connections += 1
                        self._behave(side, self.connections)
            except OSError:
                return

    def read(self, side: socket.socket) -> bool:
        """Read one request, and nothing of the next; False if there is none."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            more = side.recv(1)
            if not more:
                return False
            head += more
        head = head.removesuffix(b"\r\n\r\n")
        length = int(next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length")).split()[1])
        body = b""
        while len(body) < length and (more := side.recv(min(1 << 16, length - len(body)))):
            body += more
        self.received.append((head, body))
        return True


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    with ExitStack() as held:

        def make(behave: Behaviour, tls: ssl.SSLContext | None = None) -> Server:
            server = Server(behave, tls)
            held.callback(server.close)
            return server

        yield make


def answer_all(servers: list[Server], *responses: bytes) -> Behaviour:
    """Answer with these in turn, and with the last from then on."""

    def behave(side: socket.socket, _: int) -> None:
        left = list(responses)
        while servers[0].read(side):
            side.sendall(left.pop(0) if len(left) > 1 else left[0])

    return behave


def load(url: str, clips: list[bytes] | None = None, **options: object) -> list[Sample]:
    samples: list[Sample] = []
    defaults: dict[str, object] = {"parameters": {}, "requests": 6}
    plan = Plan(url=url, clips=clips or [CLIP], **{**defaults, **options})  # type: ignore[arg-type] # by name
    run(plan, Endpoint.find(url), samples.append)
    return samples


@pytest.mark.parametrize("options", [{"concurrency": 3}, {"rates": (400.0,)}])
def test_large_clips_arrive_whole_and_connections_are_kept(
    serve: Callable[..., Server], options: dict[str, object]
) -> None:
    servers: list[Server] = []
    servers.append(serve(answer_all(servers, OK)))
    samples = load(f"http://127.0.0.1:{servers[0].port}", [CLIP, b"", b"abc"], requests=12, **options)
    assert [(s.status, s.gflops, s.gflops_full) for s in samples] == [(200, 0.5, 2.0)] * 12
    bodies = [body for _, body in servers[0].received]
    assert sorted(bodies, key=len) == [b""] * 4 + [b"abc"] * 4 + [CLIP] * 4
    assert all(sample.answered >= sample.due and sample.late >= 0 for sample in samples)
    if "concurrency" in options:
        assert servers[0].connections == 3


def test_https_is_spoken_and_the_certificate_is_checked(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers: list[Server] = []
    servers.append(serve(answer_all(servers, OK), server_context()))
    url = f"https://127.0.0.1:{servers[0].port}"
    refused = load(url, requests=1)
    assert refused[0].status == 0
    assert "CERTIFICATE_VERIFY_FAILED" in (refused[0].detail or "")
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    samples = load(url, requests=8, concurrency=2)
    assert [sample.status for sample in samples] == [200] * 8
    assert [body for _, body in servers[0].received] == [CLIP] * 8


def test_a_refusal_before_the_upload_has_ended_is_read_and_the_rest_sent(serve: Callable[..., Server]) -> None:
    servers: list[Server] = []

    def refuse_first(side: socket.socket, _: int) -> None:
        while side.recv(1, socket.MSG_PEEK):
            side.sendall(BUSY)
            if not servers[0].read(side):
                return

    servers.append(serve(refuse_first))
    samples = load(f"http://127.0.0.1:{servers[0].port}")
    assert [(sample.status, sample.code) for sample in samples] == [(503, "overloaded")] * 6
    assert servers[0].connections == 1, "the connection was used again"
    assert [body for _, body in servers[0].received[:5]] == [CLIP] * 5, "the last may still be on its way"


def test_a_refusal_on_a_connection_that_is_closed_is_read(serve: Callable[..., Server]) -> None:
    def refuse_and_close(side: socket.socket, _: int) -> None:
        side.sendall(BUSY.replace(b"503 \r\n", b"503 \r\nConnection: close\r\n"))
        side.shutdown(socket.SHUT_WR)
        while side.recv(1 << 16):
            pass

    server = serve(refuse_and_close)
    samples = load(f"http://127.0.0.1:{server.port}", concurrency=2)
    assert [(sample.status, sample.code) for sample in samples] == [(503, "overloaded")] * 6
    assert server.connections == 6


def test_a_server_that_leaves_costs_only_its_own_request(serve: Callable[..., Server]) -> None:
    servers: list[Server] = []

    def leave_once(side: socket.socket, number: int) -> None:
        if number == 1:
            servers[0].read(side)
            return
        answer_all(servers, OK)(side, number)

    servers.append(serve(leave_once))
    samples = load(f"http://127.0.0.1:{servers[0].port}")
    assert [sample.status for sample in samples] == [0] + [200] * 5
    assert "without a response" in (samples[0].detail or "")


def test_a_connection_that_the_server_closed_while_idle_is_not_used(serve: Callable[..., Server]) -> None:
    servers: list[Server] = []

    def one_each(side: socket.socket, _: int) -> None:
        servers[0].read(side)
        side.sendall(OK)

    servers.append(serve(one_each))
    # About one request in 50 ms: the end of the idle connection is seen before the next is due.
    samples = load(f"http://127.0.0.1:{servers[0].port}", [b"x"], requests=4, rates=(20.0,), seed=1)
    assert [sample.status for sample in samples] == [200] * 4


def test_requests_that_were_due_while_the_generator_was_held_up_count_as_late(serve: Callable[..., Server]) -> None:
    servers: list[Server] = []
    servers.append(serve(answer_all(servers, OK)))
    now = iter(range(1_000_000))
    samples: list[Sample] = []
    url = f"http://127.0.0.1:{servers[0].port}"
    plan = Plan(url, [b"x"], {}, requests=5, rates=(10.0,))
    run(plan, Endpoint.find(url), samples.append, clock=lambda: float(next(now)))
    assert [sample.status for sample in samples] == [200] * 5
    assert all(sample.late > 0.5 for sample in samples), "each look at the clock took a second"


@pytest.mark.parametrize(
    ("url", "key", "path", "login"),
    [
        ("http://127.0.0.1:{}", None, b"/classify?exit=fast+one", None),
        ("http://127.0.0.1:{}/a b", "k", b"/a%20b/classify?exit=fast+one", b"Bearer k"),
        ("http://me:p%40ss@localhost:{}", None, b"/classify?exit=fast+one", b"Basic bWU6cEBzcw=="),
        ("http://me:p@localhost:{}", "k", b"/classify?exit=fast+one", b"Bearer k"),
    ],
)
def test_a_request_carries_path_parameters_and_key(
    serve: Callable[..., Server], url: str, key: str | None, path: bytes, login: bytes | None
) -> None:
    servers: list[Server] = []
    servers.append(serve(answer_all(servers, OK)))
    load(url.format(servers[0].port), requests=1, key=key, parameters={"exit": "fast one"})
    ((head, _),) = servers[0].received
    start, *lines = head.split(b"\r\n")
    fields = dict(line.split(b": ", 1) for line in lines)
    assert start == b"POST %b HTTP/1.1" % path
    assert fields.get(b"Authorization") == login
    assert fields[b"Host"].endswith(b":%d" % servers[0].port)


def test_a_port_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"[Pp]ort"):
        Endpoint.find("http://localhost:99999")
