"""Errors of exporting. Each message is one line; when one is raised, nothing was written.

``ExportError`` is the root; ``UnavailableError``, ``NotReproducedError`` and ``LossError`` are its kinds.
"""


class ExportError(ValueError):
    """The bundle cannot be made."""


class UnavailableError(ExportError):
    """A format or precision that this version does not write; the message names what it does."""


class NotReproducedError(ExportError):
    """The artefact does not reproduce the torch model; the message says what differed and by how much."""


class LossError(ExportError):
    """A reduced precision loses more than its bound; the message says what it was measured to lose."""


def first_line(error: BaseException) -> str:
    """The first line of what a foreign exception says, or its type if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def reason(error: OSError) -> str:
    """The operating system's reason for an error, in words."""
    return (error.strerror or first_line(error)).lower()
