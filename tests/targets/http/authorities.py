"""A certificate authority for tests and a certificate for 127.0.0.1, made by the openssl command."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Authority:
    """`ca_file`: the certificate that clients trust; `server`: the certificate of a server at 127.0.0.1."""

    ca_file: Path
    server: ssl.SSLContext


def authority(folder: Path, days: int = 2) -> Authority:
    """Create an authority in `folder`. `days`: for how long the server's certificate is valid."""
    _openssl(
        folder, "req", "-x509", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
        "-subj", "/CN=Test authority", "-addext", "keyUsage=critical,keyCertSign",
    )  # fmt: skip
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:kb.example\n")
    _openssl(folder, "req", "-new", *_NEW_KEY, "-keyout", "kb.key", "-out", "kb.csr", "-subj", "/CN=kb")
    _openssl(
        folder, "x509", "-req", "-in", "kb.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
        "-out", "kb.pem", "-days", str(days), "-extfile", "names",
    )  # fmt: skip
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "kb.pem", folder / "kb.key")
    return Authority(folder / "ca.pem", server)


def _openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)
