"""The settings of the service: one frozen value, validated once, from arguments and ``ADAFOCUS_…`` variables.

Units are in the names. `describe` feeds ``adafocus serve --help``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from pydantic import (
    DirectoryPath,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from adafocus.bundle.manifest import Precision
from adafocus.service.cpu import usable_cores
from adafocus.service.memory import usable_memory_bytes
from adafocus.video.formats import check_codecs, check_containers
from adafocus.video.limits import CODECS, CONTAINERS, MediaLimits

ENV_PREFIX = "ADAFOCUS_"

_HOST_PATTERN = re.compile(r"(\*|(\*\.)?[A-Za-z0-9_\-.]+|\[[0-9A-Fa-f:.]+\])(:([0-9]{1,5}|\*))?")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+")

Names = Annotated[tuple[str, ...], NoDecode]
Keys = Annotated[tuple[SecretStr, ...], NoDecode]


def check_key(key: str) -> str:
    """Return the key if it can be sent in a header.

    Raises:
        ValueError: the key cannot be sent in a header.
    """
    if not key or not key.isascii() or not key.isprintable() or key != key.strip():
        raise ValueError("an API key must be printable ASCII without spaces at its ends")
    return key


def default_decode_workers() -> int:
    """Two more than there are cores: a decoder whose video waits for a step leaves its core to another decoder."""
    return usable_cores() + 2


def default_decode_memory_bytes() -> int:
    """1 GiB for each decoder, or less, so that half of them at their limit fit into half of the memory there is."""
    share = usable_memory_bytes() // (default_decode_workers() + 1)
    return min(1 << 30, max(SMALLEST_DECODE_MEMORY_BYTES, share))


SMALLEST_DECODE_MEMORY_BYTES = 192 << 20
"""Enough for 1080p in every codec; larger videos are refused where there is less memory for each decoder."""


class Settings(BaseSettings):
    """Settings of one service. Lists are separated by commas in the environment.

    Raises:
        ValidationError: a value is invalid; `explain` turns the error into one line.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", env_ignore_empty=True, allow_inf_nan=False
    )

    bundle: Path = Field(description="Folder of the bundle to serve.")
    bundles: DirectoryPath | None = Field(
        default=None,
        description="Folder of bundles that are all served, each under the name of its own folder; takes the place of "
        "bundle.",
    )
    default_model: str | None = Field(
        default=None,
        description="Model of requests that name none, if there are several; unset: the first by name.",
    )
    bundles_poll_seconds: float = Field(
        default=5.0,
        ge=0,
        le=86_400,
        description="How often the folder of bundles is looked at for new versions, in seconds; 0: never.",
    )
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on; use 0.0.0.0 for all interfaces, as in a container.",
    )
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    backend: str | None = Field(
        default=None, description="Inference backend, such as onnxruntime-cpu; unset: the fastest one installed."
    )
    precision: Precision | None = Field(
        default=None,
        description="Precision to compute in; unset: the fastest that bundle, backend and processor support.",
    )
    model_cache: Path | None = Field(
        default=None,
        description="Folder where backends cache models prepared for this processor. Later starts are faster, and "
        "services on one machine share the memory.",
    )
    api_keys: Keys = Field(
        default=(),
        description="API keys, one of which /classify, /model and /v2 require; unset: no key is required.",
    )
    api_keys_file: Path | None = Field(
        default=None, description="File with further API keys, one per line; it is read again when it changes."
    )
    rate_limit_per_minute: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Classifications per minute for each API key, or for each client address if there are no keys.",
    )
    repository_api: bool = Field(
        default=False,
        description="Whether models may be loaded and unloaded over HTTP (/v2/repository/models) by whoever has an API "
        "key; needs keys.",
    )
    metrics_need_key: bool = Field(default=False, description="Whether /metrics requires an API key too.")
    cors_origins: Names = Field(
        default=(),
        description="Origins whose pages may call the API from a browser, such as https://example.org; * for all.",
    )
    otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="Receiver of traces (OTLP over HTTP), such as http://collector:4318/v1/traces; needs the extra "
        "otel.",
    )
    samples: DirectoryPath | None = Field(default=None, description="Folder of sample clips that the web page offers.")

    url_hosts: Names = Field(
        default=(),
        description="Hosts of URLs that may be classified: example.org, *.example.org, * for any public host; "
        "HOST:PORT or HOST:* for other ports than 80 and 443; unset: URLs are refused.",
    )
    url_private: bool = Field(
        default=False, description="Whether URLs may lead to private addresses. Unsafe where strangers may ask."
    )
    max_upload_bytes: int = Field(
        default=200_000_000, ge=1, description="Largest request body, and most bytes fetched from a URL, in bytes."
    )
    max_video_seconds: float = Field(default=3600.0, gt=0, description="Longest video, in seconds.")
    max_windowed_seconds: float = Field(
        default=21_600.0, gt=0, description="Longest video that is classified in windows (window_s), in seconds."
    )
    max_windows: int = Field(default=10_000, ge=1, description="Most windows of one video.")
    windows_timeout_seconds: float = Field(
        default=3600.0,
        gt=0,
        description="Longest time for one request with windows; request_timeout_seconds applies to each window.",
    )
    max_pixels: int = Field(default=8192 * 4320, ge=1, description="Largest frame: width × height, in pixels.")
    max_decoded_pixels: int = Field(
        default=20_000_000_000,
        ge=1,
        description="Most pixels of one video that are decoded; then it is answered from the frames so far. "
        "20,000,000,000 are 2,400 pictures of 4K.",
    )
    max_decode_seconds: float = Field(
        default=20.0,
        gt=0,
        description="Most processor time for decoding one video; then it is answered from the frames so far.",
    )
    max_queue: int = Field(
        default=64, ge=0, description="Requests that may wait for a slot; more are rejected with 503."
    )
    quality_target_seconds: float = Field(
        default=0.2,
        ge=0,
        le=3600,
        description="Wait for a slot above which requests without strict=true run at the next cheaper operating point; "
        "0: never. Below max_queue_seconds, so that quality is lowered before requests are rejected.",
    )
    shadow_full_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the answers after an early exit whose video is classified again without one, after the "
        "answer, to measure how often the two agree.",
    )
    shadow: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}:(100|[0-9]{1,2}(\.[0-9]{1,4})?)%$",
        description="Second model for a share of the videos of the others, as NAME:1%: it classifies them too, after "
        "they were answered, to measure how often its answer is the same. It must have the same labels.",
    )
    max_queue_seconds: float = Field(
        default=0.5,
        gt=0,
        description="Longest time that a request may be expected to wait for a slot; beyond that it is rejected with "
        "503. As many requests as there are slots may always wait.",
    )
    max_connections: int | None = Field(
        default=None,
        ge=1,
        description="Connections at once; beyond that an idle one is closed, or the new one refused; unset: half of "
        "the descriptors that the process may have, and at most 8192.",
    )
    max_connections_per_caller: int | None = Field(
        default=None, ge=1, description="Of them, those from one address (IPv6: a /64 network); unset: half."
    )
    max_uploads: int = Field(
        default=256, ge=1, description="Request bodies that may be arriving at once; more are rejected with 503."
    )
    max_uploads_per_caller: int = Field(
        default=64,
        ge=1,
        description="Of them, those of one caller: an API key, or without keys an address (IPv6: a /64 network).",
    )
    max_batch: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Largest batch: videos that share one run of the model; unset: 8, on a GPU 64.",
    )
    slots: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Videos that run at once; unset: as many as decoders, on a GPU four full batches. A decoder that "
        "has delivered the frames of a video takes the next one while they wait for their steps.",
    )
    frame_memory_bytes: int = Field(
        default=1 << 30,
        ge=1 << 20,
        description="Memory for decoded frames that wait for their steps, in bytes; each video takes enough for all "
        "frames that the model uses, 150 kB for one of 224 pixels. Decoding waits while there is none left, but there "
        "is always enough for one video of each decoder.",
    )
    fronts: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Processes that serve HTTP and decode, with one engine for all; unset: 1, on a GPU one for every "
        "four cores, at most 8.",
    )
    engine_process: bool | None = Field(
        default=None, description="Whether the engine runs in a process of its own; unset: only on a GPU."
    )
    look_ahead: int = Field(
        default=8,
        ge=1,
        le=64,
        description="Steps of a single video that may run in one batch if it needs them all; 1: one at a time.",
    )
    upload_timeout_seconds: float = Field(
        default=20.0,
        gt=0,
        description="Longest time without new bytes during an upload, and longest wait for the head of a request.",
    )
    min_upload_bytes_per_second: float = Field(
        default=1000.0,
        ge=0,
        description="Lowest mean rate of an upload; checked once upload_timeout_seconds have passed.",
    )
    request_timeout_seconds: float = Field(
        default=300.0, gt=0, description="Longest time for one request; a request may ask for less with deadline_ms."
    )
    decode_workers: int = Field(
        default_factory=default_decode_workers,
        ge=1,
        le=256,
        description="Decoder processes.",
    )
    decode_memory_bytes: int = Field(
        default_factory=default_decode_memory_bytes,
        ge=1 << 26,
        description="Memory limit of one decoder process, in bytes.",
    )
    intra_op_threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Threads for one run of the model; unset: the cores that this process may use, a quarter of them "
        "for a small model.",
    )
    drain_grace_seconds: float = Field(
        default=2.0,
        ge=0,
        le=3600,
        description="How long to keep accepting requests after SIGTERM, while /readyz already returns 503.",
    )
    containers: Names = Field(
        default=CONTAINERS, min_length=1, description="Containers that are read, by FFmpeg's names."
    )
    codecs: Names = Field(default=CODECS, min_length=1, description="Codecs that are decoded, by FFmpeg's names.")

    @field_validator("api_keys", "containers", "codecs", "cors_origins", "url_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        parts = tuple(part.strip() for part in value.split(",") if part.strip())
        if not parts:  # a key list that is set but empty must not disable the keys
            raise ValueError("the list is empty; name at least one, or leave the variable unset")
        return parts

    @model_validator(mode="before")
    @classmethod
    def _default_bundle(cls, data: object) -> object:
        """With a folder of bundles, ``bundle`` is that of the default model."""
        if isinstance(data, dict) and data.get("bundles"):
            folder = Path(data["bundles"])
            names = sorted(manifest.parent.name for manifest in folder.glob("[!.]*/manifest.json"))
            return {**data, "bundle": folder / (data.get("default_model") or next(iter(names), ""))}
        return data

    @field_validator("fronts")
    @classmethod
    def _share_one_model(cls, fronts: int | None, info: ValidationInfo) -> int | None:
        if fronts is not None and fronts > 1 and info.data.get("bundles") is not None:
            raise ValueError("must be 1 with a folder of bundles, because several fronts share the engine of one model")
        return fronts

    @field_validator("repository_api")
    @classmethod
    def _is_guarded(cls, allowed: bool, info: ValidationInfo) -> bool:
        if allowed and not info.data.get("api_keys") and info.data.get("api_keys_file") is None:
            raise ValueError("needs api_keys or api_keys_file: without a key anybody could unload the models")
        return allowed

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

    @field_validator("url_hosts")
    @classmethod
    def _are_hosts(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            if not _HOST_PATTERN.fullmatch(pattern):
                raise ValueError("a host must be a name, *.name or *, and may have a port, as example.org:8443")
        return patterns

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError("an origin must be scheme://host[:port] without a path, or *")
        return origins

    @property
    def videos_in_flight(self) -> int:
        """Videos that may run at once."""
        return self.slots or self.decode_workers

    @property
    def shadow_model(self) -> tuple[str, float] | None:
        """The name of the second model, and its share of the videos; None if there is none."""
        if self.shadow is None:
            return None
        name, _, share = self.shadow.removesuffix("%").rpartition(":")
        return name, float(share) / 100

    @property
    def media_limits(self) -> MediaLimits:
        """The limits for one video."""
        return MediaLimits(
            max_pixels=self.max_pixels,
            max_seconds=self.max_video_seconds,
            decode_memory_bytes=self.decode_memory_bytes,
            max_decoded_pixels=self.max_decoded_pixels,
            max_decode_seconds=self.max_decode_seconds,
            containers=self.containers,
            codecs=self.codecs,
        )


def describe() -> Iterator[tuple[str, str]]:
    """Yield the environment variable and the description, with the default, of every setting."""
    for name, setting in Settings.model_fields.items():
        if setting.is_required():
            default = "the shipped bundle"
        elif setting.default_factory is default_decode_workers:
            default = "cores + 2"
        elif setting.default_factory is default_decode_memory_bytes:
            default = "1073741824, or less in a small container"
        elif isinstance(setting.default, tuple):
            default = ",".join(setting.default) or "none"
        else:
            default = "unset" if setting.default is None else str(setting.default)
        yield f"{ENV_PREFIX}{name.upper()}", f"{setting.description} [{default}]"


def misspelt(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield environment variables that look like misspelt settings, each with the setting that was probably meant.

    A typing error in ``ADAFOCUS_API_KEYS`` would otherwise leave the service without keys, silently.
    """
    known = [f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields]
    for name in names:
        if name.startswith(ENV_PREFIX) and name not in known:
            yield from ((name, meant) for meant in difflib.get_close_matches(name, known, n=1, cutoff=0.9))


def explain(error: ValidationError) -> str:
    """One line for a person: the first invalid setting, what is allowed, and its value."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "settings"
    given = "" if name == "api_keys" or isinstance(first["input"], dict) else f", got {first['input']!r}"
    return f"{name} ({ENV_PREFIX}{name.upper()}): {first['msg'].removeprefix('Value error, ')}{given}"
