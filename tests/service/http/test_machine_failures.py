"""What the service says when the machine fails it: 503 with a code, and not ready until it is over."""

from __future__ import annotations

import errno
import os
import struct
import tempfile
from pathlib import Path

import pytest

from adafocus.service.decode import upload
from adafocus.service.decode.spool import MEMORY_BYTES, Spool
from adafocus.service.errors import Unavailable
from tests.e2e.tiny import write_clip
from tests.service.server import make_settings, serving


async def test_without_a_folder_for_uploads_the_service_is_not_ready_until_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Larger than what is kept in memory. What follows the last box of an MP4 file is ignored.
    clip = (
        write_clip(tmp_path / "grey.mp4").read_bytes()
        + struct.pack(">I4s", MEMORY_BYTES, b"free")
        + bytes(MEMORY_BYTES - 8)
    )
    scratch = tmp_path / "scratch"
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    async with serving(make_settings(tmp_path)) as running, running.client() as client:
        for path in ("/readyz", "/classify"):
            answer = await client.request("POST" if path == "/classify" else "GET", path, content=clip)
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), path
            assert int(answer.headers["retry-after"]) >= 1
        assert "adafocus_ready 0.0" in (await client.get("/metrics")).text
        assert running.metric("adafocus_requests_total", outcome="error") == 1
        scratch.mkdir()
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.post("/classify", content=clip)).status_code == 200
        assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EIO])
def test_what_the_machine_lacks_is_not_the_callers_fault(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Spool:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(upload, "Spool", fail)
    with pytest.raises(Unavailable):
        upload.open_spool()
