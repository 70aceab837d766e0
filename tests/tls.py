"""A certificate for loopback that no authority has signed, and a way to trust it as a user would."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from adafocus.service.sources.dialer import client_context

CERTIFICATE = Path(__file__).resolve().parent / "fixtures" / "tls" / "cert.pem"
KEY = CERTIFICATE.with_name("key.pem")


def server_context() -> ssl.SSLContext:
    """For a server at 127.0.0.1 or localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    return context


@contextlib.contextmanager
def trusting_the_certificate() -> Iterator[None]:
    """Trust it by the variable that OpenSSL reads; processes that are started during the block do so, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        client_context.cache_clear()
        try:
            yield
        finally:
            client_context.cache_clear()
