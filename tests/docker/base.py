"""Base images, made from Debian's packages, because tests cannot pull images.

`DEBIAN` is Debian's minimal system with Python and venv: packages are installed in it, and KFP's
tasks run on it. `BASE` has only the parts that Python needs to run. Like a distroless image, it
comes without shell, package manager and pip.
"""

import configparser
import contextlib
import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.docker.engine import Engine, NoEngineError

DEBIAN, BASE, BUILD = "saarthi-test/debian", "saarthi-test/python", "saarthi-test/install"
SUITE = "bookworm"
INCLUDED = "ca-certificates,media-types,python3,python3-venv"
# Packages of distroless's python3. debootstrap installs them as dependencies of `python3`.
OF_PYTHON = (
    *("base-files", "ca-certificates", "libbz2-1.0", "libc6", "libcom-err2", "libcrypt1"),
    *("libdb5.3", "libexpat1", "libffi8", "libgcc-s1", "libgssapi-krb5-2", "libk5crypto3"),
    *("libkeyutils1", "libkrb5-3", "libkrb5support0", "liblzma5", "libncursesw6", "libnsl2"),
    *("libpython3.11-minimal", "libpython3.11-stdlib", "libreadline8", "libsqlite3-0", "libssl3"),
    *("libstdc++6", "libtinfo6", "libtirpc3", "libuuid1", "media-types", "python3-minimal"),
    *("python3.11", "python3.11-minimal", "tzdata", "zlib1g"),
)
LINKS = ("bin", "lib", "lib64", "sbin")  # into usr/
MADE = ("etc/group", "etc/ld.so.cache", "etc/passwd", "etc/ssl/certs/ca-certificates.crt", "tmp")
# Removed, like in Debian's slim images.
NOT_WANTED = (
    *("usr/share/doc", "usr/share/info", "usr/share/locale", "usr/share/man"),
    *("var/cache/apt", "var/lib/apt/lists", "var/log"),
)
PATH = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def make_bases(engine: Engine, folder: Path) -> None:
    """Make the images `DEBIAN` and `BASE`.

    Raises:
        NoEngineError: Debian's packages cannot be fetched.
    """
    root, log = folder / "root", folder / "debootstrap.log"
    command = ["debootstrap", "--variant=minbase", f"--include={INCLUDED}", SUITE, str(root)]
    with log.open("w") as output:
        done = subprocess.run(command, stdout=output, stderr=output)
    if done.returncode:
        raise NoEngineError(f"debootstrap: {log.read_text(encoding='utf-8')[-500:]}")
    subprocess.run(["umount", "--quiet", root / "proc"], check=False)  # debootstrap may leave it
    for path in NOT_WANTED:
        shutil.rmtree(root / path)
        (root / path).mkdir()
    (root / "var/cache/apt/archives/partial").mkdir(parents=True)
    shutil.copy(root / "etc/ssl/certs/ca-certificates.crt", folder / "debian.crt")
    _import(engine, root, DEBIAN, ["."])
    listed = subprocess.run(
        ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "--listfiles", *OF_PYTHON],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    files = {line.lstrip("/") for line in listed.splitlines()}
    files = {f"usr/{file}" if file.split("/")[0] in LINKS else file for file in files}
    files = {file for file in files if (root / file).is_symlink() or (root / file).is_file()}
    _import(engine, root, BASE, sorted({*files, *LINKS, *MADE}))
    shutil.rmtree(root)


def _import(engine: Engine, root: Path, name: str, members: list[str]) -> None:
    archive = root.with_suffix(".tar")
    listing = root.with_suffix(".txt")
    listing.write_text("\n".join(members), encoding="utf-8")
    recursion = [] if len(members) > 1 else ["--recursion"]
    subprocess.run(
        [
            *("tar", "--create", "--numeric-owner", "--no-recursion", *recursion),
            *(f"--directory={root}", f"--files-from={listing}", f"--file={archive}"),
        ],
        check=True,
    )
    engine.docker("import", "--change", PATH, archive, name)
    archive.unlink()


@contextlib.contextmanager
def install_base(engine: Engine, folder: Path) -> Iterator[list[str]]:
    """Make the image `BUILD`: `DEBIAN`, with this machine's access to packages.

    It contains pip's settings and the trusted certificates of this machine. Folders with packages
    are served on 127.0.0.1 during the block. Yields strings that other images must not contain.
    """
    context = folder / "install"
    context.mkdir()
    lines = [f"FROM {DEBIAN}"]
    certificates = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    if Path(certificates).is_file():
        shutil.copy(certificates, context / "certificates")
        lines.append("COPY certificates /etc/ssl/certs/ca-certificates.crt")
    lines.append("COPY pip.conf /etc/pip.conf")
    (context / "Dockerfile").write_text("\n".join(lines), encoding="utf-8")
    handler = functools.partial(_Packages, directory="/")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = pip_settings(f"http://127.0.0.1:{server.server_port}")
        with (context / "pip.conf").open("w", encoding="utf-8") as file:
            settings.write(file)
        secrets = [word for value in settings["global"].values() for word in value.split()]
        secrets = [word for word in secrets if "/" in word]
        if Path(certificates).is_file():  # a line of a certificate that Debian does not trust
            trusted = set((folder / "debian.crt").read_text(encoding="utf-8").splitlines())
            lines = Path(certificates).read_text(encoding="utf-8").splitlines()
            secrets += [each for each in lines if len(each) == 64 and each not in trusted][:1]
        engine.docker("build", "--tag", BUILD, context)
        try:
            yield secrets
        finally:
            server.shutdown()


def pip_settings(url: str) -> configparser.RawConfigParser:
    """Settings of pip on this machine, with the machine's files below `url`."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    ).stdout
    settings = configparser.RawConfigParser()
    settings["global"] = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        option = name.rpartition(".")[2]
        if option in ("extra-index-url", "find-links", "index-url", "timeout", "trusted-host"):
            places = [_place(each, url) for each in value.strip("'").replace("\\n", " ").split()]
            settings["global"][option] = " ".join(places)
    return settings


def _place(value: str, url: str) -> str:
    path = urlsplit(value).path if value.startswith("file:") else value
    return f"{url}{unquote(path)}" if path.startswith("/") else value


class _Packages(http.server.SimpleHTTPRequestHandler):
    """Serves only packages and listings of folders."""

    def send_head(self) -> Any:
        path = self.translate_path(self.path)
        if Path(path).is_dir() or path.endswith((".whl", ".tar.gz", ".metadata", "index.html")):
            return super().send_head()
        self.send_error(http.HTTPStatus.NOT_FOUND)
        return None

    def log_message(self, *_: object) -> None:
        """Log nothing."""
