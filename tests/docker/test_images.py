"""Content of the images."""

import re
import subprocess
import tarfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from saarthi_lib import __version__
from tests.docker.conftest import ROOT, Images
from tests.docker.engine import DOCKER

pytestmark = pytest.mark.docker

NAMES = ("nlu", "ner", "train")
SERVING = {"nlu": "onnxruntime", "ner": "torch"}  # and the engine of each in this build
LARGEST = {"nlu": 400e6, "ner": 1300e6}  # bytes
COMPILERS = {"gcc", "cc", "g++", "c++", "clang", "ld", "make", "cmake", "nvcc", "rustc", "go"}
INSTALLERS = {"pip", "pip3", "apt", "apt-get", "dpkg", "uv", "conda"}
SHELLS = {"sh", "bash", "dash", "busybox"}
KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\n[A-Za-z0-9+/]{60}")
PRIVATE = {"pip.conf", ".netrc", ".pypirc", ".git-credentials", "id_rsa", "id_ed25519", ".env"}
SEARCHED = 4 << 20  # bytes of a file
DIST_INFO = re.compile(r"opt/venv/lib/[^/]+/site-packages/([^/]+)-([^-/]+)\.dist-info/METADATA")


@dataclass
class Content:
    """Findings in an image's files.

    Attributes:
        packages: versions by package name.
        programs: names of executable files in folders of programs.
        private: paths of files that are secrets by name or content.
        holders: paths of files that contain one of the builds' secrets.
        loose: our files that users other than root may change.
    """

    packages: dict[str, str] = field(default_factory=dict)
    programs: set[str] = field(default_factory=set)
    private: list[str] = field(default_factory=list)
    holders: list[str] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def files_of(images: Images, name: str) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    """Every file of an image."""
    container = images.engine.docker("create", images.tags[name])
    command = [DOCKER, "export", container]
    with (
        subprocess.Popen(
            command, stdout=subprocess.PIPE, env=images.engine.environment
        ) as exporting,
        tarfile.open(fileobj=exporting.stdout, mode="r|") as archive,
    ):
        for member in archive:
            yield member, archive
    images.engine.docker("rm", container)


@pytest.fixture(scope="module")
def contents(images: Images) -> Mapping[str, Content]:
    """Content of each image, read once."""
    needles = [secret.encode() for secret in images.secrets]
    found = {}
    for name in NAMES:
        content = found[name] = Content()
        for member, archive in files_of(images, name):
            path = Path(member.name)
            if match := DIST_INFO.fullmatch(member.name):
                content.packages[normalized(match[1])] = match[2]
            if path.parent.name in ("bin", "sbin") and member.mode & 0o111:
                content.programs.add(path.name)
            if path.name in PRIVATE:
                content.private.append(member.name)
            if member.name.startswith("opt/") and not member.issym() and member.mode & 0o022:
                content.loose.append(member.name)
            if not member.isfile() or member.size > SEARCHED:
                continue
            file = archive.extractfile(member)
            assert file is not None
            data = file.read()
            if b"\0" not in data and KEY.search(data):  # libraries contain keys for their own tests
                content.private.append(member.name)
            if any(needle in data for needle in needles):
                content.holders.append(member.name)
    return found


@cache
def extras() -> dict[str, set[str]]:
    """Names of the packages that each extra requires directly."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {
        extra: {normalized(re.split(r"[\[<>=!~ ]", each)[0]) for each in asked}
        for extra, asked in project["optional-dependencies"].items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_configuration_has_user_labels_and_health_check(images: Images, name: str) -> None:
    config = images.inspect(name)["Config"]

    assert config["User"] == "1000:1000"
    labels = {
        key.removeprefix("org.opencontainers.image."): v for key, v in config["Labels"].items()
    }
    assert (labels["version"], labels["revision"]) == (__version__, "tested")
    assert labels["licenses"] == "Apache-2.0" and labels["title"] and labels["description"]
    if name in SERVING:
        assert config["Healthcheck"]["Test"][:2] == ["CMD", "python3"]
        assert config["ExposedPorts"].keys() == {"8080/tcp", "8081/tcp"}
    else:
        assert config["Healthcheck"] == {"Test": ["NONE"]}


def test_nlu_and_ner_differ_only_in_labels(images: Images) -> None:
    titles = {
        images.inspect(name)["Config"]["Labels"]["org.opencontainers.image.title"]
        for name in SERVING
    }
    assert len(titles) == 2
    assert (
        images.inspect("nlu")["Config"]["Entrypoint"]
        == images.inspect("ner")["Config"]["Entrypoint"]
    )


@pytest.mark.parametrize("name", SERVING)
def test_size_is_within_the_limit(images: Images, name: str) -> None:
    assert images.inspect(name)["Size"] < LARGEST[name]


@pytest.mark.parametrize("name", NAMES)
def test_secrets_of_the_build_are_not_in_the_image(
    images: Images, contents: Mapping[str, Content], name: str
) -> None:
    history = images.engine.docker("history", "--no-trunc", images.tags[name])
    metadata = history + str(images.inspect(name))
    assert images.secrets and not [secret for secret in images.secrets if secret in metadata]
    assert (contents[name].private, contents[name].holders) == ([], [])
    assert contents[name].loose == []


@pytest.mark.parametrize("name", NAMES)
def test_compilers_and_installers_are_missing(contents: Mapping[str, Content], name: str) -> None:
    unwanted = COMPILERS | (
        {"pip", "pip3", "uv", "conda"} if name == "train" else INSTALLERS | SHELLS
    )
    assert contents[name].programs & unwanted == set()
    assert "pip" not in contents[name].packages


@pytest.mark.parametrize("name", SERVING)
def test_serving_image_has_its_engine_but_no_training_library(
    contents: Mapping[str, Content], name: str
) -> None:
    engine = SERVING[name]
    # KServe itself brings pandas; bundles come from Google's storage and S3.
    used = {engine, "pandas", "google-cloud-storage", "boto3", "requests"} | extras()["server"]
    if engine == "torch":
        used |= {"jinja2"}
    training = (extras()["train"] | extras()["pipeline"]) - used
    training |= {"pytorch-lightning", "accelerate", "pip"}
    assert {"lightning", "transformers", "kfp"} < training
    packages = contents[name].packages
    assert engine in packages and {"kserve", "boto3"} <= packages.keys()
    assert packages.keys() & training == set()


def test_train_image_has_the_clients_of_storage(contents: Mapping[str, Content]) -> None:
    clients = {"boto3", "google-cloud-storage", "huggingface-hub", "requests"}
    assert clients <= contents["train"].packages.keys()


@pytest.mark.parametrize("name", NAMES)
def test_packages_have_the_tested_versions(contents: Mapping[str, Content], name: str) -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    pins = {normalized(package): version for package, version in pins.items()}
    packages = contents[name].packages
    assert len(packages) > 50
    # The build for CPUs calls itself 2.13.0+cpu.
    assert {n: v.split("+")[0] for n, v in packages.items()} == {n: pins.get(n) for n in packages}
