"""The file that says what a folder of results was made with, so that no run mixes two kinds of rows in it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import click

from adafocus.bundle.store import MANIFEST, Bundle
from adafocus.cli.offline.formats import FormatName
from adafocus.cli.offline.shards import Shard
from adafocus.service.schemas.parameters import Parameters

RUN_FILE = "_run.json"

Run = dict[str, object]


def describe_run(bundle: Bundle, ask: Parameters, shard: Shard, form: FormatName) -> Run:
    """Return what all runs that write to one folder must have in common."""
    manifest = bundle.manifest
    return {
        "model": f"{manifest.name} {manifest.version}",
        "manifest_sha256": hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest(),
        "parameters": asdict(ask),
        "shards": shard.count,
        "format": form,
    }


def join_run(folder: Path, run: Run) -> None:
    """Write the description of the first run to the folder, or compare this run with it.

    Raises:
        click.ClickException: the folder holds the results of another kind of run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RUN_FILE
    if not path.exists():
        new = folder / f".{RUN_FILE}.{os.getpid()}"
        new.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
        try:
            path.hardlink_to(new)  # fails if another shard was first, and never shows half a file
        except FileExistsError:
            pass
        finally:
            new.unlink()
    try:
        theirs = json.loads(path.read_text(encoding="utf-8"))
        differing = [name for name, value in run.items() if theirs[name] != json.loads(json.dumps(value))]
    except (ValueError, KeyError, TypeError) as error:
        raise click.ClickException(f"{path} does not describe a run; choose another folder with --out") from error
    if differing:
        name = differing[0]
        raise click.ClickException(
            f"{folder} holds results with {name} {_shown(theirs[name])}, and this run has {_shown(run[name])}; "
            "use the same options, or choose another folder with --out"
        )


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
