"""The errors of `video/`: what can be wrong with a video.

    VideoError
    ├── UnsupportedMedia   not a video, or a container or codec that is not on the list
    ├── NoVideoStream      a media file without moving pictures
    ├── Undecodable        a video of which no frame can be decoded
    │   └── EmptyStream    a stream that is announced and never sent
    ├── TooManyPixels      pictures over the limits
    └── TooLong            more seconds or frames than the limits permit

Every message is one line for the person who sent the video. It names the value found and what is permitted, and never a
file name, because only bytes are known here.
"""

from __future__ import annotations

from typing import ClassVar

import av


class VideoError(Exception):
    """A video that cannot be used. ``code`` is stable and machine-readable."""

    code: ClassVar[str] = "undecodable"


class UnsupportedMedia(VideoError):  # noqa: N818 - named like the code in answers
    """Not a video, or a container or codec that is not permitted."""

    code = "unsupported_media"


class NoVideoStream(VideoError):  # noqa: N818 - named like the code in answers
    """A media file that holds no video stream; cover art does not count."""

    code = "no_video_stream"


class Undecodable(VideoError):  # noqa: N818 - named like the code in answers
    """A video of which no frame can be decoded."""

    code = "undecodable"


class EmptyStream(Undecodable):
    """The video stream is announced, and the file holds no packet of it that shows a frame."""


class TooManyPixels(VideoError):  # noqa: N818 - named like the code in answers
    """The picture has more pixels than permitted, or decoding it would need more memory than permitted."""

    code = "too_many_pixels"


class TooLong(VideoError):  # noqa: N818 - named like the code in answers
    """The video has more seconds, or more frames, than permitted."""

    code = "too_long"


# What PyAV raises for bad bytes: its own errors, ValueError for values that it cannot represent, and UnicodeDecodeError
# (a ValueError) for metadata. Mapped in source.py, cursor.py and frame_collector.py, and nowhere else.
FOREIGN_ERRORS = (av.FFmpegError, ValueError)
