"""The file ``cameras.toml``: which streams are watched, and where events go."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from adafocus.bundle.manifest import Manifest
from adafocus.service.live.mqtt import parse_broker
from adafocus.service.live.rtsp_address import SCHEMES, parse_address
from adafocus.service.schemas.parameters import DEFAULT_EVENT_THRESHOLD, MIN_EVENT_THRESHOLD

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]

STREAM_SCHEMES = ("http", "https", *SCHEMES)


class CamerasError(Exception):
    """``cameras.toml`` cannot be used; the text says what is wrong, the value, and what is allowed."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Camera(_Table):
    """One stream.

    Attributes:
        name: in rows and logs.
        url: an rtsp or rtsps URL, with user and password if the camera wants them; an http or https URL of an MPEG-TS
            stream or of an HLS playlist (``….m3u8``); a device, ``/dev/video0``; or the path of a file.
        window_s: length of a window; each begins with a key frame, so it may be longer.
        labels: of which events are told; None: of all.
        threshold: least score with which an event begins.
        hold_s: shorter events are left out, and interruptions up to this are bridged.
        exit: operating point; None: the bundle's default.
        speed: of a file: how many times faster than its own pace it is played; 0: as fast as it can be classified, and
            then no window is dropped.
        loop: of a file: whether it begins again at its end.
    """

    name: Name
    url: str = Field(min_length=1, max_length=8192)
    window_s: float = Field(default=10.0, ge=0.5, le=3600)
    labels: tuple[str, ...] | None = None
    threshold: float = Field(default=DEFAULT_EVENT_THRESHOLD, ge=MIN_EVENT_THRESHOLD, le=1)
    hold_s: float = Field(default=0.0, ge=0, le=86_400)
    exit: str | None = None
    speed: float = Field(default=1.0, ge=0, le=1e6)
    loop: bool = False

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: str) -> str:
        scheme = urlsplit(url).scheme if "://" in url else ""
        if scheme and scheme not in STREAM_SCHEMES:
            raise ValueError(
                f"must be an rtsp, rtsps, http or https URL or the path of a file, got the scheme {scheme[:20]!r}"
            )
        if scheme in SCHEMES:
            parse_address(url)
        return url

    @property
    def is_rtsp(self) -> bool:
        """Whether it is an RTSP camera."""
        return "://" in self.url and urlsplit(self.url).scheme in SCHEMES

    @property
    def is_file(self) -> bool:
        """Whether it is a file of this machine."""
        return "://" not in self.url and not self.is_device

    @property
    def is_device(self) -> bool:
        """Whether it is a device of Video4Linux."""
        return self.url.startswith("/dev/")

    @property
    def waits(self) -> bool:
        """Whether its windows wait until they can be classified."""
        return self.is_file and self.speed == 0


class Webhook(_Table):
    """Where events are posted, signed as Standard Webhooks say.

    Attributes:
        url: receives a POST for each event.
        secret: ``whsec_`` and the key in base64.
    """

    url: str = Field(pattern=r"^https?://")
    secret: SecretStr = Field(min_length=8)


class MqttTable(_Table):
    """The broker to which events are published.

    Attributes:
        url: ``mqtt://`` or ``mqtts://``, with user and password if the broker wants them.
        topic: ``{camera}`` stands for the camera's name.
    """

    url: SecretStr
    topic: str = Field(default="adafocus/{camera}", min_length=1, max_length=256)

    @field_validator("url")
    @classmethod
    def _is_broker(cls, url: SecretStr) -> SecretStr:
        parse_broker(url.get_secret_value())
        return url

    @field_validator("topic")
    @classmethod
    def _names_one_topic(cls, topic: str) -> str:
        if any(letter in topic for letter in "+#\0"):
            raise ValueError("must name one topic, without + and #, which stand for several")
        return topic


class Cameras(_Table):
    """The whole file."""

    camera: tuple[Camera, ...] = Field(min_length=1, max_length=1000)
    webhook: Webhook | None = None
    mqtt: MqttTable | None = None

    @model_validator(mode="after")
    def _names_differ(self) -> Cameras:
        names = [camera.name for camera in self.camera]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"each camera needs a name of its own; {', '.join(twice)} is given more than once")
        return self

    def check(self, manifest: Manifest) -> None:
        """Check labels and operating points against a bundle.

        Raises:
            CamerasError: the bundle has no such label or point.
        """
        points = [point.name for point in manifest.operating_points]
        for camera in self.camera:
            unknown = sorted(set(camera.labels or ()) - set(manifest.labels))
            if unknown:
                raise CamerasError(f"camera {camera.name}: the bundle has no label {', '.join(unknown)}")
            if camera.exit is not None and camera.exit not in points:
                raise CamerasError(
                    f"camera {camera.name}: exit must be one of {', '.join(points)}, got {camera.exit!r}"
                )


def load_cameras(path: Path) -> Cameras:
    """Read the file; paths in it are relative to its folder.

    Raises:
        CamerasError: it cannot be read or holds something that is not allowed. Secrets are not repeated.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        cameras = Cameras.model_validate(document)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CamerasError(f"{path}: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise CamerasError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}") from None
    moved = [
        camera.model_copy(update={"url": str(path.parent / camera.url)}) if camera.is_file else camera
        for camera in cameras.camera
    ]
    return cameras.model_copy(update={"camera": tuple(moved)})
