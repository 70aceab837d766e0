"""Checks, on a host without a GPU, that image serve-gpu has every library that CUDA needs except the driver's.

Loads ONNX Runtime's CUDA provider. Exit code 0 if it loads, or if only the driver's own library is missing.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import onnxruntime

DRIVER = "libcuda.so.1"


def main() -> int:
    """Load the provider, print the result, and return the exit code."""
    onnxruntime.preload_dlls()
    folder = Path(onnxruntime.__file__).parent / "capi"
    ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_cuda.so"))
    except OSError as error:
        print(f"gpu image: {error}")
        return 0 if DRIVER in str(error) else 1
    print("gpu image: the CUDA provider loads")
    return 0


if __name__ == "__main__":
    sys.exit(main())
