"""An unprivileged process that takes one stream apart: bytes in, windows as small files out.

It runs in the sandbox of a decode worker: no files, no new connections, no new processes, bounded memory. The service
feeds it the stream through a socket, gives it a file that is open for reading, or a connection to an RTSP camera: that
is the only host that it can talk to. It sends each window as a header, JSON with its length before it, and the bytes of
a file; and at the end a header that says why.

It imports nothing of the service but the sandbox.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import av
from av.container import InputContainer

from adafocus.service.decode.worker import sandbox
from adafocus.service.decode.worker.imports import import_all_of_av
from adafocus.service.live.cutter import Cutter
from adafocus.service.live.picture_check import PictureCheck
from adafocus.service.live.rtp_video import CLOCK_HZ, Depacketizer, parameter_sets
from adafocus.service.live.rtsp import RtspError, RtspSession
from adafocus.service.live.rtsp_authentication import Credentials
from adafocus.service.live.stream_readers import FileReader, SocketReader, reader
from adafocus.service.live.video_device import FRAMES_PER_SECOND, SANDBOXED_REQUESTS, DeviceError, Picture, VideoDevice
from adafocus.service.live.window_writer import Header, JpegWindow, PacketWindow, PictureWindow
from adafocus.video.errors import FOREIGN_ERRORS
from adafocus.video.limits import CODECS, CONTAINERS, MediaLimits

HEADER = struct.Struct(">I")
MAX_HEADER_BYTES = 1 << 16
MAX_REASON = 200
MAX_PIXELS = MediaLimits().max_pixels

_REHEARSAL = bytes.fromhex(
    "47494638396102000200800000000000ffffff"  # a GIF of two pixels squared
    "2c000000000200020000020284513b"  # and one picture
)

DEVICE_SILENCE_S = 20.0
LEAST_STEP_S = 0.75 / FRAMES_PER_SECOND
"""Pictures of a device that are closer together than this are left out."""

Source = SocketReader | FileReader | RtspSession | VideoDevice


def main(arguments: Sequence[str]) -> int:
    """Take a stream apart until it ends or the service is gone."""
    parser = argparse.ArgumentParser(prog="adafocus demuxer")
    for name in ("input", "output", "memory-bytes", "parent"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--window-s", type=float, required=True)
    parser.add_argument("--speed", type=float, default=0.0)
    parser.add_argument("--kind", choices=("stream", "rtsp", "device"), default="stream")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    output = socket.socket(fileno=given.output)
    source = _source(given.kind, given.input, output)
    rehearse()
    sandbox.fall_silent()
    failed = _start(source)
    requests = SANDBOXED_REQUESTS if isinstance(source, VideoDevice) else ()
    # OpenSSL sends with write, where Python's own sockets use send.
    writable = (given.input,) if given.kind == "rtsp" else ()
    report = sandbox.enter(given.memory_bytes, parent=given.parent, requests=requests, writable=writable)
    send(output, {"type": "ready", "sandbox": asdict(report)})
    reason = failed or _send_windows(output, source, given.window_s, given.speed)
    with contextlib.suppress(BrokenPipeError):
        send(output, {"type": "end", "reason": reason[:MAX_REASON]})
    return 0


def _source(kind: str, fd: int, control: socket.socket) -> Source:
    """What is read. Created before the sandbox, which forbids to ask what a descriptor is."""
    if kind == "rtsp":
        return _camera(fd, control)
    return VideoDevice(fd, DEVICE_SILENCE_S) if kind == "device" else reader(fd)


def _start(source: Source) -> str | None:
    """Start a device, which the sandbox forbids; returns why it cannot be started."""
    if isinstance(source, VideoDevice):
        try:
            source.start()
        except DeviceError as error:
            return str(error)
    return None


def _send_windows(output: socket.socket, source: Source, window_s: float, speed: float) -> str:
    """Send windows until the stream ends; returns why it ended."""
    try:
        with contextlib.ExitStack() as stack:
            if isinstance(source, RtspSession):
                found = camera_windows(source, window_s)
            elif isinstance(source, VideoDevice):
                found = device_windows(source, window_s)
            else:
                found = windows(stack.enter_context(_opened(source)), window_s, speed)
            for header, content in found:
                send(output, header, content)
    except (RtspError, DeviceError) as error:
        return str(error)
    except FOREIGN_ERRORS as error:
        if certificate := getattr(error, "verify_message", ""):  # of ssl, which is imported for TLS only
            return f"the certificate of the camera was rejected: {certificate}"
        return f"the stream cannot be read: {type(error).__name__}"
    except TimeoutError:
        return "the camera was silent for too long"
    except OSError as error:  # TLS among them
        return f"the connection failed: {error.strerror or error}"
    except MemoryError:
        return "the stream cannot be read: it needs too much memory"
    except Exception as error:  # noqa: BLE001 - a bug of ours ends one stream; the service logs it
        return f"the demuxer failed: {type(error).__name__}: {error}"
    return "the stream ended"


def _camera(fd: int, control: socket.socket) -> RtspSession:
    """The session with a camera, before the sandbox: for TLS, certificates have to be read from files."""
    length = HEADER.unpack(_exactly(control, HEADER.size))[0]
    given = json.loads(_exactly(control, length))
    connection = socket.socket(fileno=fd)
    if given["tls_host"] is not None:
        import ssl

        connection = ssl.create_default_context().wrap_socket(
            connection, server_hostname=given["tls_host"], do_handshake_on_connect=False
        )
    connection.settimeout(given["silence_s"])
    credentials = None if given["user"] is None else Credentials(given["user"], given["password"])
    return RtspSession(connection, given["url"], credentials)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise SystemExit(0)
        data += part
    return bytes(data)


def rehearse() -> None:
    """Import all of PyAV, and read, look at and write pictures of our own: the sandbox forbids later imports."""
    import_all_of_av()
    check = PictureCheck("gif", None, MAX_PIXELS)
    with av.open(io.BytesIO(_REHEARSAL), "r", format="gif") as container:
        reports = [check.see(bytes(packet)) for packet in container.demux(video=0)]
    window = JpegWindow((2, 2), reports[0])
    window.add(Picture(0.0, b"\xff\xd8\xff\xd9"))
    window.finish()


def send(output: socket.socket, header: Header, content: bytes = b"") -> None:
    """Send a header, and the bytes that it announces."""
    data = json.dumps({**header, "bytes": len(content)}).encode()
    output.sendall(HEADER.pack(len(data)) + data)
    if content:
        output.sendall(content)


def windows(container: InputContainer, window_s: float, speed: float) -> Iterator[tuple[Header, bytes]]:
    """The windows of an open stream: a header and a file each.

    Args:
        container: open.
        window_s: length of a window, seconds.
        speed: how many times faster than its own pace the stream is played; 0: as it comes.
    """
    streams = [stream for stream in container.streams.video if stream.codec_context is not None]
    if not streams:
        raise ValueError("the stream holds no video")
    stream = streams[0]
    if stream.codec_context.codec.canonical_name not in CODECS:
        raise ValueError("the codec is not permitted")
    check = PictureCheck(stream.codec_context.codec.name, stream.codec_context.extradata, MAX_PIXELS)
    cutter, window, began = Cutter(window_s), None, time.monotonic()
    played = 0.0
    for packet in container.demux(stream):
        if not packet.size or packet.dts is None or packet.time_base is None:
            continue
        time_s = float(packet.dts * packet.time_base)
        verdict = cutter.see(time_s, key=packet.is_keyframe)
        if verdict != "add" and window is not None:
            yield window.finish()
            played += window.seconds
            window = None
            if speed:
                time.sleep(max(0.0, began + played / speed - time.monotonic()))
        if verdict == "cut":
            window = PacketWindow(stream, time_s, check.see(bytes(packet)))
        if window is not None:
            window.add(packet, time_s)
    if window is not None:
        yield window.finish()


def camera_windows(session: RtspSession, window_s: float) -> Iterator[tuple[Header, bytes]]:
    """The windows of an RTSP camera: a header and a file each.

    Args:
        session: not opened yet.
        window_s: length of a window, seconds.

    Raises:
        RtspError: the camera cannot be read.
        OSError: the connection failed.
    """
    video = session.open()
    pictures = Depacketizer(video.codec, video.payload_type, parameter_sets(video.format_parameters))
    check = PictureCheck(video.codec, None, MAX_PIXELS)
    cutter, window = Cutter(window_s), None
    for packet in session.packets():
        picture = pictures.add(packet)
        if picture is None:
            continue
        verdict = cutter.see(picture.pts / CLOCK_HZ, key=picture.is_key)
        if verdict != "add" and window is not None:
            yield window.finish()
            window = None
        if verdict == "cut":
            window = PictureWindow(video.codec, check.see(picture.data))
        if window is not None:
            window.add(picture)
    last = pictures.flush()
    if window is not None:
        if last is not None:
            window.add(last)
        yield window.finish()


def device_windows(device: VideoDevice, window_s: float) -> Iterator[tuple[Header, bytes]]:
    """The windows of a device: a header and a file each.

    Args:
        device: started.
        window_s: length of a window, seconds.

    Raises:
        DeviceError: the device was unplugged.
        TimeoutError: it delivers nothing.
    """
    check = PictureCheck("mjpeg", None, MAX_PIXELS)
    cutter, window, last_s = Cutter(window_s), None, -math.inf
    for picture in device.pictures():
        if 0 <= picture.time_s - last_s < LEAST_STEP_S:
            continue  # the device is faster than it was asked to be
        last_s = picture.time_s
        if cutter.see(picture.time_s, key=True) == "cut":
            if window is not None:
                yield window.finish()
            window = JpegWindow(device.size, check.see(picture.data))
        if window is not None:
            window.add(picture)


def _opened(source: SocketReader | FileReader) -> InputContainer:
    options = {
        "format_whitelist": ",".join(CONTAINERS),
        "protocol_whitelist": "pipe",
        "probesize": "500000",
        "analyzeduration": "2000000",
    }
    return av.open(source, "r", options=options, metadata_errors="replace")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
