"""Checks that a request whose upload is in progress is answered when the service is told to stop.

usage: in_flight.py HOST PORT CLIP STOP_COMMAND...

Sends half of the clip, runs the command in the background, sends the rest some seconds later, and prints the status
and the label of the response. Exit code 1 if the status is not 200. Standard library only.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from pathlib import Path

MEANWHILE_SECONDS = 4
"""Longer than the service accepts connections after it is told to stop, so its listener is closed by then."""


def main(host: str, port: int, clip: bytes, stop: list[str]) -> int:
    """Send the request, stop the service, and return the exit code."""
    connection = http.client.HTTPConnection(host, port, timeout=60)
    connection.putrequest("POST", "/classify")
    connection.putheader("Content-Type", "video/mp4")
    connection.putheader("Content-Length", str(len(clip)))
    connection.endheaders()
    connection.send(clip[: len(clip) // 2])
    time.sleep(1)
    stopping = subprocess.Popen(stop, stdout=subprocess.DEVNULL)
    time.sleep(MEANWHILE_SECONDS)
    connection.send(clip[len(clip) // 2 :])
    response = connection.getresponse()
    answer = json.load(response)
    stopping.wait()
    label = answer["predictions"][0]["label"] if response.status == http.client.OK else answer.get("code")
    print(f"stop: the request in flight got {response.status} {label}")
    return 0 if response.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).read_bytes(), sys.argv[4:]))
