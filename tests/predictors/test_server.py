"""Every protocol of a real model server, with real clients."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

from tests.predictors.serving import Server, bytes_tensor, free_port, start
from tests.tiny_bundle import SENTENCES, SEQUENCE_LABELS, write_tiny_bundle

LANGS = ["english"] * 5 + ["hindi"] * 5


def close_to(expected: Any) -> Any:
    """Allow for the rounding of another batch size."""
    if isinstance(expected, dict):
        return {name: close_to(value) for name, value in expected.items()}
    if isinstance(expected, list):
        return [close_to(value) for value in expected]
    return pytest.approx(expected, abs=1e-6) if isinstance(expected, float) else expected


def test_v1_answers_equal_the_librarys(server: Server) -> None:
    instances = [{"text": t, "lang": la} for t, la in zip(SENTENCES, LANGS, strict=True)]

    for name in server.predictors:
        response = server.post(f"/v1/models/{name}:predict", {"instances": instances})
        assert response.json() == {"predictions": server.expected(name, SENTENCES, LANGS)}


def test_v1_takes_plain_strings_and_top_k(server: Server) -> None:
    body = {"instances": SENTENCES, "parameters": {"top_k": 3}}

    response = server.post("/v1/models/intents:predict", body)

    assert response.json() == {"predictions": server.expected("intents", SENTENCES, top_k=3)}
    assert len(response.json()["predictions"][0]["top_k"]) == 3


def test_v1_answers_an_empty_list(server: Server) -> None:
    response = server.post("/v1/models/intents:predict", {"instances": []})

    assert (response.status_code, response.json()) == (200, {"predictions": []})


def test_v1_takes_cloud_events(server: Server) -> None:
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "test",
        "type": "test",
        "time": "2026-01-01T00:00:00Z",
        "data": {"instances": SENTENCES},
    }
    expected = {"predictions": server.expected("intents", SENTENCES)}

    whole = server.post(
        "/v1/models/intents:predict", event, content_type="application/cloudevents+json"
    )
    headers = {f"ce_{name}": value for name, value in event.items() if isinstance(value, str)}
    by_headers = server.post("/v1/models/intents:predict", event["data"], **headers)

    assert whole.json()["data"] == expected
    assert by_headers.json() == expected
    assert by_headers.headers["ce-specversion"] == "1.0"


def test_v2_answers_equal_the_librarys(server: Server) -> None:
    inputs = [bytes_tensor("text", SENTENCES), bytes_tensor("lang", LANGS)]

    for name in server.predictors:
        answer = server.post(f"/v2/models/{name}/infer", {"inputs": inputs, "id": "42"}).json()
        expected = server.expected(name, SENTENCES, LANGS)
        outputs = {output["name"]: output for output in answer["outputs"]}
        assert (answer["id"], answer["model_name"]) == ("42", name)
        assert answer["model_version"] == server.predictors[name].manifest.version
        assert [json.loads(text) for text in outputs["predictions"]["data"]] == expected
        columns = {"confidence", "threshold", "abstained", "reason"}
        if name != "entities":
            columns |= {"label", "probability"}
            assert outputs.pop("labels")["data"] == [answer["label"] for answer in expected]
            assert outputs.pop("scores")["shape"] == [len(SENTENCES), 1]
        assert outputs.keys() == {"predictions"} | columns
        empty = {"threshold": 0.0, "reason": ""}
        for column in columns:
            values = [answer[column] for answer in expected]
            assert outputs[column]["data"] == [
                empty[column] if value is None else value for value in values
            ]


def test_v2_gives_only_the_requested_outputs(server: Server) -> None:
    body = {"inputs": [bytes_tensor("text", SENTENCES[:2])], "outputs": [{"name": "label"}]}

    answer = server.post("/v2/models/intents/versions/1/infer", body).json()

    assert [output["name"] for output in answer["outputs"]] == ["label"]
    body["outputs"] = [{"name": "colour"}]
    refused = server.post("/v2/models/intents/infer", body)
    assert refused.status_code == 400 and "'colour' is unknown" in refused.json()["error"]
    other = server.post("/v2/models/intents/versions/7/infer", body)
    assert other.status_code == 404 and "version '7'" in other.json()["error"]


@pytest.mark.parametrize("binary", [False, True])
def test_kserve_client_gets_the_librarys_answers(server: Server, binary: bool) -> None:
    def request(name: str) -> InferRequest:
        inputs = []
        for tensor, values in (("text", SENTENCES), ("lang", LANGS)):
            tensor_input = InferInput(tensor, [len(values)], "BYTES")
            array = np.array([value.encode() for value in values], dtype=np.object_)
            tensor_input.set_data_from_numpy(array, binary_data=binary)
            inputs.append(tensor_input)
        return InferRequest(name, inputs, parameters={"top_k": 2, "binary_data_output": binary})

    async def ask() -> dict[tuple[str, str], Any]:
        answers = {}
        rest = InferenceRESTClient(RESTConfig(protocol="v2"))
        async with InferenceGRPCClient(f"127.0.0.1:{server.grpc_port}") as client:
            assert await client.is_server_ready()
            assert await rest.is_server_ready(server.url)
            for name in server.predictors:
                assert await client.is_model_ready(name)
                assert await rest.is_model_ready(server.url, name)
                answers["grpc", name] = await client.infer(request(name))
                answers["rest", name] = await rest.infer(server.url, request(name), name)
        await rest.close()
        return answers

    for (_, name), response in asyncio.run(ask()).items():
        values = response.get_output_by_name("predictions").as_numpy().ravel()
        expected = server.expected(name, SENTENCES, LANGS, top_k=2)
        assert [json.loads(value) for value in values] == expected
        if name != "entities":
            probabilities = response.get_output_by_name("probability").as_numpy().ravel()
            assert probabilities == pytest.approx([e["probability"] for e in expected], abs=1e-6)
            scores = response.get_output_by_name("scores").as_numpy()
            wanted = [[choice["probability"] for choice in e["top_k"]] for e in expected]
            assert scores == pytest.approx(np.array(wanted), abs=1e-6)
            labels = response.get_output_by_name("labels").as_numpy().astype(str).tolist()
            assert labels == [[choice["label"] for choice in e["top_k"]] for e in expected]
        abstained = response.get_output_by_name("abstained").as_numpy().ravel()
        assert list(abstained) == [e["abstained"] for e in expected]


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_triton_client_gets_the_librarys_answers(server: Server, kind: str) -> None:
    pytest.importorskip("tritonclient")
    # In its own process: protobuf forbids a second set of messages with KServe's names.
    script = """
import importlib, json, sys
import numpy as np
kind, port, texts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
library = importlib.import_module(f"tritonclient.{kind}")
client = library.InferenceServerClient(f"127.0.0.1:{port}")
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("intents")
text = library.InferInput("text", [len(texts)], "BYTES")
text.set_data_from_numpy(np.array([each.encode() for each in texts], dtype=np.object_))
answer = client.infer("intents", [text])
answers = [json.loads(value) for value in answer.as_numpy("predictions")]
probabilities = answer.as_numpy("probability").tolist()
compression = {"http": "request_compression_algorithm", "grpc": "compression_algorithm"}[kind]
other = client.infer(
    "intents", [text], sequence_id=7, sequence_start=True, priority=1, timeout=5_000_000,
    parameters={"top_k": 2, "threshold": 0.25}, **{compression: "gzip"},
)
others = [json.loads(value) for value in other.as_numpy("predictions")]
labels = [[label.decode() for label in row] for row in other.as_numpy("labels")]
sys.stdout.write(json.dumps([answers, probabilities, others, labels]))
"""
    port = server.http_port if kind == "http" else server.grpc_port
    command = [sys.executable, "-c", script, kind, str(port), json.dumps(SENTENCES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    answers, probabilities, others, labels = json.loads(done.stdout)
    assert answers == server.expected("intents", SENTENCES)
    assert probabilities == pytest.approx([a["probability"] for a in answers], abs=1e-6)
    assert others == server.expected("intents", SENTENCES, top_k=2, threshold=0.25)
    assert labels == [[choice["label"] for choice in a["top_k"]] for a in others]


def test_predict_answers_one_text(server: Server) -> None:
    text = SENTENCES[5]

    [expected] = server.expected("intents", [text])
    assert server.post("/predict", {"text": text}).json() == expected
    [expected] = server.expected("entities", [text], ["hindi"])
    assert server.post("/predict/entities", {"text": text, "lang": "hindi"}).json() == expected
    body: dict[str, Any] = {"text": text, "lang": "hindi", "model": "entities"}
    assert server.post("/predict", body).json() == expected
    [expected] = server.expected("joint", [text], top_k=2)
    body = {"text": text, "model": "joint", "top_k": 2}
    assert server.post("/predict", body, content_type="text/json; charset=utf-8").json() == expected


@settings(max_examples=6)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["intents", "joint", "entities"]),
            st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=40),
            st.integers(1, 4),
            st.sampled_from([None, 0, 0.4, 1]),
        ),
        min_size=2,
        max_size=8,
    )
)
def test_batching_changes_no_answer(
    server: Server, requests: list[tuple[str, list[str], int, float | None]]
) -> None:
    def ask(request: tuple[str, list[str], int, float | None]) -> Any:
        name, texts, top_k, threshold = request
        body = {"instances": texts, "top_k": top_k, "threshold": threshold}
        return server.post(f"/v1/models/{name}:predict", body).json()["predictions"]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, requests))

    for (name, texts, top_k, threshold), found in zip(requests, answers, strict=True):
        assert found == close_to(server.expected(name, texts, None, top_k, threshold))


def test_health_is_answered_during_large_requests(server: Server) -> None:
    body = {"instances": (SENTENCES * 100)[:1000]}
    with ThreadPoolExecutor(4) as pool:
        path = "/v1/models/intents:predict"
        large = [pool.submit(server.post, path, body) for _ in range(12)]
        answered = 0
        while not all(request.done() for request in large):
            assert server.get("/v2/health/live").status_code == 200
            answered += 1

    assert {request.result().status_code for request in large} <= {200, 503}
    # With prediction on the event loop, each request would let one answer pass at most.
    assert answered > len(large)


def test_metadata_equals_the_manifests(server: Server) -> None:
    def get(path: str) -> Any:
        return server.get(path).json()

    areas = {"entity_labels": ["area", "person"]}
    manifests = [
        predictor.manifest.to_dict() | {"threshold_limits": [0, 1]} | labels
        for predictor, labels in zip(
            server.predictors.values(),
            ({"labels": list(SEQUENCE_LABELS)}, areas, {"labels": list(SEQUENCE_LABELS), **areas}),
            strict=True,
        )
    ]
    model = get("/v2/models/entities")
    assert model["versions"] == ["2.1"]
    assert "ner" in model["platform"]
    assert [tensor["name"] for tensor in model["inputs"]] == ["text", "lang"]
    assert model["metadata"] == manifests[1]
    assert get("/v2/models/entities/versions/2.1") == model
    assert get("/v1/models/entities") == {
        "name": "entities",
        "ready": True,
        "metadata": manifests[1],
    }
    assert get("/metadata") == {"models": manifests}
    assert get("/v2/health/live") == {"live": True}
    health = get("/v2/health/ready")
    assert health["ready"] is True
    for summary, manifest in zip(health["models"], manifests, strict=True):
        assert summary["scores"] == manifest["metrics"]
        for name in ("name", "version", "created", "task", "languages"):
            assert summary[name] == manifest[name]


def test_grpc_metadata_names_versions_and_inputs(server: Server) -> None:
    import grpc
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        model = stub.ModelMetadata(pb.ModelMetadataRequest(name="entities"))
        assert list(model.versions) == ["2.1"]
        assert [tensor.name for tensor in model.inputs] == ["text", "lang"]
        for ask in (
            lambda: stub.ModelMetadata(pb.ModelMetadataRequest(name="nobody")),
            lambda: stub.ModelReady(pb.ModelReadyRequest(name="entities", version="9")),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                ask()
            assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_server_listens_only_on_127_0_0_1(server: Server) -> None:
    # A server on all interfaces would answer on 127.0.0.2 too.
    for port in (server.http_port, server.grpc_port):
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.2", port), timeout=5)


def test_bad_bundle_or_setting_ends_with_one_line(server: Server, tmp_path: Path) -> None:
    changed = write_tiny_bundle(tmp_path / "changed", runtime="onnxruntime")
    content = bytearray((changed / "model.onnx").read_bytes())
    content[1000] ^= 1
    (changed / "model.onnx").write_bytes(content)
    twins = [write_tiny_bundle(tmp_path / name, runtime="onnxruntime") for name in "ab"]
    cases: list[tuple[Sequence[object], str]] = [
        ([changed], "model.onnx: was changed"),
        (twins, "both named 'tiny'"),
        (["anything", "--http-port", server.http_port], f"--http-port {server.http_port}"),
        (["anything", "--grpc-port", server.grpc_port], f"--grpc-port {server.grpc_port}"),
        ([tmp_path / "nowhere"], "nowhere"),
        ([changed, "--max-batch", "many"], "--max-batch (SAARTHI_MAX_BATCH)"),
        ([changed, "--max-queue", "5"], "max_instances (1000) must not be more than max_queue (5)"),
        ([], "SAARTHI_BUNDLES"),
    ]
    started = []
    for number, (arguments, _) in enumerate(cases):
        log = tmp_path / f"log-{number}"
        ports = ["--http-port", free_port(), "--grpc-port", free_port()]
        fresh = number == 0  # the exit code of `python -m predictors` itself
        started.append((start(log, *ports, *arguments, fresh=fresh), log))

    for (process, log), (_, message) in zip(started, cases, strict=True):
        assert process.wait(120) == 2, log.read_text(encoding="utf-8")
        output = log.read_text(encoding="utf-8")
        assert message in output
        assert "Traceback" not in output
