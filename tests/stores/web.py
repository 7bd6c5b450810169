"""A real HTTPS server with a certificate of its own, and a small model hub."""

import datetime
import hashlib
import ipaddress
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# Status, headers and body of an answer.
Answer = tuple[int, dict[str, str], bytes]
Answers = Callable[[str, Mapping[str, str]], Answer]


def write_certificate(folder: Path) -> Path:
    """Write a self-signed certificate for 127.0.0.1 with its key; returns the PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
    return file


@contextmanager
def web_server(answers: Answers, certificate: Path | None = None) -> Iterator[str]:
    """Answer GET and HEAD requests until the block ends; `answers` gets path and headers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answers(self.path, dict(self.headers))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as front:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            front.socket = context.wrap_socket(front.socket, server_side=True)
        threading.Thread(target=front.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"{'https' if certificate else 'http'}://127.0.0.1:{front.server_port}"
        finally:
            front.shutdown()


class TinyHub:
    """Answers of a hub with one data set, as far as `huggingface_hub` asks.

    Args:
        files: content of each file of `owner/bot`.
    """

    commit = "c" * 40

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def __call__(self, path: str, headers: Mapping[str, str]) -> Answer:
        path, _, _ = path.partition("?")
        for revision in ("main", "v1", self.commit):
            if path == f"/api/datasets/owner/bot/revision/{revision}":
                return self._info()
            start = f"/datasets/owner/bot/resolve/{revision}/"
            if path.startswith(start) and path.removeprefix(start) in self.files:
                content = self.files[path.removeprefix(start)]
                named = {"ETag": f'"{git_digest(content)}"', "X-Repo-Commit": self.commit}
                return 200, {**named, "Accept-Ranges": "bytes"}, content
        if path == "/api/datasets/owner/bot":
            return self._info()
        code = "RevisionNotFound" if "/owner/bot/" in path else "RepoNotFound"
        return 404, {"X-Error-Code": code}, b""

    def _info(self) -> Answer:
        siblings = [
            {"rfilename": name, "size": len(content), "blobId": git_digest(content)}
            for name, content in self.files.items()
        ]
        content = {"id": "owner/bot", "sha": self.commit, "siblings": siblings, "tags": []}
        return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()


def git_digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
