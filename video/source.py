"""Opens the container of a video, and nothing else.

FFmpeg may use only the permitted demuxers, decoders and protocols, and may open no other file or socket. Pictures over
the limits are rejected, and only one video stream is read.
"""

from __future__ import annotations

from typing import NoReturn, Protocol

import av
from av.codec.context import ThreadType
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from adafocus.video.errors import FOREIGN_ERRORS, NoVideoStream, Undecodable, UnsupportedMedia
from adafocus.video.formats import decoder_of
from adafocus.video.frame_index import StreamTraits
from adafocus.video.limits import MediaLimits
from adafocus.video.memory_limits import PictureGuard
from adafocus.video.sniff import HEAD_BYTES, demuxer_of, sniff

# Containers of broadcasts and recorders, in which another clock may begin midway.
_CLOCKS_LEAP = frozenset({"mpegts", "mpeg", "flv", "ogg"})
_TELL_ENCRYPTION = frozenset({"mov", "matroska"})
# Containers that store decoding times only. Matroska may embed streams of AVI, which then have a codec tag.
_DECODING_TIMES_ONLY = frozenset({"avi", "asf"})
_NO_TAG = "\0\0\0\0"
# FFmpeg decodes a few pictures to learn a stream's properties, and drops them: their pixels need not be right. Decoders
# of frames are configured apart from this.
_PROBING = {"skip_loop_filter": "all", "skip_idct": "all"}
_NOT_MOVING = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


class Reader(Protocol):
    """A seekable source of bytes. No other methods of the object are used."""

    def read(self, size: int = -1, /) -> bytes:
        """Reads at most ``size`` bytes; none at the end."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """See `io.RawIOBase`."""
        ...

    def tell(self) -> int:
        """See `io.RawIOBase`."""
        ...


class Source:
    """A container and one of its video streams.

    Attributes:
        container: open, until ``close``.
        stream: the video stream that is read: at first the default one, or the first. Cover art and thumbnails do not
            count.
        codec: FFmpeg's name of its format.
        kind: short name of the container.
        guard: checks its pictures against the limits.
    """

    def __init__(self, reader: Reader, limits: MediaLimits) -> None:
        """Opens the container.

        Raises:
            UnsupportedMedia: this is not a video, or its container or codec is not permitted.
            NoVideoStream: the file holds no moving pictures.
            Undecodable: the container is permitted and cannot be read.
            TooManyPixels: the container declares pictures over the limits.
        """
        self._reader = reader
        self._limits = limits
        reader.seek(0)
        self._sniffed = sniff(reader.read(HEAD_BYTES))
        if self._sniffed == "still":
            raise UnsupportedMedia("this is a still image; a video is needed")
        self._silent: set[int] = set()
        self.container = self._open()
        try:
            self._choose()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the container; the reader stays open."""
        self.container.close()

    @property
    def traits(self) -> StreamTraits:
        """Returns what is known of the stream before a packet of it is read.

        Raises:
            Undecodable: the stream has no time base.
        """
        if self.stream.time_base is None:
            raise Undecodable("the video has no time base")
        context = self.stream.codec_context
        demuxer = self.container.format.name.split(",")[0]
        embeds_avi = demuxer == "matroska" and context.codec_tag != _NO_TAG
        return StreamTraits(
            time_base=self.stream.time_base,
            codec=self.codec,
            extradata=bytes(context.extradata or b""),
            may_be_encrypted=demuxer in _TELL_ENCRYPTION,
            reorders=context.reorder_depth > 0,
            guesses_pts=demuxer in _DECODING_TIMES_ONLY or embeds_avi,
            guesses_dts=demuxer == "matroska" and not embeds_avi,
            clock_may_leap=demuxer in _CLOCKS_LEAP,
        )

    def restart(self) -> None:
        """Opens the same bytes again from the start, for containers that cannot be rewound."""
        self.close()
        self.container = self._open()
        self._choose()

    def next_stream(self) -> bool:
        """Continues with the next video stream, from the start of the file; returns False if there is none.

        Some files announce a stream that is never sent, for example that of a camera that is not connected.

        Raises:
            VideoError: as when the container is opened.
        """
        self._silent.add(self.stream.index)
        if len(self._silent) == len(self._moving()):
            return False
        self.restart()
        return True

    def _open(self) -> InputContainer:
        limits = self._limits
        self._reader.seek(0)
        options = {
            "format_whitelist": ",".join(limits.containers),
            "codec_whitelist": ",".join(decoder_of(codec) for codec in limits.codecs),
            "protocol_whitelist": "pipe",
            "max_pixels": str(limits.max_pixels),
            **_PROBING,
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
        streams = [stream for stream in self._moving() if stream.index not in self._silent]
        if not streams:
            raise NoVideoStream("the file holds no video stream")
        self.stream: VideoStream = next((s for s in streams if s.disposition & Disposition.default), streams[0])
        context = self.stream.codec_context
        self.codec = "unknown" if context is None else context.codec.canonical_name
        if self.codec not in self._limits.codecs:
            if len(streams) > 1 and self._is_silent(self.stream):
                self._silent.add(self.stream.index)
                self.restart()
                return
            raise UnsupportedMedia(
                f"the codec {self.codec} is not permitted; permitted are {', '.join(self._limits.codecs)}"
            )
        self.kind = self._kind()
        self._limit(context)

    def _moving(self) -> list[VideoStream]:
        """Returns the video streams with moving pictures."""
        return [stream for stream in self.container.streams.video if not stream.disposition & _NOT_MOVING]

    def _is_silent(self, stream: VideoStream) -> bool:
        """Tells whether the file holds no packet of a stream; reads up to the first one."""
        try:
            return not any(packet.size for packet in self.container.demux(stream))
        except FOREIGN_ERRORS:
            return False

    def _limit(self, context: VideoCodecContext) -> None:
        """Applies the limits to the chosen stream, and discards all others."""
        self.guard = PictureGuard(self.codec, context.codec.intra_only, bytes(context.extradata or b""), self._limits)
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
        """Returns a short name for the container; one demuxer may read several kinds."""
        demuxer = self.container.format.name.split(",")[0]
        if demuxer == "mov":
            brand = self.container.metadata.get("major_brand", "")
            return "mov" if brand.startswith("qt") else "3gp" if brand.startswith("3g") else "mp4"
        if demuxer == "matroska":
            return "webm" if self._sniffed == "webm" else "matroska"
        return demuxer


class _Anonymous:
    """Exposes only three methods of a reader: FFmpeg would guess from its name, and close it."""

    def __init__(self, reader: Reader) -> None:
        self.read = reader.read
        self.seek = reader.seek
        self.tell = reader.tell


def _refuse_to_open(url: str, flags: int, options: object) -> NoReturn:
    """Refuses a demuxer another file or socket."""
    raise UnsupportedMedia("the file refers to other files; only videos in a single file are read")
