"""Answers an RTSP server's challenge: Basic (RFC 7617) and Digest (RFC 7616 and 2069). Pure; standard library only."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass, field

_ALGORITHMS = {"md5": "md5", "md5-sess": "md5", "sha-256": "sha256", "sha-256-sess": "sha256"}
_PARAMETER = re.compile(r'([A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')


class AuthenticationError(Exception):
    """The challenge cannot be answered; the text says why."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password; the password is not shown."""

    user: str
    password: str = field(repr=False)


def authorization(
    challenge: str, credentials: Credentials, method: str, url: str, *, client_nonce: str | None = None
) -> str:
    """The header ``Authorization`` for one request.

    Args:
        challenge: the header ``WWW-Authenticate`` of the server.
        credentials: of the user.
        method: of the request.
        url: of the request, as in its first line.
        client_nonce: for Digest with a quality of protection; None: a random one.

    Raises:
        AuthenticationError: the scheme or the algorithm is not known.
    """
    scheme, _, rest = challenge.strip().partition(" ")
    if scheme.lower() == "basic":
        pair = f"{credentials.user}:{credentials.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()
    if scheme.lower() != "digest":
        raise AuthenticationError(f"authentication must be Basic or Digest, the camera asks for {scheme[:20]!r}")
    given = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(rest)}
    return _digest(given, credentials, method, url, client_nonce or secrets.token_hex(8))


def _digest(given: dict[str, str], credentials: Credentials, method: str, url: str, client_nonce: str) -> str:
    name = given.get("algorithm", "MD5")
    if name.lower() not in _ALGORITHMS:
        raise AuthenticationError(f"the algorithm of Digest must be MD5 or SHA-256, the camera asks for {name[:20]!r}")

    def digest(*parts: str) -> str:
        return hashlib.new(_ALGORITHMS[name.lower()], ":".join(parts).encode(), usedforsecurity=False).hexdigest()

    realm, nonce = given.get("realm", ""), given.get("nonce", "")
    secret = digest(credentials.user, realm, credentials.password)
    if name.lower().endswith("-sess"):
        secret = digest(secret, nonce, client_nonce)
    told = {"username": credentials.user, "realm": realm, "nonce": nonce, "uri": url}
    offered = [quality.strip() for quality in given.get("qop", "").split(",")]
    request = digest(method, url)
    if "auth" in offered:
        told["response"] = digest(secret, nonce, "00000001", client_nonce, "auth", request)
        told["cnonce"] = client_nonce
        plain = ", qop=auth, nc=00000001"
    elif offered == [""]:
        told["response"] = digest(secret, nonce, request)
        plain = f', cnonce="{client_nonce}"' if name.lower().endswith("-sess") else ""
    else:
        raise AuthenticationError("the quality of protection of Digest must be auth")
    if "opaque" in given:
        told["opaque"] = given["opaque"]
    if "algorithm" in given:
        plain += f", algorithm={name}"
    return "Digest " + ", ".join(f'{key}="{value}"' for key, value in told.items()) + plain
