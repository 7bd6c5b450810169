"""Compressed bodies are answered within the limit of a body; HEAD is answered like GET."""

import gzip
import json
import struct
import zlib
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from predictors.encodings import decoded
from predictors.errors import RequestError, TooMuchBodyError
from tests.predictors.serving import HOST, Server, bytes_tensor
from tests.tiny_bundle import SENTENCES

TEXT = SENTENCES[8]
COMPRESS: dict[str, Any] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "Deflate": zlib.compress,
}
LIMIT = 200_000  # of the server's bodies
V1, LOAD = "/v1/models/intents:predict", "/v2/repository/models/intents/load"


def compressed(content: Any, encoding: str = "gzip") -> bytes:
    body: bytes = COMPRESS[encoding](json.dumps(content).encode())
    return body


@pytest.mark.parametrize("encoding", COMPRESS)
def test_compressed_bodies_are_answered(server: Server, encoding: str) -> None:
    inputs = {"inputs": [bytes_tensor("text", [TEXT])], "outputs": [{"name": "predictions"}]}
    expected = server.expected("intents", [TEXT])

    def ask(path: str, body: Any) -> Any:
        sent = compressed(body, encoding)
        return server.post(path, sent, content_encoding=encoding).json()

    assert ask("/predict", {"text": TEXT}) == expected[0]
    assert ask(V1, {"instances": [TEXT]}) == {"predictions": expected}
    [output] = ask("/v2/models/intents/infer", inputs)["outputs"]
    assert [json.loads(each) for each in output["data"]] == expected
    event = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "a", "ce_type": "b"}
    body = compressed({"instances": [TEXT]}, encoding)
    answered = server.post(V1, body, content_encoding=encoding, **event)
    assert answered.json() == {"predictions": expected}


def test_binary_tensors_may_be_compressed(server: Server) -> None:
    text = TEXT.encode()
    packed = struct.pack("<I", len(text)) + text
    tensor: dict[str, Any] = {"name": "text", "shape": [1], "datatype": "BYTES"}
    tensor |= {"parameters": {"binary_data_size": len(packed)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"content_type": "application/octet-stream", "content_encoding": "gzip"}

    response = server.post(
        "/v2/models/intents/infer",
        gzip.compress(head + packed),
        inference_header_content_length=str(len(head)),
        **headers,
    )

    [expected] = server.expected("intents", [TEXT])
    outputs = {output["name"]: output["data"] for output in response.json()["outputs"]}
    assert outputs["label"] == [expected["label"]]


def test_unknown_encoding_is_refused_by_name(server: Server) -> None:
    for encoding in ("br", "gzip, gzip", "zstd", "compress"):
        for path in ("/predict", V1, LOAD):
            response = server.post(path, b"any", content_encoding=encoding)
            assert response.status_code == 415
            assert repr(encoding) in response.json()["error"]
            assert response.headers["accept-encoding"] == "gzip, deflate"
    assert server.post("/predict", {"text": TEXT}, content_encoding="Identity").status_code == 200


def test_broken_compression_is_a_clients_error(server: Server) -> None:
    whole = compressed({"text": TEXT})
    for body, message in (
        (b'{"text": "lights"}', "not gzip"),
        (whole[:-3], "cut off"),
        (whole[:4], "cut off"),
        (whole + b"more", "not gzip"),
        (whole[:-5] + b"\0" + whole[-4:], "not gzip"),
        (gzip.compress(b"") * 70, "more than 64 parts"),
        (gzip.compress(b"\xff"), "not valid JSON"),
    ):
        response = server.post("/predict", body, content_encoding="gzip")
        assert response.status_code == 400 and message in response.json()["error"], message
    assert server.post("/predict", whole).status_code == 400


def test_expansion_of_a_body_is_limited(server: Server) -> None:
    within = json.dumps({"text": "a"}).encode().ljust(LIMIT)
    assert server.post("/predict", gzip.compress(within), content_encoding="gzip").is_success
    bomb = gzip.compress(bytes(10 * LIMIT))
    for body in (gzip.compress(within + b" "), bomb, gzip.compress(within) + bomb):
        for path in ("/predict", LOAD):
            response = server.post(path, body, content_encoding="gzip")
            assert response.status_code == 413
            assert f"{LIMIT} bytes after decompression" in response.json()["error"]


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.integers(1, 900))
def test_decompression_is_exact_or_refused(parts: list[bytes], most: int) -> None:
    whole = b"".join(parts)
    body = b"".join(gzip.compress(part) for part in parts)

    if len(whole) > most:
        with pytest.raises(TooMuchBodyError):
            decoded(body, b"gzip", most)
        return
    assert decoded(body, b"gzip", most) == whole
    with pytest.raises(RequestError):
        decoded(body[:-1], b"gzip", most)


def test_compressed_grpc_messages_keep_the_limits(server: Server) -> None:
    def message(text: str) -> pb.ModelInferRequest:
        request = pb.ModelInferRequest(model_name="intents")
        tensor = request.inputs.add(name="text", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(text.encode())
        return request

    address = f"{HOST}:{server.grpc_port}"
    with grpc.insecure_channel(address, compression=grpc.Compression.Gzip) as channel:
        stub = GRPCInferenceServiceStub(channel)
        outputs = stub.ModelInfer(message(TEXT), timeout=30).outputs
        [answer] = outputs[0].contents.bytes_contents
        assert json.loads(answer) == server.expected("intents", [TEXT])[0]
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(message("a" * 10 * LIMIT), timeout=30)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/metrics", 200),
        ("/metadata", 200),
        ("/v1/models/intents", 200),
        ("/v2/health/live", 200),
        ("/v2/health/ready", 200),
        ("/v2/models/intents/ready", 200),
        ("/v2/models/nobody/ready", 404),
        ("/predict", 405),
    ],
)
def test_head_is_answered_like_get(server: Server, path: str, status: int) -> None:
    head, got = server.client.head(server.url + path), server.get(path)

    assert (head.status_code, got.status_code) == (status, status)
    assert head.content == b"" and got.content
    if path != "/metrics":  # which counts requests
        changing = ("date", "x-request-id")
        for response in (head, got):
            for name in changing:
                del response.headers[name]
        assert head.headers == got.headers
