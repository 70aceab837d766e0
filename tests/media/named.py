"""Clips that several tests share, by the name of the file that they would be; each is made once per process."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from tests.media.clips import AudioTrack, VideoTrack, make_clip, make_file
from tests.media.damage import cut_within_packets, moov_first, with_media_of, zeroed
from tests.video.defects import joined

FRAMES = 109
"""Of the clips of full length."""

_KEY = "00112233445566778899aabbccddeeff"


def _one_key_frame() -> bytes:
    return moov_first(make_clip(FRAMES, size=(320, 240), rate=30, g="600", bf="3"))


def _turned(clip: bytes) -> bytes:
    """The same packets with a display matrix of 90 degrees."""
    matrix = clip.index(b"tkhd") + 44  # ISO/IEC 14496-12, 8.3.2
    turned = b"".join((value << 16).to_bytes(4, signed=True) for value in (0, -1, 0, 1, 0))
    return clip[:matrix] + turned + clip[matrix + len(turned) :]


def _transport_stream(frames: int, size: tuple[int, int]) -> bytes:
    return make_clip(frames, container="mpegts", size=size, rate=30, g="20", bf="2")


def _size_change() -> bytes:
    return joined([_transport_stream(55, (320, 240)), _transport_stream(54, (480, 270))], "mpegts")


def _open_groups() -> bytes:
    options = {"g": "20", "keyint_min": "20", "bf": "8", "x264-params": "open-gop=1:b-pyramid=normal:b-adapt=0"}
    return make_clip(FRAMES, size=(320, 240), rate=30, **options)


def _two_streams() -> bytes:
    return make_file("matroska", VideoTrack(30, size=(160, 120)), VideoTrack(30, size=(320, 180)))


def _cover_art() -> bytes:
    return make_file("mp4", AudioTrack(1.0), VideoTrack(1, codec="mjpeg", size=(320, 240), cover=True), brand="M4A ")


def _encrypted() -> bytes:
    options = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": _KEY, "encryption_kid": _KEY}
    return make_file("mp4", VideoTrack(30, size=(320, 240)), **options)


def _announced_as_encrypted() -> bytes:
    """The samples are in the clear, so that a decoder that ignores the announcement gives pictures."""
    return with_media_of(named("encrypted.mp4"), make_clip(30, size=(320, 240)))


_MADE: dict[str, Callable[[], bytes]] = {
    "mp4_faststart.mp4": _one_key_frame,
    "rotate_90.mp4": lambda: _turned(named("mp4_faststart.mp4")),
    "open_gop_bpyramid.mp4": _open_groups,
    "mpeg1_ps.mpg": lambda: make_clip(
        FRAMES, codec="mpeg1video", container="mpeg", size=(320, 240), rate=30, g="12", bf="2"
    ),
    "zeroed_middle.mp4": lambda: zeroed(named("mp4_faststart.mp4"), 1 / 3, 2 / 3),
    "truncated_ts_midpacket.ts": lambda: cut_within_packets(_transport_stream(FRAMES, (320, 240)), 0.1, 0.9),
    "ts_size_change_midstream.ts": lambda: joined(
        [_transport_stream(55, (320, 240)), _transport_stream(54, (480, 270))], "mpegts"
    ),
    "two_video_streams.mkv": _two_streams,
    "audio_with_cover_art.m4a": _cover_art,
    "encrypted.mp4": _encrypted,
    "encrypted_but_decodes.mp4": _announced_as_encrypted,
}

NAMES = tuple(_MADE)
"""Every clip that `named` makes."""


@cache
def named(name: str) -> bytes:
    """The bytes of a clip of `NAMES`.

    Raises:
        KeyError: there is no clip of that name.
    """
    return _MADE[name]()


def write_named(folder: Path, names: tuple[str, ...] = NAMES) -> Path:
    """Write clips into a folder, which is made if it is missing; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(named(name))
    return folder
