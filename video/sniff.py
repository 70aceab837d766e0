"""Guesses from its first bytes what a file is. Pure; used only for the wording of errors, never to permit a file."""

from __future__ import annotations

HEAD_BYTES = 4096
"""Bytes from the start of a file that ``sniff`` needs."""

_STILL_BRANDS = (b"avif", b"heic", b"heix", b"heim", b"heis", b"mif1")
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"styp", b"sidx")
_VIDEO_MAGIC = {
    b"\x1a\x45\xdf\xa3": "matroska",
    b"FLV\x01": "flv",
    b"OggS": "ogg",
    b"GIF8": "gif",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",
    b"\x00\x00\x01\xba": "mpeg",
}
_AUDIO_MAGIC = {b"ID3": "mp3", b"fLaC": "flac", b"#!AMR": "amr", b"MThd": "midi"}
_TS_PACKET = 188


def sniff(head: bytes) -> str | None:
    """Returns the kind of a file that starts with ``head``.

    Returns:
        A container's short name; ``"audio"`` for a kind that never holds video; ``"still"`` for an image in a container
        made for video; ``None`` for anything else.
    """
    if head[4:8] in _MP4_BOXES:
        return "still" if head[8:12] in _STILL_BRANDS else "mp4"
    if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"AVIX"):
        return "avi"
    if head[:4] == b"\x1a\x45\xdf\xa3" and b"webm" in head[:64]:
        return "webm"
    for magic, name in _VIDEO_MAGIC.items():
        if head.startswith(magic):
            return name
    if _is_transport_stream(head):
        return "mpegts"
    if _is_audio(head):
        return "audio"
    return None


def _is_audio(head: bytes) -> bool:
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return True
    if any(head.startswith(magic) for magic in _AUDIO_MAGIC):
        return True
    # An MPEG audio or ADTS frame: eleven set bits, then a valid layer and bit rate.
    return len(head) > 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x18 != 0x08 and head[2] < 0xF0


def _is_transport_stream(head: bytes) -> bool:
    """Tells whether sync bytes follow each other at the distance of packets; the file may start amid a packet."""
    for start in range(min(_TS_PACKET, len(head))):
        syncs = head[start : start + 5 * _TS_PACKET : _TS_PACKET]
        if len(syncs) == 5 and set(syncs) == {0x47}:
            return True
    return False


def demuxer_of(kind: str | None) -> str | None:
    """Returns FFmpeg's demuxer for a kind that ``sniff`` returned."""
    return {"mp4": "mov", "webm": "matroska"}.get(kind or "", kind)
