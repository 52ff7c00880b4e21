"""Certificates as operators and applications have them: root, intermediate, leaf.

ours = Authority()
ours.issue_client("notifications.test", files)   # its chain goes along, its root does not
application = asking_for(ours, theirs.server_context("127.0.0.1"))
"""

from __future__ import annotations

import ssl
from datetime import datetime
from pathlib import Path

import msgspec
import trustme


class Files(msgspec.Struct, frozen=True):
    """Where a certificate and its key lie."""

    certificate: Path
    key: Path

    def write(self, leaf: trustme.LeafCert, *, with_chain: bool = True) -> None:
        """Put them there, in place of what there was."""
        chain = leaf.cert_chain_pems if with_chain else leaf.cert_chain_pems[:1]
        self.certificate.write_bytes(b"".join(pem.bytes() for pem in chain))
        self.key.write_bytes(leaf.private_key_pem.bytes())


class Authority:
    """A root that signs an intermediate, which signs the leaves: a chain of depth 2."""

    def __init__(self) -> None:
        self.root = trustme.CA()
        self._intermediate = self.root.create_child_ca()

    def issue(
        self, *names: str, common_name: str | None = None, until: datetime | None = None
    ) -> trustme.LeafCert:
        """A leaf for these names, valid until then."""
        return self._intermediate.issue_cert(*names, common_name=common_name, not_after=until)

    def write_root(self, path: Path) -> str:
        """The root in a PEM file; its path."""
        self.root.cert_pem.write_to_path(str(path))
        return str(path)

    def client_context(self) -> ssl.SSLContext:
        """Of a client that trusts the root."""
        context = ssl.create_default_context()
        self.root.configure_trust(context)
        return context

    def server_context(
        self, *names: str, until: datetime | None = None, asks_for: Authority | None = None
    ) -> ssl.SSLContext:
        """Of a server with a leaf, that wants a client certificate under the root of ``asks_for``.

        It knows that root alone: the intermediate has to come from the client.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.issue(*names, until=until).configure_cert(context)
        if asks_for is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            asks_for.root.configure_trust(context)
        return context
