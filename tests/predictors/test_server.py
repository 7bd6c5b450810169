"""A real model server in its own process, asked by real clients over every protocol."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

from saarthi_lib import Predictor
from tests.tiny_bundle import SENTENCES, write_tiny_bundle

LANGS = ["english"] * 5 + ["hindi"] * 5


@dataclass
class Server:
    """A running server and the library's own predictors for its bundles."""

    process: subprocess.Popen[str]
    http_port: int
    grpc_port: int
    predictors: dict[str, Predictor]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def expected(self, name: str, texts: list[str], langs: Any = None, top_k: int = 1) -> list:
        """What the library answers, in the server's form."""
        source = {"model": name, "version": self.predictors[name].manifest.version}
        predictions = self.predictors[name].predict(texts, langs, top_k)
        return [prediction.to_dict() | source for prediction in predictions]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "predictors", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_until_ready(process: subprocess.Popen[str], url: str) -> None:
    for _ in range(600):
        assert process.poll() is None, process.communicate()[0]
        try:
            if httpx.get(f"{url}/v2/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise TimeoutError("the server did not become ready within a minute")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("bundles")
    bundles = {
        "intents": write_tiny_bundle(
            root / "a", "intent_classification", name="intents", runtime="onnxruntime"
        ),
        "entities": write_tiny_bundle(root / "b", "ner", name="entities", version="2.1"),
    }
    predictors = {name: Predictor.load(bundle) for name, bundle in bundles.items()}
    http_port, grpc_port = free_port(), free_port()
    ports = ("--http-port", http_port, "--grpc-port", grpc_port)
    process = start(*bundles.values(), *ports)
    try:
        running = Server(process, http_port, grpc_port, predictors)
        wait_until_ready(process, running.url)
        yield running
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture
def post(server: Server) -> Callable[..., httpx.Response]:
    def send(path: str, body: Any) -> httpx.Response:
        content = body if isinstance(body, bytes | str) else json.dumps(body)
        headers = {"content-type": "application/json"}
        return httpx.post(server.url + path, content=content, headers=headers, timeout=30)

    return send


def bytes_tensor(name: str, values: list[str]) -> dict[str, Any]:
    return {"name": name, "shape": [len(values)], "datatype": "BYTES", "data": values}


def test_v1_answers_as_the_library_does(server: Server, post: Callable) -> None:
    instances = [{"text": t, "lang": la} for t, la in zip(SENTENCES, LANGS, strict=True)]

    for name in server.predictors:
        response = post(f"/v1/models/{name}:predict", {"instances": instances})
        assert response.json() == {"predictions": server.expected(name, SENTENCES, LANGS)}


def test_v1_takes_plain_strings_and_top_k(server: Server, post: Callable) -> None:
    body = {"instances": SENTENCES, "parameters": {"top_k": 3}}

    response = post("/v1/models/intents:predict", body)

    assert response.json() == {"predictions": server.expected("intents", SENTENCES, top_k=3)}
    assert len(response.json()["predictions"][0]["top_k"]) == 3


def test_v2_answers_as_the_library_does(server: Server, post: Callable) -> None:
    inputs = [bytes_tensor("text", SENTENCES), bytes_tensor("lang", LANGS)]

    for name in server.predictors:
        answer = post(f"/v2/models/{name}/infer", {"inputs": inputs, "id": "42"}).json()
        expected = server.expected(name, SENTENCES, LANGS)
        outputs = {output["name"]: output for output in answer["outputs"]}
        assert (answer["id"], answer["model_name"]) == ("42", name)
        assert [json.loads(text) for text in outputs["predictions"]["data"]] == expected
        if name == "intents":
            assert outputs["label"]["data"] == [e["label"] for e in expected]
            assert outputs["probability"]["data"] == [e["probability"] for e in expected]
        else:
            assert outputs.keys() == {"predictions"}


@pytest.mark.parametrize("binary", [False, True])
def test_kserves_clients_get_the_same_answers(server: Server, binary: bool) -> None:
    def request(name: str) -> InferRequest:
        inputs = []
        for tensor, values in (("text", SENTENCES), ("lang", LANGS)):
            tensor_input = InferInput(tensor, [len(values)], "BYTES")
            array = np.array([value.encode() for value in values], dtype=np.object_)
            tensor_input.set_data_from_numpy(array, binary_data=binary)
            inputs.append(tensor_input)
        return InferRequest(name, inputs, parameters={"top_k": 2})

    async def ask() -> dict[tuple[str, str], Any]:
        answers = {}
        rest = InferenceRESTClient(RESTConfig(protocol="v2"))
        async with InferenceGRPCClient(f"127.0.0.1:{server.grpc_port}") as client:
            assert await client.is_server_ready()
            for name in server.predictors:
                assert await client.is_model_ready(name)
                answers["grpc", name] = await client.infer(request(name))
                answers["rest", name] = await rest.infer(server.url, request(name), name)
        await rest.close()
        return answers

    for (_, name), response in asyncio.run(ask()).items():
        values = response.get_output_by_name("predictions").as_numpy().ravel()
        expected = server.expected(name, SENTENCES, LANGS, top_k=2)
        assert [json.loads(value) for value in values] == expected


def test_predict_answers_one_text(server: Server, post: Callable) -> None:
    text = SENTENCES[5]

    [expected] = server.expected("intents", [text])
    assert post("/predict", {"text": text}).json() == expected
    [expected] = server.expected("entities", [text], ["hindi"])
    assert post("/predict/entities", {"text": text, "lang": "hindi"}).json() == expected
    body = {"text": text, "lang": "hindi", "model": "entities"}
    assert post("/predict", body).json() == expected


def test_answers_stay_right_under_concurrency(server: Server, post: Callable) -> None:
    expected = server.expected("intents", SENTENCES)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda t: post("/predict", {"text": t}).json(), SENTENCES * 5))

    assert answers == expected * 5


def test_health_is_answered_while_a_large_request_runs(server: Server, post: Callable) -> None:
    with ThreadPoolExecutor(1) as pool:
        large = pool.submit(post, "/v1/models/intents:predict", {"instances": SENTENCES * 2000})
        waits = []
        while not large.done():
            started = time.perf_counter()
            assert httpx.get(f"{server.url}/v2/health/live", timeout=30).status_code == 200
            waits.append(time.perf_counter() - started)

    assert large.result().status_code == 200
    # Were prediction on the event loop, one answer would take as long as all of it.
    assert len(waits) > 3
    assert max(waits) < sum(waits) / 2


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/models/intents:predict", {}, 400, '"instances"'),
        ("/v1/models/intents:predict", [], 400, '"instances"'),
        ("/v1/models/intents:predict", "{", 400, "unexpected end"),
        ("/v1/models/intents:predict", {"instances": "a"}, 400, '"instances"'),
        ("/v1/models/intents:predict", {"instances": ["a", 3]}, 400, "instances[1]"),
        ("/v1/models/intents:predict", {"instances": ["a", " "]}, 400, "instances[1] is empty"),
        (
            "/v1/models/intents:predict",
            {"instances": ["a", {"text": "b", "lang": 1}]},
            400,
            "instances[1].lang",
        ),
        (
            "/v1/models/intents:predict",
            {"instances": ["a"], "parameters": {"top_k": 0}},
            400,
            "top_k",
        ),
        ("/v1/models/intents:predict", {"instances": ["a"], "parameters": 1}, 400, "parameters"),
        ("/v1/models/nobody:predict", {"instances": ["a"]}, 404, "nobody"),
        ("/v2/models/intents/infer", {"inputs": []}, 400, "'text' is missing"),
        ("/v2/models/intents/infer", {}, 422, "inputs"),
        ("/v2/models/intents/infer", {"inputs": [bytes_tensor("text", ["a", ""])]}, 400, "text[1]"),
        (
            "/v2/models/intents/infer",
            {"inputs": [bytes_tensor("text", ["a"]) | {"shape": [3]}]},
            400,
            "shape [3]",
        ),
        (
            "/v2/models/intents/infer",
            {"inputs": [bytes_tensor("text", ["a"]) | {"datatype": "FP32", "data": [1.0]}]},
            400,
            "BYTES",
        ),
        (
            "/v2/models/intents/infer",
            {"inputs": [bytes_tensor("text", ["a"]), bytes_tensor("lang", ["b", "c"])]},
            400,
            "2 langs for 1 texts",
        ),
        ("/predict", {}, 400, '"text"'),
        ("/predict", [], 400, "JSON object"),
        ("/predict", b"\xff", 400, "not valid JSON"),
        ("/predict", {"text": ""}, 400, "text is empty"),
        ("/predict", {"text": 3}, 400, "text must be a string"),
        ("/predict", {"text": "a", "lang": 3}, 400, "lang must be a string"),
        ("/predict", {"text": "a", "model": ["b"]}, 404, "does not exist"),
        ("/predict/nobody", {"text": "a"}, 404, "nobody"),
    ],
)
def test_bad_input_is_refused_by_name(
    post: Callable, path: str, body: Any, status: int, message: str
) -> None:
    response = post(path, body)

    assert response.status_code == status
    assert message in str(response.json())
    assert "Traceback" not in response.text


def test_a_malformed_binary_request_is_refused(server: Server) -> None:
    for content in (b'{"no": "inputs"}', b'{"inputs": 3}', b"[]"):
        headers = {
            "inference-header-content-length": str(len(content)),
            "content-type": "application/octet-stream",
        }
        response = httpx.post(
            f"{server.url}/v2/models/intents/infer", content=content, headers=headers
        )
        assert response.status_code == 400


def test_bad_input_over_grpc_is_refused_by_name(server: Server) -> None:
    async def ask(values: list[bytes], name: str = "intents") -> grpc.aio.AioRpcError:
        text = InferInput("text", [len(values)], "BYTES", values)
        async with InferenceGRPCClient(f"127.0.0.1:{server.grpc_port}", retries=0) as client:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.infer(InferRequest(name, [text]))
        return caught.value

    error = asyncio.run(ask([b"a", b""]))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "text[1] is empty" in (error.details() or "")
    error = asyncio.run(ask([b"\xff\xfe"]))
    assert "text[0] is not valid UTF-8" in (error.details() or "")
    assert asyncio.run(ask([b"a"], "nobody")).code() == grpc.StatusCode.NOT_FOUND


def test_metadata_tells_what_is_served(server: Server) -> None:
    model = httpx.get(f"{server.url}/v2/models/entities").json()
    everything = httpx.get(f"{server.url}/metadata").json()

    assert model["versions"] == ["2.1"]
    assert "ner" in model["platform"]
    assert [tensor["name"] for tensor in model["inputs"]] == ["text", "lang"]
    manifests = [predictor.manifest.to_dict() for predictor in server.predictors.values()]
    assert everything == {"models": manifests}
    assert httpx.get(f"{server.url}/v2/health/live").json() == {"live": True}


def test_only_loopback_is_listened_on(server: Server) -> None:
    # 127.0.0.2 is this machine too: a server on all interfaces would answer there.
    for port in (server.http_port, server.grpc_port):
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.2", port), timeout=5)


def test_a_taken_port_is_named(server: Server) -> None:
    process = start("anything", "--http-port", server.http_port, "--grpc-port", free_port())

    output, _ = process.communicate(timeout=60)

    assert process.returncode == 2
    assert f"--http-port {server.http_port}" in output
    assert "Traceback" not in output


def test_a_changed_bundle_is_not_served(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    content = bytearray((bundle / "model.pt").read_bytes())
    content[1000] ^= 1
    (bundle / "model.pt").write_bytes(content)
    process = start(bundle, "--http-port", free_port(), "--grpc-port", free_port())

    output, _ = process.communicate(timeout=60)

    assert process.returncode == 2
    assert "model.pt: was changed" in output
    assert "Traceback" not in output


def test_two_bundles_of_one_name_are_refused(tmp_path: Path) -> None:
    bundles = [write_tiny_bundle(tmp_path / name) for name in "ab"]
    process = start(*bundles, "--http-port", free_port(), "--grpc-port", free_port())

    output, _ = process.communicate(timeout=60)

    assert process.returncode == 2
    assert "both named 'tiny'" in output
    assert "Traceback" not in output


def test_a_signal_ends_the_server_quietly(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", runtime="onnxruntime")
    http_port = free_port()
    process = start(bundle, "--http-port", http_port, "--grpc-port", free_port())
    try:
        wait_until_ready(process, f"http://127.0.0.1:{http_port}")
        httpx.post(f"http://127.0.0.1:{http_port}/predict", json={"text": ""})
        httpx.post(f"http://127.0.0.1:{http_port}/predict", json={"text": "turn on"})
        os.kill(process.pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()

    assert process.returncode == 0
    lines = output.splitlines()
    assert len(lines) == 1 and "serving tiny" in lines[0], output  # nothing for each request
