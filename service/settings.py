"""Every setting of the service: one frozen value, parsed and checked once, from arguments and ``ADAFOCUS_…``.

Units are in the names. `describe` feeds ``adafocus serve --help``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from pydantic import DirectoryPath, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bundle.manifest import Precision
from service.cpu import usable_cores
from video.formats import check_codecs, check_containers
from video.limits import CODECS, CONTAINERS, MediaLimits

ENV_PREFIX = "ADAFOCUS_"

_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+")

Names = Annotated[tuple[str, ...], NoDecode]
Keys = Annotated[tuple[SecretStr, ...], NoDecode]


def check_key(key: str) -> str:
    """The key, if it can be sent in a header.

    Raises:
        ValueError: it cannot.
    """
    if not key or not key.isascii() or not key.isprintable() or key != key.strip():
        raise ValueError("a key is printable ASCII without spaces at its ends")
    return key


def default_decode_workers() -> int:
    """Two more than there are processors: a decoder whose video waits for its step leaves its processor to another."""
    return usable_cores() + 2


class Settings(BaseSettings):
    """Settings of one service. Lists are separated by commas in the environment.

    Raises:
        ValidationError: a value is not acceptable; `explain` turns it into one line.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", env_ignore_empty=True, allow_inf_nan=False
    )

    bundle: Path = Field(description="folder of the bundle to serve")
    host: str = Field(
        default="127.0.0.1", min_length=1, description="address to listen on; 0.0.0.0 for all (as in a container)"
    )
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on; 0 for any free one")
    backend: str | None = Field(default=None, description="runtime; unset: the fastest one installed")
    precision: Precision | None = Field(
        default=None, description="what to compute in; unset: the fastest that bundle, runtime and processor have"
    )
    model_cache: Path | None = Field(
        default=None,
        description="folder where runtimes keep models as prepared for this processor: a later start is faster, and "
        "services share the memory",
    )
    api_keys: Keys = Field(
        default=(), description="keys, any of which opens /classify and /model; none: no key is asked for"
    )
    api_keys_file: Path | None = Field(
        default=None, description="file of further keys, one a line; read again whenever it changes"
    )
    rate_limit_per_minute: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="classifications a minute for each key, or without keys for each address",
    )
    metrics_need_key: bool = Field(default=False, description="whether /metrics stands behind the keys too")
    cors_origins: Names = Field(
        default=(), description="origins whose pages may call from a browser, as https://example.org; * for all"
    )
    otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="receiver of traces (OTLP over HTTP), as http://collector:4318/v1/traces; needs the extra otel",
    )
    samples: DirectoryPath | None = Field(default=None, description="folder of sample clips that the page offers")

    max_upload_bytes: int = Field(default=200_000_000, ge=1, description="largest request body")
    max_video_seconds: float = Field(default=3600.0, gt=0, description="longest video")
    max_pixels: int = Field(default=8192 * 4320, ge=1, description="largest frame, width × height")
    max_queue: int = Field(default=64, ge=0, description="requests that may wait besides those that run; then 503")
    max_batch: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="rows of a batch: videos that share one graph run; unset: 8, on a GPU 64",
    )
    slots: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="videos in flight at once; unset: as many as decoders. Each takes the memory of its frames that "
        "wait for their step: 150 kB a frame of 224 pixels, two frames or, where several steps run at once, twice as "
        "many as those",
    )
    engine_process: bool | None = Field(
        default=None, description="run the engine in a process of its own; unset: only on a GPU"
    )
    look_ahead: int = Field(
        default=8, ge=1, le=64, description="steps of a lone video that run at once if it needs them all; 1: one by one"
    )
    upload_timeout_seconds: float = Field(
        default=20.0, gt=0, description="longest silence during an upload, and longest wait for a request's head"
    )
    min_upload_bytes_per_second: float = Field(
        default=1000.0, ge=0, description="slowest upload, over its whole time, once upload_timeout_seconds have passed"
    )
    request_timeout_seconds: float = Field(
        default=300.0, gt=0, description="a request's whole time; a tighter deadline_ms goes first"
    )
    decode_workers: int = Field(
        default_factory=default_decode_workers,
        ge=1,
        le=256,
        description="decoder processes",
    )
    decode_memory_bytes: int = Field(default=1 << 30, ge=1 << 26, description="memory of one decoder process")
    intra_op_threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="threads of one graph run; unset: the processors this process may use, a quarter of them for a "
        "small model",
    )
    drain_grace_seconds: float = Field(
        default=2.0, ge=0, le=3600, description="on SIGTERM, how long to keep accepting while /readyz already says 503"
    )
    containers: Names = Field(default=CONTAINERS, min_length=1, description="containers read, as FFmpeg names them")
    codecs: Names = Field(default=CODECS, min_length=1, description="codecs decoded, as FFmpeg names them")

    @field_validator("api_keys", "containers", "codecs", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        parts = tuple(part.strip() for part in value.split(",") if part.strip())
        if not parts:  # a key list that holds nothing must not open the door
            raise ValueError("a list that is set names at least one")
        return parts

    @field_validator("codecs")
    @classmethod
    def _are_codecs(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        check_codecs(names)
        return names

    @field_validator("containers")
    @classmethod
    def _are_containers(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        check_containers(names)
        return names

    @field_validator("api_keys")
    @classmethod
    def _are_sendable(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in keys:
            check_key(key.get_secret_value())
        return keys

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError("an origin is scheme://host[:port] without a path, or *")
        return origins

    @property
    def videos_in_flight(self) -> int:
        """Videos that may run at once."""
        return self.slots or self.decode_workers

    @property
    def media_limits(self) -> MediaLimits:
        """What the decoder may accept of one video."""
        return MediaLimits(
            max_pixels=self.max_pixels,
            max_seconds=self.max_video_seconds,
            decode_memory_bytes=self.decode_memory_bytes,
            containers=self.containers,
            codecs=self.codecs,
        )


def describe() -> Iterator[tuple[str, str]]:
    """Environment variable and description, with the default, of every setting, in order."""
    for name, setting in Settings.model_fields.items():
        if setting.is_required():
            default = "the bundle shipped with the checkout"
        elif setting.default_factory is default_decode_workers:
            default = "two more than these processors"
        elif isinstance(setting.default, tuple):
            default = ",".join(setting.default) or "none"
        else:
            default = "unset" if setting.default is None else str(setting.default)
        yield f"{ENV_PREFIX}{name.upper()}", f"{setting.description} [{default}]"


_OF_COMPOSE = frozenset({"ADAFOCUS_BUNDLES"})
"""What docker-compose.yml reads itself, and looks like a setting."""


def misspelt(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Environment variables that look like a setting and are none, each with the one that was probably meant.

    A slip in ``ADAFOCUS_API_KEYS`` would otherwise open the door in silence.
    """
    known = [f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields]
    for name in names:
        if name.startswith(ENV_PREFIX) and name not in known and name not in _OF_COMPOSE:
            yield from ((name, meant) for meant in difflib.get_close_matches(name, known, n=1, cutoff=0.9))


def explain(error: ValidationError) -> str:
    """One line for a person: the first setting that is wrong, its value and what is permitted."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "settings"
    given = "" if name == "api_keys" or isinstance(first["input"], dict) else f", got {first['input']!r}"
    return f"{name} ({ENV_PREFIX}{name.upper()}): {first['msg'].removeprefix('Value error, ')}{given}"
