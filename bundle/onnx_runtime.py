"""ONNX Runtime as this program uses it: without its telemetry. Import it from here, never directly.

The wheel for Linux starts a telemetry client when it is imported: it asks DNS for a collector of Microsoft, and writes
a session file into TMPDIR. The environment variable is read at that moment, so it has to be set before.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

if hasattr(ort, "disable_telemetry_events"):  # versions before 1.5 have none
    ort.disable_telemetry_events()

__all__ = ["ort"]
