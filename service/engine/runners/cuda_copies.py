"""CUDA's runtime library, as far as copying frames to a GPU needs it."""

from __future__ import annotations

import ctypes

from adafocus.service.engine.runners.base import RunnerError

LIBRARIES = ("libcudart.so.13", "libcudart.so.12")
"""Of the versions that ONNX Runtime's packages are built for; loaded already where CUDA is in use."""

_HOST_TO_DEVICE, _DEVICE_TO_DEVICE = 1, 3
_NON_BLOCKING = 1


class CudaCopies:
    """Copies on a stream of its own, beside what the GPU computes. Implements `CopyEngine`.

    Args:
        library: the loaded library.

    Raises:
        RunnerError: no stream can be made.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        address, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        for name, arguments in {
            "cudaStreamCreateWithFlags": (ctypes.POINTER(address), ctypes.c_uint),
            "cudaMalloc": (ctypes.POINTER(address), size),
            "cudaHostRegister": (address, size, ctypes.c_uint),
            "cudaHostUnregister": (address,),
            "cudaMemcpyAsync": (address, address, size, number, address),
            "cudaStreamSynchronize": (address,),
        }.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, number
        self._library = library
        self._copy = library.cudaMemcpyAsync
        stream = address()
        self._check("cudaStreamCreateWithFlags", ctypes.byref(stream), _NON_BLOCKING)
        self._stream = stream

    def allocate(self, size: int) -> int:
        """Return the address of so many bytes on the GPU, which are kept until the process ends."""
        address = ctypes.c_void_p()
        self._check("cudaMalloc", ctypes.byref(address), size)
        return address.value or 0

    def register(self, address: int, size: int) -> None:
        """See `CopyEngine`: the pages are locked, and the GPU reads them by itself."""
        self._check("cudaHostRegister", address, size, 0)

    def unregister(self, address: int) -> None:
        """See `CopyEngine`."""
        self.finish()
        self._check("cudaHostUnregister", address)

    def copy(self, destination: int, source: int, size: int) -> int:
        """See `CopyEngine`."""
        return int(self._copy(destination, source, size, _HOST_TO_DEVICE, self._stream))

    def copy_within(self, destination: int, source: int, size: int) -> None:
        """Copy bytes from one address of the GPU to another, after all copies that were begun, and wait."""
        self._check("cudaMemcpyAsync", destination, source, size, _DEVICE_TO_DEVICE, self._stream)
        self.finish()

    def finish(self) -> None:
        """Wait for all copies that were begun, without the interpreter's lock."""
        self._check("cudaStreamSynchronize", self._stream)

    def _check(self, name: str, *arguments: object) -> None:
        error = getattr(self._library, name)(*arguments)
        if error:
            raise RunnerError(f"{name} failed with CUDA error {error}")


def open_copies() -> CudaCopies:
    """Load the library.

    Raises:
        RunnerError: there is none of a known version, or it cannot be used.
    """
    for name in LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        return CudaCopies(library)
    raise RunnerError(f"none of {', '.join(LIBRARIES)} can be loaded")
