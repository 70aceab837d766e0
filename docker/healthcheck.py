"""Ends with exit code 0 if the service in this container is ready, 1 otherwise. Standard library only."""

from __future__ import annotations

import http.client
import os
import sys

PATIENCE_SECONDS = 2.5


def ready(port: int) -> bool:
    """Whether ``/readyz`` answers 200 on this port of the loopback interface."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if ready(int(os.environ.get("ADAFOCUS_PORT", "8000"))) else 1)
