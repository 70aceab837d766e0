"""Checks lists of permitted containers and codecs against the names that FFmpeg knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cache

import av
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.format import ContainerFormat

_OPENS_OTHERS = {"concat", "dash", "hls", "imf", "rtp", "rtsp", "sap", "sdp", "vobsub", "webm_dash_manifest"}
_DEVICES = {"alsa", "fbdev", "kmsgrab", "lavfi", "oss", "v4l2", "video4linux2", "x11grab"}
_STILL = {"alias_pix", "brender_pix", "fits", "ico", "image2", "image2pipe"}
NEVER_READ = frozenset(_OPENS_OTHERS | _DEVICES | _STILL)
"""Demuxers that open other files, addresses or devices, or read still images. They cannot be permitted."""

_DECODED_BY = {"av1": "libdav1d"}
"""Decoders that differ from the codec's name. FFmpeg's own ``av1`` decoder needs a GPU and is not the default."""

_COMMON_NAMES = {
    "h265": "hevc",
    "x265": "hevc",
    "x264": "h264",
    "avc": "h264",
    "divx": "mpeg4",
    "xvid": "mpeg4",
    "msmpeg4": "msmpeg4v3",
    "dv": "dvvideo",
    "mkv": "matroska",
    "ts": "mpegts",
    "mpg": "mpeg",
    "ps": "mpeg",
    "wmv": "asf",
    "ogv": "ogg",
}


@cache
def decoder_of(codec: str) -> str:
    """FFmpeg's name of the decoder of a codec. FFmpeg's own list of permitted codecs contains decoders.

    Raises:
        ValueError: FFmpeg has no decoder for it.
    """
    try:
        return _DECODED_BY.get(codec) or str(Codec(codec, "r").name)
    except UnknownCodecError as error:
        raise ValueError(f"FFmpeg has no decoder for the codec {codec!r}") from error


def check_codecs(names: Iterable[str]) -> None:
    """Check that each name is that of a video codec that FFmpeg can decode.

    Raises:
        ValueError: a name is not; the message suggests the name that was probably meant.
    """
    for name in names:
        if name not in _video_codecs():
            raise ValueError(f"{name!r} is not a video codec of FFmpeg{_suggestion(name, _video_codecs())}")


def check_containers(names: Iterable[str]) -> None:
    """Check that each name is that of a demuxer that may be permitted.

    Raises:
        ValueError: a name is not; the message suggests the name that was probably meant.
    """
    for name in names:
        if name in NEVER_READ or name.endswith("_pipe"):
            raise ValueError(f"{name!r} cannot be permitted: playlists, devices and still images are never read")
        if name not in _containers():
            raise ValueError(f"{name!r} is not a container of FFmpeg{_suggestion(name, _containers())}")


def _suggestion(name: str, known: frozenset[str]) -> str:
    common = _COMMON_NAMES.get(name.lower())
    if common in known:
        return f"; did you mean {common!r}?"
    if name in av.codecs_available and (codec := _decoded_codec(name)) in known:
        return f"; it is a decoder, whose codec is {codec!r}"
    close = difflib.get_close_matches(name.lower(), sorted(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _decoded_codec(decoder: str) -> str | None:
    """The name of the video codec of a decoder; None for an encoder or an audio codec."""
    try:
        codec = Codec(decoder, "r")
    except UnknownCodecError:
        return None
    return str(codec.canonical_name) if codec.type == "video" else None


@cache
def _video_codecs() -> frozenset[str]:
    """The names of the codecs that have a decoder."""
    return frozenset(codec for name in av.codecs_available if (codec := _decoded_codec(name)) is not None)


@cache
def _containers() -> frozenset[str]:
    """The names of the containers that can be read."""
    return frozenset(name for name in av.formats_available if "," not in name and _is_readable(name))


def _is_readable(container: str) -> bool:
    try:
        return bool(ContainerFormat(container, "r").is_input)
    except ValueError:
        return False
