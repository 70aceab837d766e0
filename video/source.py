"""The container around anonymous bytes: opened with everything closed that a video does not need.

Closed: every demuxer, decoder and protocol that is not on the list, every other file or socket (a demuxer that asks for
one is refused), every picture larger than the limits, every stream but the one picture stream.
"""

from __future__ import annotations

from typing import NoReturn, Protocol

import av
from av.codec.context import ThreadType
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from video.errors import FOREIGN_ERRORS, NoVideoStream, Undecodable, UnsupportedMedia
from video.formats import decoder_of
from video.limits import MediaLimits
from video.memory_limits import PictureGuard
from video.sniff import HEAD_BYTES, demuxer_of, sniff

_NOT_MOVING = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


class Reader(Protocol):
    """Seekable bytes. Whatever else the object can do is not used."""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; none at the end."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As for any binary file."""
        ...

    def tell(self) -> int:
        """As for any binary file."""
        ...


class Source:
    """The bytes, and the container and picture stream in them.

    Attributes:
        container: open, until ``close``.
        stream: the default video stream, or the first; cover art and thumbnails are none.
        codec: FFmpeg's name of its format.
        kind: short name of the container.
        guard: the limits on its pictures.
    """

    def __init__(self, reader: Reader, limits: MediaLimits) -> None:
        """Opens the container.

        Raises:
            UnsupportedMedia: not a video, or a container or codec that is not permitted.
            NoVideoStream: no moving picture in it.
            Undecodable: a permitted container that cannot be read.
            TooManyPixels: the container declares a picture over the limits.
        """
        self._reader = reader
        self._limits = limits
        reader.seek(0)
        self._sniffed = sniff(reader.read(HEAD_BYTES))
        if self._sniffed == "still":
            raise UnsupportedMedia("this is a still image; only videos are read")
        self.container = self._open()
        try:
            self._choose()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Frees what FFmpeg holds; the reader stays open."""
        self.container.close()

    def restart(self) -> None:
        """Opens the same bytes again from their start, for containers that cannot be rewound."""
        self.close()
        self.container = self._open()
        self._choose()

    def _open(self) -> InputContainer:
        limits = self._limits
        self._reader.seek(0)
        options = {
            "format_whitelist": ",".join(limits.containers),
            "codec_whitelist": ",".join(decoder_of(codec) for codec in limits.codecs),
            "protocol_whitelist": "pipe",
            "max_pixels": str(limits.max_pixels),
        }
        try:
            return av.open(
                _Anonymous(self._reader), "r", options=options, metadata_errors="replace", io_open=_refuse_to_open
            )
        except FOREIGN_ERRORS as error:
            if self._sniffed == "audio":
                raise NoVideoStream("this is an audio file; a video is needed") from error
            if demuxer_of(self._sniffed) in limits.containers:
                raise Undecodable(f"the {self._sniffed} file is cut or damaged: it cannot be opened") from error
            raise UnsupportedMedia(
                f"this is not a video in a permitted container; permitted are {', '.join(limits.containers)}"
            ) from error

    def _choose(self) -> None:
        streams = [s for s in self.container.streams.video if not s.disposition & _NOT_MOVING]
        if not streams:
            raise NoVideoStream("the file holds no video stream")
        self.stream: VideoStream = next((s for s in streams if s.disposition & Disposition.default), streams[0])
        context = self.stream.codec_context
        self.codec = "unknown" if context is None else context.codec.canonical_name
        if self.codec not in self._limits.codecs:
            raise UnsupportedMedia(
                f"the codec {self.codec} is not permitted; permitted are {', '.join(self._limits.codecs)}"
            )
        self.kind = self._kind()
        self.guard = PictureGuard(self.codec, context.codec.intra_only, self._limits)
        if self.stream.width and self.stream.height:
            self.guard.check(self.stream.width, self.stream.height, self.stream.pix_fmt)
        context.options = {"max_pixels": str(self._limits.max_pixels)}
        # One thread per video: parallelism is across videos, and threads by frame can hang on damaged H.264.
        context.thread_type = ThreadType.NONE
        context.thread_count = 1
        for other in self.container.streams:
            if other.index != self.stream.index:
                other.discard = Discard.all

    def _kind(self) -> str:
        """A short name for the container; the demuxer reads several kinds that differ by a brand only."""
        demuxer = self.container.format.name.split(",")[0]
        if demuxer == "mov":
            brand = self.container.metadata.get("major_brand", "")
            return "mov" if brand.startswith("qt") else "3gp" if brand.startswith("3g") else "mp4"
        if demuxer == "matroska":
            return "webm" if self._sniffed == "webm" else "matroska"
        return demuxer


class _Anonymous:
    """Only the three methods of a reader: FFmpeg guesses from names, and closes what it can close."""

    def __init__(self, reader: Reader) -> None:
        self.read = reader.read
        self.seek = reader.seek
        self.tell = reader.tell


def _refuse_to_open(url: str, flags: int, options: object) -> NoReturn:
    """A demuxer asks for another file or socket: never."""
    raise UnsupportedMedia("the file names other files; only a video that is whole in itself is read")
