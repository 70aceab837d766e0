"""Picks the first video out of an SDP (RFC 8866). Pure; standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass

from adafocus.service.live.rtp_video import CLOCK_HZ, Codec

_PROFILES = ("RTP/AVP", "RTP/AVPF", "RTP/AVP/TCP")
_CODECS: dict[str, Codec] = {"H264": "h264", "H265": "hevc"}


class DescriptionError(Exception):
    """The description offers no video that can be read; the text says why."""


@dataclass(frozen=True, slots=True)
class VideoDescription:
    """One video stream of a camera.

    Attributes:
        codec: of its pictures.
        payload_type: of its packets.
        format_parameters: of the codec, as the camera wrote them; empty if it did not.
        control_url: to set it up.
        aggregate_url: to start and keep the whole presentation.
    """

    codec: Codec
    payload_type: int
    format_parameters: str
    control_url: str
    aggregate_url: str


def first_video(sdp: bytes, base_url: str) -> VideoDescription:
    """The first video of a description.

    Args:
        sdp: as the camera sent it.
        base_url: what relative URLs in it belong to.

    Raises:
        DescriptionError: it has no video, or one that is encrypted or of another codec.
    """
    session: list[str] = []
    media: list[list[str]] = []
    for line in sdp.decode("utf-8", "replace").splitlines():
        if line.startswith("m="):
            media.append([])
        (media[-1] if media else session).append(line.strip())
    video = next((lines for lines in media if lines[0].startswith("m=video ")), None)
    if video is None:
        raise DescriptionError("the camera offers no video")
    found = re.match(r"m=video \S+ (\S+) ([0-9]{1,3})\b", video[0])
    if found is None or found[1].upper() not in _PROFILES or int(found[2]) > 127:
        raise DescriptionError("the camera must offer its video as RTP/AVP; its profile cannot be read")
    payload = found[2]
    encoding = _value(video, f"a=rtpmap:{payload} ").upper().split("/")
    if encoding[0] not in _CODECS or encoding[1:2] != [str(CLOCK_HZ)]:
        raise DescriptionError(f"the camera must send H.264 or H.265, it offers {encoding[0][:20]!r}")
    return VideoDescription(
        codec=_CODECS[encoding[0]],
        payload_type=int(payload),
        format_parameters=_value(video, f"a=fmtp:{payload} "),
        control_url=_joined(base_url, _value(video, "a=control:") or "*"),
        aggregate_url=_joined(base_url, _value(session, "a=control:") or "*"),
    )


def _value(lines: list[str], start: str) -> str:
    return next((line[len(start) :].strip() for line in lines if line.startswith(start)), "")


def _joined(base_url: str, control: str) -> str:
    """Append, as servers expect it, rather than resolve: ``rtsp://host/a?b`` and ``track1`` are ``…/a?b/track1``."""
    if control == "*":
        return base_url
    if re.match(r"rtsps?://", control, re.IGNORECASE):
        return control
    return f"{base_url.rstrip('/')}/{control.lstrip('/')}"
