"""Input from a real HTTPS server, and from a small model hub."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from saarthi_lib.addresses import revealed
from saarthi_lib.cli import app
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.cloud import fetch, remote_digest
from saarthi_lib.data.gather import gather, input_folder
from saarthi_lib.errors import ConfigError, DataError
from tests.stores.web import Answer, Answers, TinyHub, web_server, write_certificate

CSV = b"text,label\nhi,greet\nbye,part\n"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_certificate(tmp_path_factory.mktemp("certificate"))


class Site:
    """A site whose answers a test sets."""

    def __init__(self) -> None:
        self.answers: Answers = lambda path, headers: (404, {}, b"")
        self.url = ""


@pytest.fixture(scope="module")
def running(certificate: Path) -> Iterator[Site]:
    site = Site()
    with web_server(lambda path, headers: site.answers(path, headers), certificate) as site.url:
        yield site


@pytest.fixture
def site(running: Site, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site that clients of this test trust."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return running


def fetched(address: str, folder: Path) -> dict[str, bytes]:
    fetch(address, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("path", "headers", "name"),
    [
        ("/sets/bot.csv", {"ETag": '"1"'}, "bot.csv"),
        ("/sets/my%20bot.csv?download=1", {"Last-Modified": "Mon, 30 Nov 2026"}, "my bot.csv"),
        ("/sets/bot", {"Content-Type": "text/csv; charset=utf-8"}, "bot.csv"),
        ("/", {"Content-Type": "application/x-ndjson"}, "train.jsonl"),
        ("/x?id=7", {"Content-Disposition": 'attachment; filename="../b.tsv"'}, "b.tsv"),
        ("/x", {"Content-Disposition": "attachment; filename*=UTF-8''b%20c.tsv"}, "b c.tsv"),
        ("/sets/bot.csv", {"Content-Length": "", "ETag": 'W/"1"'}, "bot.csv"),
        ("/get.php?id=7", {"Content-Type": "text/csv"}, "get.php.csv"),
        ("/bot.conll", {"Content-Type": "text/csv"}, "bot.conll"),
    ],
)
def test_file_has_its_name_and_format(
    site: Site, tmp_path: Path, path: str, headers: dict[str, str], name: str
) -> None:
    site.answers = lambda path, _: (200, headers, CSV)
    assert fetched(site.url + path, tmp_path / "fetched") == {name: CSV}
    before = remote_digest(site.url + path)
    assert remote_digest(site.url + path) == before


def test_changed_file_has_another_digest(site: Site) -> None:
    digests = set()
    for headers, body in (
        ({"ETag": '"1"'}, CSV),
        ({"ETag": '"2"'}, CSV),
        ({"Last-Modified": "Mon, 30 Nov 2026"}, CSV),
        ({"Last-Modified": "Tue, 1 Dec 2026"}, CSV),
        ({}, CSV),
        ({}, CSV + b"a,b\n"),
    ):
        site.answers = lambda path, _, answer=(200, headers, body): answer  # type: ignore[misc]
        digests.add(remote_digest(f"{site.url}/bot.csv"))
    assert len(digests) == 6


@pytest.mark.parametrize("header", ["ETag", ""])
def test_file_that_changes_is_fetched_again_or_refused(
    site: Site, tmp_path: Path, header: str
) -> None:
    asked = 0
    until = 2

    def change(path: str, _: Mapping[str, str]) -> Answer:
        nonlocal asked
        asked += 1
        state = min(asked, until)
        return 200, {header: f'"{state}"'} if header else {}, CSV + b"%d,x\n" % state

    site.answers = change
    assert fetched(f"{site.url}/bot.csv", tmp_path / "fetched")["bot.csv"].endswith(b"2,x\n")
    asked, until = 0, 99
    with pytest.raises(DataError, match="changed during 3 downloads"):
        fetch(f"{site.url}/bot.csv", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_temporary_errors_and_broken_downloads_are_retried(site: Site, tmp_path: Path) -> None:
    faults: list[Any] = [503, 429, 200, "half", 200]

    def fail(path: str, _: Mapping[str, str]) -> Answer:
        fault = faults.pop(0) if faults else 200
        if fault == "half":
            return 200, {"ETag": '"1"', "Content-Length": str(len(CSV))}, CSV[:9]
        return fault, {"ETag": '"1"'}, CSV

    site.answers = fail
    assert fetched(f"{site.url}/bot.csv", tmp_path / "fetched") == {"bot.csv": CSV}
    assert faults == []


def test_interrupted_download_leaves_nothing(site: Site, tmp_path: Path) -> None:
    site.answers = lambda path, _: (200, {"ETag": '"1"', "Content-Length": "99"}, CSV)
    with pytest.raises(DataError, match="the server cannot be reached"):
        fetch(f"{site.url}/bot.csv", tmp_path / "fetched")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((404, {}, b""), "the server answers 404"),
        ((403, {}, b""), r"refuses access \(403\)"),
        ((200, {"Content-Type": "text/html"}, b"<html>"), "is a web page, not a file of data"),
        ((200, {"Content-Type": "text/csv"}, b"\n<!doctype html>\n<html>"), "is a web page"),
        ((200, {"Content-Encoding": "gzip"}, CSV), "does not have the encoding that the server"),
        ((200, {"Content-Length": "2000000001"}, b""), "larger than 2 GB"),
        ((302, {"Location": "http://example.org/bot.csv"}, b""), "which is not encrypted"),
        ((302, {"Location": "file:///etc/passwd"}, b""), "which is not encrypted"),
        ((302, {"Location": "/bot.csv"}, b""), "redirects in a circle"),
    ],
)
def test_wrong_answer_is_named(site: Site, tmp_path: Path, answer: Answer, message: str) -> None:
    site.answers = lambda path, _: answer
    with pytest.raises(DataError, match=message):
        fetch(f"{site.url}/bot.csv", tmp_path / "fetched")
    assert list(tmp_path.iterdir()) == []


def test_file_without_a_format_is_refused(site: Site, tmp_path: Path) -> None:
    site.answers = lambda path, _: (200, {"Content-Type": "application/octet-stream"}, CSV)
    with pytest.raises(DataError, match=r"content type \(application/octet-stream\) shows"):
        fetch(f"{site.url}/bot", tmp_path / "fetched")


def test_redirect_to_https_is_followed(site: Site, tmp_path: Path) -> None:
    def redirect(path: str, _: Mapping[str, str]) -> Answer:
        return (302, {"Location": "/b.csv"}, b"") if path == "/short" else (200, {}, CSV)

    site.answers = redirect
    assert fetched(f"{site.url}/short", tmp_path / "fetched") == {"b.csv": CSV}


def test_untrusted_certificate_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(DataError, match="certificate is not trusted; set REQUESTS_CA_BUNDLE"):
        remote_digest(f"{site.url}/bot.csv")


def test_secrets_are_sent_and_never_written(site: Site, tmp_path: Path) -> None:
    seen: list[tuple[str, str | None]] = []

    def note(path: str, headers: Mapping[str, str]) -> Answer:
        seen.append((path, headers.get("Authorization")))
        return (
            200,
            {},
            b"text,label\n" + b"".join(b"hi %d,a\nbye %d,b\n" % (i, i) for i in range(40)),
        )

    site.answers = note
    host = site.url.removeprefix("https://")
    address = f"https://user:pass@{host}/bot.csv?X-Amz-Signature=abc123&part=7"
    config = TrainConfig.from_mapping({"input_path": address, "task": "intent_classification"})
    assert config.input_path == f"https://***@{host}/bot.csv?X-Amz-Signature=***&part=7"
    with input_folder(config, tmp_path / "demo") as folder:
        assert len(gather(folder, config).tables["train"]) > 0
    assert set(seen) == {("/bot.csv?X-Amz-Signature=abc123&part=7", "Basic dXNlcjpwYXNz")}

    site.answers = lambda path, _: (403, {}, b"")
    with pytest.raises(DataError) as caught:
        fetch(config.input_path, tmp_path / "fetched")
    assert "pass" not in str(caught.value).replace("a password", "")
    assert "abc123" not in str(caught.value)


def test_configuration_of_a_presigned_address_has_no_secret(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("saarthi")  # the command sets it up
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", logger.propagate)
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"turn it on {row},on\nturn it off {row},off\n" for row in range(40))
    site.answers = lambda path, _: (200, {}, f"text,label\n{rows}".encode())
    done = CliRunner().invoke(app, ["init", f"{site.url}/bot.csv?X-Amz-Signature=abc123"])
    assert done.exit_code == 0, done.output
    [written] = tmp_path.iterdir()
    assert written.name == "bot.yaml" and "X-Amz-Signature=***" in written.read_text("utf-8")
    assert "abc123" not in written.read_text("utf-8") + done.output


def test_address_without_its_secret_is_refused() -> None:
    written = "https://example.org/other.csv?sig=***"
    config = TrainConfig.from_mapping({"input_path": written})  # such as that of an earlier run
    with pytest.raises(ConfigError, match=r"was written without its secret \(\*\*\*\)"):
        remote_digest(config.input_path)
    TrainConfig.from_mapping({"input_path": written.replace("***", "abc")})
    assert revealed(written).endswith("sig=abc")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[TinyHub]:
    constants = pytest.importorskip("huggingface_hub.constants")
    files = {
        ".gitattributes": b"*.bin lfs\n",
        "README.md": b"---\nlicense: mit\n---\n",
        "data/train.csv": CSV,
        "data/test.csv": CSV,
    }
    hub = TinyHub(files)
    with web_server(hub) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub


@pytest.mark.parametrize(
    ("address", "names"),
    [
        ("hf://datasets/owner/bot", {"README.md", "data/train.csv", "data/test.csv"}),
        ("hf://datasets/owner/bot@v1/data", {"train.csv", "test.csv"}),
        ("hf://datasets/owner/bot/data/train.csv", {"train.csv"}),
    ],
)
def test_data_set_of_a_hub_is_fetched(
    hub: TinyHub, tmp_path: Path, address: str, names: set[str]
) -> None:
    folder = tmp_path / "fetched"
    fetch(address, folder)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == names
    before = remote_digest(address)
    hub.files["data/train.csv"] = CSV + b"a,b\n"
    assert remote_digest(address) != before


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://datasets/owner/none", "the data set does not exist or is private"),
        ("hf://datasets/owner/bot@v2", "the revision does not exist"),
        ("hf://datasets/owner/bot/none", "there are no objects below it"),
        ("hf://owner/bot", r"is not of the form hf://datasets/owner/name"),
    ],
)
def test_wrong_data_set_is_named(hub: TinyHub, address: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        remote_digest(address)


def test_missing_hub_is_named(hub: TinyHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match="no hub can be reached; check the network"):
        remote_digest("hf://datasets/owner/bot")
