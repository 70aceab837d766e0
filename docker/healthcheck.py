"""Ends with exit code 0 if the service in this container is ready, 1 otherwise. Standard library only.

usage: healthcheck.py [PORT [PATH]]    (default: the service's port, and /readyz)
"""

from __future__ import annotations

import http.client
import os
import sys

PATIENCE_SECONDS = 2.5


def ready(port: int, path: str) -> bool:
    """Whether a path answers 200 on this port of the loopback interface."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    port = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("ADAFOCUS_PORT", "8000")
    path = sys.argv[2] if len(sys.argv) > 2 else "/readyz"
    sys.exit(0 if ready(int(port), path) else 1)
