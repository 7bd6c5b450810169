"""Bad requests are refused with a message, and overload is shed with 503."""

import asyncio
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import onnx
import pytest
from kserve import InferenceGRPCClient, InferInput, InferRequest
from onnx import TensorProto, helper, numpy_helper

from saarthi_lib.bundle import read_manifest, write_bundle
from tests.predictors.serving import Server, bytes_tensor, serving, wait_for
from tests.tiny_bundle import SENTENCES, write_tiny_bundle

V1, V2 = "/v1/models/intents:predict", "/v2/models/intents/infer"
TEXT = bytes_tensor("text", ["a"])


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (V1, {}, 400, '"instances"'),
        (V1, [], 400, "JSON object"),
        (V1, "{", 400, "unexpected end"),
        (V1, "", 400, "not valid JSON"),
        (V1, "[" * 100_000, 400, "not valid JSON"),
        (V1, '{"instances": [NaN]}', 400, "not valid JSON"),
        (V1, '{"instances": ["\\ud800"]}', 400, "not valid JSON"),
        (V1, b'{"instances": ["\xff"]}', 400, "not valid JSON"),
        (V1, {"instances": "a"}, 400, '"instances"'),
        (V1, {"instances": ["a", 3]}, 400, "instances[1]"),
        (V1, {"instances": ["a", {"txt": "b"}]}, 400, "instances[1]"),
        (V1, {"instances": ["a", {"text": None}]}, 400, "instances[1] must be a string"),
        (V1, {"instances": ["a", " "]}, 400, "instances[1] is empty"),
        (V1, {"instances": ["a", "b", "\u200b"]}, 400, "instances[2] is empty"),
        (V1, {"instances": ["a", {"text": "b", "lang": 1}]}, 400, "instances[1].lang"),
        (V1, {"instances": ["a"], "parameters": {"top_k": 0}}, 400, "top_k"),
        (V1, {"instances": ["a"], "parameters": {"top_k": True}}, 400, "top_k"),
        (V1, {"instances": ["a"], "parameters": 1}, 400, "parameters"),
        (V1, {"instances": ["a", "b" * 501]}, 413, "instances[1] has 501 characters"),
        (V1, {"instances": ["a"] * 1001}, 413, "1001 texts"),
        (V1, {"instances": ["a" * 200_000]}, 413, "200000 bytes"),
        ("/v1/models/nobody:predict", {"instances": ["a"]}, 404, "nobody"),
        (V2, {"inputs": []}, 400, "'text' is missing"),
        (V2, {}, 400, "inputs"),
        (V2, {"inputs": [3]}, 400, "inputs[0]"),
        (V2, {"inputs": [{"name": "text"}]}, 400, 'inputs[0] has no list "data"'),
        (V2, {"inputs": [bytes_tensor("text", ["a", ""])]}, 400, "text[1]"),
        (V2, {"inputs": [bytes_tensor("text", ["a"] * 40 + ["\u200b"])]}, 400, "text[40] is empty"),
        (V2, {"inputs": [TEXT | {"shape": [3]}]}, 400, "shape [3]"),
        (V2, {"inputs": [TEXT | {"shape": "1"}]}, 400, "whole numbers"),
        (V2, {"inputs": [TEXT | {"shape": [True]}]}, 400, "whole numbers"),
        (V2, {"inputs": [TEXT | {"datatype": "FP32", "data": [1.0]}]}, 400, "BYTES"),
        (V2, {"inputs": [TEXT | {"data": [[["a"], 3]]}]}, 400, "shape"),
        (V2, {"inputs": [TEXT | {"parameters": {"binary_data_size": 9}}]}, 400, "binary_data_size"),
        (V2, {"inputs": [TEXT, bytes_tensor("lang", ["b", "c"])]}, 400, "2 langs for 1 texts"),
        (V2, {"inputs": [TEXT], "outputs": [{}]}, 400, "outputs[0]"),
        (V2, {"inputs": [TEXT], "id": 3}, 400, '"id"'),
        ("/predict", {}, 400, '"text"'),
        ("/predict", [], 400, "JSON object"),
        ("/predict", b"\xff", 400, "not valid JSON"),
        ("/predict", {"text": ""}, 400, "text is empty"),
        ("/predict", {"text": "\u2028 \t"}, 400, "text is empty"),
        ("/predict", {"text": "\u200b"}, 400, "text is empty: it holds only invisible"),
        ("/predict", {"text": 3}, 400, "text must be a string"),
        ("/predict", {"text": "a" * 501}, 413, "text has 501 characters"),
        ("/predict", {"text": "a", "lang": 3}, 400, "lang must be a string"),
        ("/predict", {"text": "a", "model": ["b"]}, 404, "does not exist"),
        ("/predict/nobody", {"text": "a"}, 404, "nobody"),
        ("/predict/", {"text": "a"}, 404, "POST /predict/: Not Found; /openapi.json lists"),
        ("/v2/health/ready", {}, 405, "Method Not Allowed"),
        ("/v2/repository/models/intents/load", {}, 400, "SAARTHI_REPOSITORY_API"),
        ("/v2/repository/models/intents/unload", {}, 501, "cannot be unloaded"),
    ],
)
def test_bad_input_is_refused_with_its_field(
    server: Server, path: str, body: Any, status: int, message: str
) -> None:
    response = server.post(path, body)

    assert response.status_code == status, response.text
    assert message in response.json()["error"]
    assert "Traceback" not in response.text


def test_other_content_type_is_refused(server: Server) -> None:
    body = {"text": "a"}
    long = "application/json" + " ; a=b " * 60 + "; charset=latin-1"
    utf_16 = "application/json; charset=utf-16"
    for kind in ("text/xml", "multipart/form-data; boundary=x", utf_16, long):
        response = server.post("/predict", body, content_type=kind)
        assert (response.status_code, "application/json" in response.text) == (415, True), kind
    for kind in ("application/json; charset=UTF-8", "application/vnd.a+json; a=b ;c", ""):
        assert server.post("/predict", body, content_type=kind).status_code == 200, kind


def test_other_method_is_refused(server: Server) -> None:
    response = server.get("/predict")

    assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_endless_body_without_a_size_is_refused(server: Server) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(300):
            yield b"a" * 1000

    response = server.client.post(f"{server.url}/predict", content=endless())
    assert response.status_code == 413
    load = f"{server.url}/v2/repository/models/intents/load"
    other = server.client.post(load, content=endless())
    assert other.status_code == 413


def test_missing_body_ends_with_408(server: Server) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n"
    head += b"X-Request-Timeout-Ms: 200\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=9) as client:
        client.sendall(head + b"{")
        answer = b"".join(iter(lambda: client.recv(10_000), b""))  # until it is closed
    assert answer.startswith(b"HTTP/1.1 408")
    with socket.create_connection(("127.0.0.1", server.http_port)) as client:
        client.sendall(head + b"{")
    wait_for(lambda: server.metric("saarthi_requests_total", outcome="gone"))


def test_malformed_binary_request_is_refused(server: Server) -> None:
    tensor = TEXT | {"parameters": {"binary_data_size": 6}}
    cut_off = json.dumps({"inputs": [tensor]}).encode()
    for content, tail in (
        (b'{"no": "inputs"}', b""),
        (b'{"inputs": 3}', b""),
        (b"[]", b""),
        (cut_off, b"\x09\0\0\0ab"),
        (cut_off, b"\x01\0"),
    ):
        headers = {
            "inference-header-content-length": str(len(content)),
            "content-type": "application/octet-stream",
        }
        response = server.client.post(server.url + V2, content=content + tail, headers=headers)
        assert response.status_code == 400


@pytest.mark.parametrize("protocol", ["v1", "v2", "grpc"])
def test_batch_is_limited_by_characters(server: Server, protocol: str) -> None:
    texts = ["a" * 499 + "\u0301"] * 30  # 15,000 characters: two batches, with room for 32 texts

    async def call() -> None:
        text = InferInput("text", [len(texts)], "BYTES", [text.encode() for text in texts])
        async with InferenceGRPCClient(f"127.0.0.1:{server.grpc_port}", retries=0) as client:
            await client.infer(InferRequest("intents", [text]))

    before = server.metric("saarthi_batch_rows_count", model="intents")
    if protocol == "grpc":
        asyncio.run(call())
    else:
        inputs = {"inputs": [bytes_tensor("text", texts)]}
        path, body = (V1, {"instances": texts}) if protocol == "v1" else (V2, inputs)
        assert server.post(path, body).status_code == 200
    assert server.metric("saarthi_batch_rows_count", model="intents") == before + 2


def test_bad_grpc_input_is_refused_with_its_field(server: Server) -> None:
    async def ask(
        values: list[bytes], name: str = "intents", timeout: float | None = None
    ) -> grpc.aio.AioRpcError:
        text = InferInput("text", [len(values)], "BYTES", values)
        async with InferenceGRPCClient(f"127.0.0.1:{server.grpc_port}", retries=0) as client:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.infer(InferRequest(name, [text]), timeout=timeout)
        return caught.value

    error = asyncio.run(ask([b"a", b""]))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "text[1] is empty" in (error.details() or "")
    assert "text[0] is not valid UTF-8" in (asyncio.run(ask([b"\xff\xfe"])).details() or "")
    assert "text[0] has 501" in (asyncio.run(ask([b"a" * 501])).details() or "")
    assert asyncio.run(ask([b"a"], "nobody")).code() == grpc.StatusCode.NOT_FOUND
    late = asyncio.run(ask([b"a"] * 1000, timeout=0.001))
    assert late.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_late_request_is_not_answered(server: Server) -> None:
    late = server.post("/predict", {"text": "a"}, x_request_timeout_ms="0")
    wrong = server.post("/predict", {"text": "a"}, x_request_timeout_ms="soon")
    in_time = server.post("/predict", {"text": "a"}, x_envoy_expected_rq_timeout_ms="20000")

    assert (wrong.status_code, in_time.status_code) == (400, 200)
    assert late.status_code in (408, 504)  # before or after the body has come
    assert "x-request-timeout-ms" in wrong.json()["error"]


def test_overload_is_shed_and_the_server_stays_healthy(tmp_path: Path) -> None:
    """Under far too many requests some are answered, and the rest get 503 with Retry-After."""
    bundle = write_tiny_bundle(tmp_path / "bundle", name="intents", runtime="onnxruntime")
    with serving(bundle, max_queue=20, max_instances=20, max_batch=2, reload_seconds=0) as server:
        body = json.dumps({"instances": SENTENCES * 2})
        expected = server.expected("intents", SENTENCES * 2)
        found: Counter[int] = Counter()
        over = threading.Event()

        def flood() -> None:
            with httpx.Client(timeout=30, verify=False) as client:
                while not over.is_set():
                    response = client.post(server.url + V1, content=body)
                    found[response.status_code] += 1
                    if response.status_code == 503:
                        assert int(response.headers["retry-after"]) >= 1
                        assert "busy" in response.json()["error"]
                    else:
                        labels = [e["label"] for e in response.json()["predictions"]]
                        assert labels == [e["label"] for e in expected]

        before = resident_mb(server)
        with ThreadPoolExecutor(24) as pool:
            floods = [pool.submit(flood) for _ in range(24)]
            waits = []
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                started = time.perf_counter()
                assert server.get("/v2/health/ready").status_code == 200
                waits.append(time.perf_counter() - started)
                assert server.metric("saarthi_queue_rows") <= 20
            over.set()
            for each in floods:
                each.result()

        assert found.keys() == {200, 503}, found
        assert sorted(waits)[len(waits) // 2] < 0.5  # with the GIL shared by 24 client threads
        assert resident_mb(server) - before < 50
        assert server.metric("saarthi_requests_total", outcome="shed") == found[503]
        response = server.post(V1, body)
        assert response.json()["predictions"][0]["label"] == expected[0]["label"]
        assert server.metric("saarthi_queue_rows") == 0


def network_that_fails_on(token: int) -> onnx.ModelProto:
    """A network that answers zeros, and reads beyond a table if a text has the token twice."""
    node = helper.make_node
    nodes = [
        node("Equal", ["ids", "token"], ["found"]),
        node("Cast", ["found"], ["each"], to=TensorProto.INT64),
        node("ReduceSum", ["each", "time"], ["count"], keepdims=1),
        node("Div", ["count", "two"], ["index"]),
        node("Gather", ["table", "index"], ["row"], name="the secret of the house"),
        node("MatMul", ["row", "weights"], ["sequence_logits"]),
    ]
    constants = {
        "token": np.array(token),
        "time": np.array([1]),
        "two": np.array(2),
        "table": np.zeros(1, dtype=np.float32),
        "weights": np.zeros((1, 4), dtype=np.float32),
    }
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "fragile",
        [
            value("ids", TensorProto.INT64, ["batch", "time"]),
            value("lengths", TensorProto.INT64, ["batch"]),
        ],
        [value("sequence_logits", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_internal_error_is_logged_but_not_sent(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", name="intents", runtime="onnxruntime")
    manifest = read_manifest(bundle)
    token = json.loads((bundle / "distil_vocab.json").read_text(encoding="utf-8"))["\u2581music"]
    onnx.save(network_that_fails_on(token), bundle / "model.onnx")
    files = {name: bundle / name for name in manifest.files}
    fragile = tmp_path / "fragile"
    write_bundle(fragile, files=files, manifest=manifest)

    with serving(fragile, max_batch=8) as server:

        def ask(text: str) -> httpx.Response:
            return server.post("/predict", {"text": text}, x_request_id="number-9")

        with ThreadPoolExecutor(8) as pool:  # some share a batch with a failing text
            good = [pool.submit(ask, "turn on") for _ in range(40)]
            bad = [pool.submit(ask, "music or music") for _ in range(10)]
        assert {each.result().status_code for each in good} == {200}
        for each in bad:
            assert each.result().status_code == 500
            assert each.result().json() == {
                "error": "internal error; the log has it under number-9"
            }
        assert server.metric("saarthi_requests_total", outcome="error") == 10
        # ONNX Runtime writes its own lines, which are not JSON.
        lines = [json.loads(line) for line in server.log_lines() if line.startswith("{")]
        failures = [line for line in lines if line.get("request_id") == "number-9"]
        assert len(failures) == 10
        assert all("the secret of the house" in line["exception"] for line in failures)
        assert ask("turn off").status_code == 200


def resident_mb(server: Server) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024
