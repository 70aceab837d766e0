"""Classifies videos on a Ray cluster: an engine in each actor of a pool, and rows that come back to this process.

Only names and paths go out and only rows come back, so that no video passes the object store. Rows are written by this
process into the same folder as without Ray, where a run that was interrupted goes on in either way.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from adafocus.bundle.store import load_bundle
from adafocus.cli.in_process import Failure, Named, VideoInput, classify_all, open_engine
from adafocus.cli.offline.formats import Row
from adafocus.cli.offline.rows import id_of, row_of
from adafocus.cli.video_urls import VideoUrl, is_video_url
from adafocus.service.errors import Internal
from adafocus.service.schemas.parameters import Parameters
from adafocus.service.settings import Settings

VIDEOS_PER_BLOCK = 64
"""What an actor takes at a time, and what is done again if it is lost."""

_PATIENCE_SECONDS = 10.0

MOST_RETRIES = 3
"""How often a block is given to another actor because the last one died with it."""


@dataclass(frozen=True)
class Pool:
    """The actors to run.

    Attributes:
        cores: of each actor, for its decoders and its graphs.
        gpus: of each actor; a fraction lets several share one.
        most: number of actors; None: as many as the cluster has room for.
    """

    cores: float = 4.0
    gpus: float = 0.0
    most: int | None = None


class Classifier:
    """An engine that classifies blocks of videos; Ray makes one in each actor.

    Args:
        settings: of the engine, as names and values. The bundle is a folder that every node has.
        ask: the parameters of every video.
    """

    def __init__(self, settings: dict[str, Any], ask: Parameters) -> None:
        own = Settings(**settings)
        self._ask = ask
        self._loop = asyncio.Runner()
        self._opened = AsyncExitStack()
        engine = open_engine(load_bundle(own.bundle), own)
        self._runtime = self._loop.run(self._opened.enter_async_context(engine))

    def __call__(self, block: dict[str, Any]) -> dict[str, Any]:
        """Classify a block: columns ``name`` and ``path``; returns a column ``row`` of JSON."""
        import numpy as np

        videos = [VideoInput(name, _named(path)) for name, path in zip(block["name"], block["path"], strict=True)]
        rows: list[str] = []
        self._loop.run(
            classify_all(
                self._runtime,
                videos,
                self._ask,
                lambda video, result: rows.append(json.dumps(row_of(video, result))),
                id_of=id_of,
            )
        )
        return {"row": np.array(rows, dtype=object)}


def classify_on_ray(
    videos: Sequence[VideoInput],
    settings: Settings,
    ask: Parameters,
    pool: Pool,
    address: str,
    classifier: type[Classifier] = Classifier,
) -> Iterator[Row]:
    """Yield the row of each video as blocks of them are done, in no particular order.

    A video that ends the process of its actor, which only a fault outside the sandboxed decoders can do, takes its
    block with it. What is missing is therefore classified once more, each video in a block of its own, and a video
    that is missing again gets an error row.

    Raises:
        click.ClickException: ray is not installed, there is no cluster at the address, or no video could be classified
            there.
    """
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"--ray needs the package {error.name!r}, which is not installed; install the extra ray on every node"
        ) from error
    try:
        _check_reachable(address)
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"there is no Ray cluster at {address}: {error}") from error
    try:
        actors = _Actors(classifier, _for_actor(settings, pool), ask, pool)
        missing = {video.name: video for video in videos}
        for videos_per_block in (VIDEOS_PER_BLOCK, 1):
            waiting = list(missing.values())
            for row in actors.classify(waiting, videos_per_block):
                del missing[row["file"]]
                yield row
            if missing and len(missing) == len(videos):
                raise click.ClickException(f"no video could be classified on the cluster at {address}; see Ray's log")
            if not missing:
                return
        for video in missing.values():
            yield row_of(video, Failure(Internal.code, "the process that classified this video ended each time"))
    except ray.exceptions.RayError as error:
        raise click.ClickException(f"the Ray cluster failed: {error}; run the command again to continue") from error
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Try the address of a head node, because Ray would wait for minutes for one that does not answer.

    Raises:
        OSError: nothing listens there.
    """
    found = re.fullmatch(r"(?:ray://)?(?P<host>.+):(?P<port>[0-9]{1,5})", address)
    if found:
        socket.create_connection((found["host"].strip("[]"), int(found["port"])), _PATIENCE_SECONDS).close()


class _Actors:
    """A pool of actors with an engine each."""

    def __init__(self, classifier: type[Classifier], settings: dict[str, Any], ask: Parameters, pool: Pool) -> None:
        self._classifier = classifier
        self._arguments = (settings, ask)
        self._pool = pool

    def classify(self, videos: Sequence[VideoInput], videos_per_block: int) -> Iterator[Row]:
        """Yield the rows of all blocks but those that failed on several actors."""
        import pyarrow
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1
        parts = [videos[start : start + videos_per_block] for start in range(0, len(videos), videos_per_block)]
        blocks = [
            pyarrow.table(
                {
                    "name": [video.name for video in part],
                    "path": [_address(video.path) for video in part],
                }
            )
            for part in parts
        ]
        rows = ray.data.from_arrow(blocks).map_batches(
            self._classifier,
            fn_constructor_args=self._arguments,
            batch_size=None,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=self._pool.most),
            num_cpus=self._pool.cores,
            num_gpus=self._pool.gpus,
            ray_remote_args_fn=lambda: {"max_task_retries": MOST_RETRIES},
        )
        for batch in rows.iter_batches(batch_size=None):
            for line in batch["row"]:
                yield json.loads(line)


def _for_actor(settings: Settings, pool: Pool) -> dict[str, Any]:
    """The settings of an actor: those that were given, with decoders and threads for its share of a node."""
    given = settings.model_dump(mode="json", exclude_unset=True, exclude={"api_keys"})
    given["bundle"] = str(settings.bundle.absolute())
    cores = max(1, round(pool.cores))
    return {"decode_workers": cores + 2, "intra_op_threads": max(1, cores // 4), **given}


def _address(video: Named) -> str:
    """What names a video on every node: a URL, or a path from the root."""
    return video.url if isinstance(video, VideoUrl) else os.fspath(video.absolute())


def _named(address: str) -> Named:
    return VideoUrl(address) if is_video_url(address) else Path(address)
