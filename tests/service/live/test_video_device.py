"""Video4Linux against a simulated driver: this machine has no device, and a test must not need one."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator

import pytest

from adafocus.service.live import video_device as v4l2
from adafocus.service.live.demuxer import device_windows
from adafocus.service.live.video_device import DeviceError, VideoDevice
from tests.media.clips import make_clip
from tests.video.clips import number_of, read_frames

FRAMES = 45


def jpegs() -> list[bytes]:
    import io

    import av

    with av.open(io.BytesIO(make_clip(FRAMES, container="matroska", codec="mjpeg"))) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


class Driver:
    """A driver as the kernel's documentation describes it: buffers go round between it and the program."""

    def __init__(self, pictures: list[bytes], *, fps: float = 10, pixel_format: bytes = b"MJPG") -> None:
        self.reader, self.writer = os.pipe()
        os.write(self.writer, b"x")  # it is always ready
        self.pictures = iter(pictures)
        self.fps = fps
        self.pixel_format = pixel_format
        self.memory = [bytearray(1 << 16) for _ in range(3)]
        self.queued: list[int] = []
        self.streaming = False
        self.taken = 0
        self.damaged: set[int] = set()
        self.fails: dict[int, int] = {}

    def map(self, fd: int, length: int, offset: int) -> memoryview:
        assert length == 1 << 16
        return memoryview(self.memory[offset >> 16])

    def ioctl(self, fd: int, request: int, data: bytearray) -> None:
        if request in self.fails:
            raise OSError(self.fails[request], os.strerror(self.fails[request]))
        if request == v4l2.SET_FORMAT:
            assert struct.unpack_from("=I", data)[0] == 1
            struct.pack_into("=II4s", data, 8, 64, 64, self.pixel_format)
        elif request == v4l2.REQUEST_BUFFERS:
            struct.pack_into("=I", data, 0, len(self.memory))
        elif request == v4l2.QUERY_BUFFER:
            (index,) = struct.unpack_from("=I", data)
            struct.pack_into("=I", data, 64, index << 16)
            struct.pack_into("=I", data, 72, 1 << 16)
        elif request == v4l2.QUEUE_BUFFER:
            index, kind = struct.unpack_from("=II", data)
            assert kind == 1 and struct.unpack_from("=I", data, 60)[0] == 1
            assert index not in self.queued
            self.queued.append(index)
        elif request == v4l2.STREAM_ON:
            self.streaming = True
        elif request == v4l2.DEQUEUE_BUFFER:
            self._deliver(data)

    def _deliver(self, data: bytearray) -> None:
        assert self.streaming
        picture = next(self.pictures, None)
        if picture is None:
            raise OSError(errno.ENODEV, "unplugged")
        index = self.queued.pop(0)
        self.memory[index][: len(picture)] = picture
        flags = 0x40 if self.taken in self.damaged else 0
        struct.pack_into("=IIII", data, 0, index, 1, len(picture), flags)
        seconds, rest = divmod(1000 + self.taken / self.fps, 1)
        struct.pack_into("=qq", data, 24, int(seconds), round(rest * 1e6))
        self.taken += 1


@pytest.fixture
def driver() -> Iterator[Driver]:
    made = Driver(jpegs())
    yield made
    os.close(made.reader)
    os.close(made.writer)


def device(driver: Driver) -> VideoDevice:
    return VideoDevice(driver.reader, 0.1, driver.ioctl, driver.map)


def test_the_requests_have_the_numbers_of_the_kernel() -> None:
    assert (v4l2.SET_FORMAT, v4l2.REQUEST_BUFFERS, v4l2.QUERY_BUFFER) == (0xC0D05605, 0xC0145608, 0xC0585609)
    assert (v4l2.QUEUE_BUFFER, v4l2.DEQUEUE_BUFFER) == (0xC058560F, 0xC0585611)
    assert (v4l2.STREAM_ON, v4l2.SET_PARAMETERS) == (0x40045612, 0xC0CC5616)


def test_pictures_become_windows_that_can_be_decoded(driver: Driver) -> None:
    opened = device(driver)
    opened.start()
    found = []
    with pytest.raises(DeviceError, match="lost"):
        found.extend(device_windows(opened, 2.0))
    seen = [number_of(frame.pixels) for _, content in found for frame in read_frames(content)[0]]
    assert seen == list(range(40)), "the third window was not complete when the device was unplugged"
    assert [header["seconds"] for header, _ in found] == pytest.approx([2, 2])
    assert found[1][0]["change"]


def test_a_device_that_is_too_fast_is_thinned(driver: Driver) -> None:
    driver.fps = 30
    opened = device(driver)
    opened.start()
    found = []
    with pytest.raises(DeviceError):
        found.extend(device_windows(opened, 0.5))
    assert found[0][0]["packets"] == 5


def test_damaged_pictures_are_left_out_and_their_buffers_go_back(driver: Driver) -> None:
    driver.damaged = set(range(1, 40))
    opened = device(driver)
    opened.start()
    with pytest.raises(DeviceError):
        for number, _ in enumerate(opened.pictures()):
            assert number < 6
    assert len(driver.queued) == 3


def test_only_two_requests_are_made_after_the_start(driver: Driver) -> None:
    opened, asked = device(driver), set()
    opened.start()
    inner = driver.ioctl

    def recorded(fd: int, request: int, data: bytearray) -> None:
        asked.add(request)
        inner(fd, request, data)

    opened.ioctl = recorded
    with pytest.raises(DeviceError):
        list(opened.pictures())
    assert asked == set(v4l2.SANDBOXED_REQUESTS)


@pytest.mark.parametrize(
    ("fails", "pixel_format", "said"),
    [
        ({v4l2.REQUEST_BUFFERS: errno.EBUSY}, b"MJPG", "used by another program"),
        ({v4l2.SET_FORMAT: errno.ENOTTY}, b"MJPG", "cannot capture"),
        ({}, b"YUYV", "must capture Motion JPEG, it offers 'YUYV'"),
    ],
)
def test_a_device_that_cannot_be_used_is_said(
    driver: Driver, fails: dict[int, int], pixel_format: bytes, said: str
) -> None:
    driver.fails, driver.pixel_format = fails, pixel_format
    with pytest.raises(DeviceError, match=said):
        device(driver).start()


def test_a_device_with_one_rate_is_used_as_it_is(driver: Driver) -> None:
    driver.fails = {v4l2.SET_PARAMETERS: errno.EINVAL}
    device(driver).start()
    assert driver.streaming


def test_a_device_that_delivers_nothing_is_given_up(driver: Driver) -> None:
    opened = device(driver)
    opened.start()
    os.read(driver.reader, 1)
    with pytest.raises(TimeoutError):
        next(opened.pictures())
