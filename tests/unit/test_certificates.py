from __future__ import annotations

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sidecar.demo.certificates import ServerIdentity, make_private_key, make_server_identity

NAMES = ("kubernetes", "127.0.0.1", "::1")


def handshake(identity: ServerIdentity, directory: Path, *, name: str, ca: bytes) -> None:
    """Let a client that knows ``ca`` connect to a server with ``identity`` and look for ``name``."""
    certificate, key = directory / "crt", directory / "key"
    certificate.write_bytes(identity.certificate)
    key.write_bytes(identity.key)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate, key)
    client_side = ssl.create_default_context(cadata=ca.decode())
    client_side.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on

    def serve(end: socket.socket) -> None:
        with end, server_side.wrap_socket(end, server_side=True) as stream:
            stream.recv(1)

    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    theirs.settimeout(10)
    with ThreadPoolExecutor(1) as executor:
        served = executor.submit(serve, theirs)
        with ours, client_side.wrap_socket(ours, server_hostname=name) as stream:
            stream.send(b"x")
        served.result()


@pytest.mark.parametrize("name", NAMES)
def test_a_strict_client_that_trusts_the_ca_accepts_every_name(tmp_path: Path, name: str) -> None:
    identity = make_server_identity(NAMES)
    handshake(identity, tmp_path, name=name, ca=identity.ca)


def test_a_name_that_was_not_asked_for_is_refused(tmp_path: Path) -> None:
    identity = make_server_identity(NAMES)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(identity, tmp_path, name="localhost", ca=identity.ca)


def test_each_identity_has_a_ca_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(make_server_identity(NAMES), tmp_path, name=NAMES[0], ca=make_server_identity(NAMES).ca)


def test_the_key_is_in_no_repr() -> None:
    assert repr(make_server_identity(NAMES)) == "ServerIdentity(...)"


def test_private_keys_are_new_each_time_and_in_the_form_that_kubernetes_reads() -> None:
    first, second = make_private_key(), make_private_key()
    assert first != second
    assert first.startswith(b"-----BEGIN EC PRIVATE KEY-----\n")
    load_pem_private_key(first, password=None)
