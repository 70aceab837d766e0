"""RTSP cameras, through the real demuxer in its sandbox: real RTP packets over a connection on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.service.live.demuxer_process import StreamEndedError, StreamWindow, demuxing
from adafocus.service.live.rtsp import RtspError, RtspSession
from adafocus.service.live.rtsp_address import dial, parse_address
from adafocus.service.live.rtsp_authentication import AuthenticationError, Credentials, authorization
from adafocus.service.live.session_description import DescriptionError, first_video
from tests.media.clips import make_clip
from tests.service.live.rtsp_server import Camera, RtspServer, serving_rtsp
from tests.tls import server_context, trusting_the_certificate
from tests.video.clips import number_of, read_frames

PASSWORD = "a:b c"  # noqa: S105 - of a camera on loopback
CLIP = partial(make_clip, 150, container="mpegts", g="10", bf="0", preset="ultrafast")


async def received(server: RtspServer, user: str = "") -> tuple[list[StreamWindow], str]:
    """The windows of a camera, and why its stream ended."""
    address = parse_address(server.url(user))
    found: list[StreamWindow] = []
    with await dial(address) as connection:
        async with demuxing(2.0, camera=(address, connection)) as demuxer:
            try:
                async for window in demuxer.windows():
                    found.append(window)  # noqa: PERF401 - those before the error are kept
            except StreamEndedError as error:
                return found, str(error)
    raise AssertionError("a stream ends with a reason")


def numbers(windows: list[StreamWindow]) -> list[int | None]:
    return [number_of(frame.pixels) for window in windows for frame in read_frames(window.content)[0]]


async def seen(camera: Camera, user: str = "") -> tuple[list[int | None], str, RtspServer]:
    async with serving_rtsp(lambda: camera) as server:
        windows, reason = await received(server, user)
    return numbers(windows), reason, server


async def test_every_frame_of_a_camera_arrives_in_windows() -> None:
    async with serving_rtsp(lambda: Camera(CLIP())) as server:
        windows, reason = await received(server)
    assert reason == "the stream ended"
    assert numbers(windows) == list(range(150))
    assert [window.seconds for window in windows] == pytest.approx([2, 2, 2], abs=0.05)
    assert all(window.brightness is not None for window in windows), "its key picture was looked at"
    assert windows[1].change
    assert server.methods() == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"]
    assert server.requests[2][1] == server.url() + "/trackID=1"
    assert server.requests[3][1] == server.url() + "/"


async def test_tls_is_spoken_and_the_certificate_is_checked() -> None:
    async with serving_rtsp(lambda: Camera(CLIP(), password=PASSWORD), tls=server_context()) as server:
        windows, reason = await received(server, "operator:a%3Ab%20c@")
        assert (windows, server.requests) == ([], []), "nothing is sent to a host that does not prove who it is"
        assert reason == "the certificate of the camera was rejected: self-signed certificate"
        with trusting_the_certificate():
            windows, reason = await received(server, "operator:a%3Ab%20c@")
    assert reason == "the stream ended"
    assert numbers(windows) == list(range(150))


@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "3", "b-pyramid": "normal"}, {"bf": "2", "open-gop": "1"}])
@pytest.mark.parametrize("container", ["mpegts", "mp4"])
async def test_frames_in_any_order_and_parameter_sets_in_any_place(options: dict[str, str], container: str) -> None:
    """An MP4 file has its parameter sets in its header only, so the camera names them only in its description."""
    clip = make_clip(100, container=container, g="25", preset="ultrafast", **options)
    frames, reason, _ = await seen(Camera(clip))
    assert reason == "the stream ended"
    assert frames == list(range(100))


async def test_h265() -> None:
    clip = make_clip(
        60, container="mpegts", codec="libx265", **{"x265-params": "keyint=10:min-keyint=10:open-gop=0:log-level=0"}
    )
    frames, reason, _ = await seen(Camera(clip))
    assert reason == "the stream ended"
    assert frames == list(range(60))


async def test_another_codec_is_refused() -> None:
    _, reason, _ = await seen(Camera(make_clip(60, container="avi", codec="mjpeg")))
    assert reason == "the camera must send H.264 or H.265, it offers 'JPEG'"


@pytest.mark.parametrize("scheme", ["Digest", "Basic"])
async def test_a_password_is_sent_as_the_camera_asks_for_it(scheme: str) -> None:
    frames, reason, server = await seen(Camera(CLIP(), password=PASSWORD, scheme=scheme), "operator:a%3Ab%20c@")
    assert (len(frames), reason) == (150, "the stream ended")
    assert "operator" not in str(server.requests), "the URL is asked for without credentials"


@pytest.mark.parametrize("user", ["", "operator:wrong@"])
async def test_a_wrong_password_is_said_and_not_shown(user: str) -> None:
    _, reason, _ = await seen(Camera(CLIP(), password=PASSWORD), user)
    assert "password" in reason
    assert "wrong" not in reason


async def test_other_streams_beside_the_video_are_passed_over() -> None:
    audio = "m=audio 0 RTP/AVP 0\r\na=control:trackID=0\r\n"
    sound = bytes((0x24, 4, 0, 20)) + bytes((0x80, 0)) + bytes(18)
    camera = Camera(
        CLIP(), before=audio, extra=sound, channel=2, transport="RTP/AVP/TCP;unicast;interleaved=2-3;ssrc=00000001"
    )
    frames, _, server = await seen(camera)
    assert frames == list(range(150))
    assert server.requests[2][1].endswith("trackID=1")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answers": {"DESCRIBE": (302, "Location: rtsp://127.0.0.1:1/")}}, "redirect"),
        ({"answers": {"DESCRIBE": (404, "")}}, "404"),
        ({"answers": {"SETUP": (461, "")}}, "RTP over TCP"),
        ({"transport": "RTP/AVP/UDP;unicast;client_port=1-2"}, "RTP over TCP"),
        ({"answers": {"PLAY": (200, "Content-Length: 999999999")}}, "body"),
        ({"cut_after": 0}, "the stream ended"),
    ],
)
async def test_a_camera_that_does_not_do_as_asked_ends_its_stream(change: dict[str, Any], said: str) -> None:
    frames, reason, _ = await seen(Camera(CLIP(), **change))
    assert frames == []
    assert said in reason


async def test_a_cut_connection_ends_the_stream_after_what_had_arrived() -> None:
    frames, reason, _ = await seen(Camera(CLIP(), cut_after=100))
    assert frames
    assert frames == list(range(len(frames)))
    assert reason == "the stream ended"


async def test_the_session_is_kept_alive(silence: Callable[[float], None]) -> None:
    silence(1.5)
    async with serving_rtsp(lambda: Camera(CLIP(), holds=True, timeout_s=2)) as server:
        windows, reason = await received(server)
    assert windows
    assert reason == "the camera was silent for too long"


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets after how many seconds a camera is silent for too long."""
    return partial(monkeypatch.setattr, "adafocus.service.live.demuxer_process.SILENCE_SECONDS")


# --- without a process ---


class Scripted:
    """A connection whose bytes are known; remembers what was sent."""

    def __init__(self, data: bytes, piece: int = 1 << 16) -> None:
        self.data = data
        self.piece = piece
        self.sent = b""

    def recv(self, size: int) -> bytes:
        part, self.data = self.data[: self.piece], self.data[self.piece :]
        return part

    def sendall(self, data: bytes) -> None:
        self.sent += data


def session(data: bytes, piece: int = 1 << 16, clock: Callable[[], float] = lambda: 0.0) -> RtspSession:
    return RtspSession(Scripted(data, piece), "rtsp://camera/", clock=clock)  # type: ignore[arg-type]


@given(st.binary(max_size=400), st.integers(1, 64))
def test_any_bytes_are_a_session_or_refused(data: bytes, piece: int) -> None:
    with pytest.raises(RtspError):
        session(data, piece).open()


GOOD = (
    b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nPublic: GET_PARAMETER\r\n\r\n"
    b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Length: 46\r\n\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
    b"RTSP/1.0 200 OK\r\nCSeq: 3\r\nSession: 7;timeout=10\r\n\r\n"
    b"RTSP/1.0 200 OK\r\nCSeq: 4\r\n\r\n"
)


@given(st.lists(st.one_of(st.binary(min_size=12, max_size=50), st.just(None)), max_size=10), st.integers(1, 100))
def test_packets_are_found_among_messages_however_the_bytes_are_cut(parts: list[bytes | None], piece: int) -> None:
    wire = b"".join(
        b"RTSP/1.0 200 OK\r\nCSeq: 9\r\n\r\n" if part is None else b"$\0" + len(part).to_bytes(2, "big") + part
        for part in parts
    )
    opened = session(GOOD + wire, piece)
    opened.open()
    assert list(opened.packets()) == [part for part in parts if part is not None]


def test_a_session_is_kept_alive_at_half_its_timeout() -> None:
    now = iter([0.0, 1.0, 5.0, 5.0, 6.0, 11.0, 11.0, 12.0])
    packet = b"$\0\0\x0c" + bytes(12)
    opened = session(GOOD + 4 * packet, clock=lambda: next(now))
    opened.open()
    assert len(list(opened.packets())) == 4
    sent = opened.connection.sent.decode()  # type: ignore[attr-defined]
    assert sent.count("GET_PARAMETER rtsp://camera/ RTSP/1.0") == 2
    assert "Session: 7" in sent


def test_the_digest_is_that_of_the_rfc() -> None:
    challenge = (
        'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={0}, '
        'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
    )
    user = Credentials("Mufasa", "Circle of Life")
    nonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    md5 = authorization(challenge.format("MD5"), user, "GET", "/dir/index.html", client_nonce=nonce)
    assert 'response="8ca523f5e9506fed4657c9700eebdbec"' in md5
    sha = authorization(challenge.format("SHA-256"), user, "GET", "/dir/index.html", client_nonce=nonce)
    assert 'response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"' in sha
    assert "Circle" not in repr(user)


@pytest.mark.parametrize("challenge", ["Bearer x", "Digest algorithm=MD4", 'Digest qop="auth-int"', "", "Digest"])
def test_a_challenge_is_answered_or_refused(challenge: str) -> None:
    try:
        found = authorization(challenge, Credentials("a", "b"), "PLAY", "rtsp://camera/")
    except AuthenticationError as error:
        assert len(str(error)) < 120
    else:
        assert found.startswith("Digest ")


@given(st.text(max_size=300))
def test_any_description_has_a_video_or_is_refused(text: str) -> None:
    try:
        found = first_video(text.encode(), "rtsp://camera/")
    except DescriptionError:
        return
    assert found.codec in ("h264", "hevc")


def test_an_encrypted_video_is_refused() -> None:
    with pytest.raises(DescriptionError, match="RTP/AVP"):
        first_video(b"m=video 0 RTP/SAVP 96\r\n", "rtsp://camera/")


def test_urls_of_controls() -> None:
    found = first_video(
        b"a=control:*\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n", "rtsp://camera/a?b=c"
    )
    assert (found.control_url, found.aggregate_url) == ("rtsp://camera/a?b=c/track1", "rtsp://camera/a?b=c")
    absolute = first_video(
        b"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:rtsp://camera/x\r\n", "rtsp://camera/a"
    )
    assert absolute.control_url == "rtsp://camera/x"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rtsp://camera/a", ("camera", 554, "rtsp://camera/a", None, False)),
        ("rtsps://u:p%40@[::1]:99/", ("::1", 99, "rtsps://[::1]:99/", Credentials("u", "p@"), True)),
    ],
)
def test_addresses(url: str, expected: tuple[object, ...]) -> None:
    found = parse_address(url)
    assert (found.host, found.port, found.url, found.credentials, found.tls) == expected


@pytest.mark.parametrize("url", ["rtsp:///x", "rtsp://h:port/", "http://h/", "rtsp://h/a\r\nDESCRIBE"])
def test_what_is_no_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="URL") as caught:
        parse_address(url)
    assert "DESCRIBE" not in str(caught.value)


async def test_a_camera_that_is_away_is_an_os_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match=r"refused|onnect"):
            await dial(parse_address(f"rtsp://127.0.0.1:{taken.getsockname()[1]}/"))


async def test_nothing_waits_for_ever(silence: Callable[[float], None]) -> None:
    """A server that accepts and says nothing."""
    silence(0.2)
    gone = asyncio.Event()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        gone.set()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with listener:
        windows, reason = await received(RtspServer(listener.sockets[0].getsockname()[1]))
        assert (windows, reason) == ([], "the camera was silent for too long")
        await gone.wait()
