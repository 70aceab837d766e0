"""A bucket of an object store on loopback: moto's server, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote

import httpx
import pytest

NAME = "videos"

_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


@dataclass(frozen=True)
class Bucket:
    """An empty bucket, and where it is."""

    endpoint: str

    def put(self, key: str, content: bytes) -> str:
        """Store an object; returns its URL."""
        from obstore.store import S3Store

        store = S3Store(NAME, **self._access, client_options={"allow_http": True})  # type: ignore[arg-type]
        store.put(key, content)
        return f"s3://{NAME}/{quote(key)}"

    @property
    def _access(self) -> dict[str, str]:
        return {
            "endpoint": self.endpoint,
            "access_key_id": "test",
            "secret_access_key": "s3cr3t",
            "region": "us-east-1",
        }

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this process find the store, as its users do: by the environment."""
        for name, value in {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "s3cr3t",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)


@contextmanager
def a_bucket() -> Iterator[Bucket]:
    """Run the store while the block runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        bucket = Bucket(f"http://127.0.0.1:{int(process.stdout.readline())}")
        httpx.put(f"{bucket.endpoint}/{NAME}", trust_env=False).raise_for_status()
        yield bucket
    finally:
        process.communicate()
