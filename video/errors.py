"""What can be wrong with an uploaded video, as one tree.

    VideoError
    ├── UnsupportedMedia   not a video, or a container or codec that is not on the list
    ├── NoVideoStream      a media file of a known kind without a moving picture in it
    ├── Undecodable        the right kind of file, but no frame can be had from it
    │   └── EmptyStream    a stream that is announced and never sent
    ├── TooManyPixels      a picture larger than the limits allow
    └── TooLong            more seconds or frames than the limits allow

Every message is one line for the person who sent the video. It names the value found and what is permitted, and never
a file name: the well only ever sees anonymous bytes.
"""

from __future__ import annotations

from typing import ClassVar

import av


class VideoError(Exception):
    """A video that cannot be used. ``code`` is stable and machine-readable (PRODUCT section 3)."""

    code: ClassVar[str] = "undecodable"


class UnsupportedMedia(VideoError):  # noqa: N818 - named for what is wrong, as PRODUCT names its codes
    """Not a video, or a container or codec that is not permitted."""

    code = "unsupported_media"


class NoVideoStream(VideoError):  # noqa: N818 - named for what is wrong, as PRODUCT names its codes
    """A media file that holds no video stream; cover art is none."""

    code = "no_video_stream"


class Undecodable(VideoError):  # noqa: N818 - named for what is wrong, as PRODUCT names its codes
    """A video of the right kind from which not one frame can be decoded."""

    code = "undecodable"


class EmptyStream(Undecodable):
    """The video stream is announced, and the file holds no packet of it that shows a frame."""


class TooManyPixels(VideoError):  # noqa: N818 - named for what is wrong, as PRODUCT names its codes
    """The picture has more pixels than permitted, or decoding it would need more memory than permitted."""

    code = "too_many_pixels"


class TooLong(VideoError):  # noqa: N818 - named for what is wrong, as PRODUCT names its codes
    """The video has more seconds, or more frames, than permitted."""

    code = "too_long"


# What PyAV raises for bad bytes: its own tree, plain ValueError for values that it cannot represent, and
# UnicodeDecodeError (a ValueError) for metadata. Caught in source.py and cursor.py, the seam, and nowhere else.
FOREIGN_ERRORS = (av.FFmpegError, ValueError)
