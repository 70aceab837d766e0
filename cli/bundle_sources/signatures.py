"""Signatures of bundles, as minisign makes them: of manifest.json, which fixes all other files by their checksums."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from adafocus.cli.bundle_sources.base import SourceError

if TYPE_CHECKING:
    from minisign import PublicKey

SUFFIX = ".minisig"
LARGEST_SIGNATURE_BYTES = 16 << 10
_NO_EXTRA = "signatures need the package 'py-minisign'; install it with: pip install 'adafocus[signed]'"


def read_key(given: str) -> PublicKey:
    """A public key: the line that minisign prints, or the path of the file that holds it.

    Raises:
        SourceError: it is neither, or the package for signatures is not installed.
    """
    try:
        from minisign import Error, PublicKey
    except ImportError as error:
        raise SourceError(_NO_EXTRA) from error
    try:
        return PublicKey.from_file(given) if Path(given).is_file() else PublicKey.from_base64(given)
    except (Error, ValueError, OSError) as error:
        raise SourceError(f"{given!r} is neither a minisign public key nor a file with one ({error})") from error


def verify(key: PublicKey, content: bytes, signature: bytes) -> str:
    """Check the signature of some content; returns its trusted comment.

    Raises:
        SourceError: it is not a signature, or not one of this content by this key.
    """
    from minisign import Error, Signature

    try:
        parsed = Signature.from_bytes(signature)
        key.verify(content, parsed)
    except (Error, ValueError) as error:
        raise SourceError(f"its signature is not valid: {error}") from error
    return str(parsed.trusted_comment)
