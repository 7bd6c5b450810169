"""One request format in `/predict`, V1, V2 and gRPC; thresholds of the server and of requests."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import jsonschema
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from predictors.settings import Settings
from saarthi_lib.errors import ConfigError
from tests.predictors.serving import HOST, Server, bytes_tensor, serving
from tests.tiny_bundle import SENTENCES, write_tiny_bundle

TEXT = SENTENCES[7]
PAGE = "https://bot.example"
V1, V2 = "/v1/models/intents:predict", "/v2/models/intents/infer"
INPUTS = [bytes_tensor("text", [TEXT])]


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with its own threshold and limits, for pages of another origin."""
    root = tmp_path_factory.mktemp("limited")
    intents = write_tiny_bundle(root / "a", name="intents", runtime="onnxruntime", threshold=0.9)
    words = write_tiny_bundle(root / "b", "pos", name="words")
    options: dict[str, Any] = {"threshold": 0.3, "min_threshold": 0.2, "max_threshold": 0.6}
    with serving(intents, words, cors_origins=PAGE, playground=True, **options) as running:
        yield running


def over_predict(server: Server, fields: dict[str, Any], text: str = TEXT) -> Any:
    return server.post("/predict/intents", {"text": text, **fields}).json()


def over_v1(server: Server, fields: dict[str, Any], text: str = TEXT) -> Any:
    content = server.post(V1, {"instances": [text], **fields}).json()
    return content if "error" in content else content["predictions"][0]


def over_v2(server: Server, fields: dict[str, Any], text: str = TEXT) -> Any:
    content = server.post(V2, {"inputs": [bytes_tensor("text", [text])], **fields}).json()
    return content if "error" in content else json.loads(content["outputs"][0]["data"][0])


def over_grpc(server: Server, fields: dict[str, Any], text: str = TEXT) -> Any:
    request = pb.ModelInferRequest(model_name="intents")
    request.inputs.add(name="text", datatype="BYTES", shape=[1]).contents.bytes_contents.append(
        text.encode()
    )
    for name, value in fields.items():
        kind = {int: "int64", bool: "bool"}.get(type(value), "string")
        setattr(
            request.parameters[name], f"{kind}_param", value if kind != "string" else str(value)
        )
    with grpc.insecure_channel(f"{HOST}:{server.grpc_port}") as channel:
        try:
            response = GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=30)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
            return {"error": error.details()}
    return json.loads(response.outputs[0].contents.bytes_contents[0])


def under_parameters(ask: Callable[..., Any]) -> Callable[..., Any]:
    return lambda server, fields: ask(server, {"parameters": fields})


ASK = {
    "predict": over_predict,
    "V1": over_v1,
    "V1, parameters": under_parameters(over_v1),
    "V2": over_v2,
    "V2, parameters": under_parameters(over_v2),
    "gRPC": over_grpc,
}


@pytest.mark.parametrize("protocol", ASK)
def test_options_work_alike_in_all_protocols(server: Server, protocol: str) -> None:
    ask = ASK[protocol]
    [expected] = server.expected("intents", [TEXT], ["hindi"], 3, 0.25)

    assert ask(server, {"top_k": 3, "threshold": 0.25, "lang": "hindi"}) == expected
    assert expected["threshold"] == 0.25 and len(expected["top_k"]) == 3
    assert ask(server, {}) == server.expected("intents", [TEXT])[0]
    for level, abstained in ((0, False), (1, True)):
        answer = ask(server, {"threshold": level})
        assert (answer["threshold"], answer["abstained"]) == (level, abstained)
        assert answer["reason"] == ("low_probability" if abstained else None)


@pytest.mark.parametrize("protocol", ASK)
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"topk": 2}, "'topk' is unknown: did you mean 'top_k'?"),
        ({"treshold": 2}, "'treshold' is unknown: did you mean 'threshold'?"),
        ({"language": "hindi"}, "'language' is unknown: did you mean 'lang'?"),
        ({"colour": "red"}, "'colour' is unknown: there are"),
        ({"top_k": "2"}, "top_k must be a whole number"),
        ({"threshold": "high"}, "threshold must be a number from 0 to 1"),
        ({"threshold": -1}, "threshold must be a number from 0 to 1"),
        ({"threshold": 2}, "threshold must be a number from 0 to 1"),
        ({"threshold": True}, "threshold must be a number from 0 to 1"),
        ({"lang": 3}, "lang must be a string"),
    ],
)
def test_bad_options_are_refused_by_name(
    server: Server, protocol: str, fields: dict[str, Any], message: str
) -> None:
    assert message in ASK[protocol](server, fields)["error"]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/predict", {"txt": TEXT}, "did you mean 'text'?"),
        ("/predict", {"text": TEXT, "parameters": {"top_k": 2}}, "'parameters' is unknown"),
        (
            V1,
            {"instances": [TEXT, {"text": TEXT, "language": "hindi"}]},
            "instances[1]: 'language'",
        ),
        (V1, {"instances": [TEXT], "top_k": 2, "parameters": {"top_k": 2}}, "given twice"),
        (V2, {"inputs": INPUTS, "lang": "hindi", "parameters": {"lang": "tamil"}}, "given twice"),
        (V2, {"inputs": INPUTS, "output": []}, "did you mean 'outputs'?"),
        (V2, {"inputs": [INPUTS[0] | {"dtype": "BYTES"}]}, "inputs[0]: 'dtype' is unknown"),
        (V2, {"inputs": [*INPUTS, bytes_tensor("langs", ["hindi"])]}, "did you mean 'lang'?"),
        (V2, {"inputs": INPUTS * 2}, "an input is given twice"),
        (V2, {"inputs": [INPUTS[0] | {"parameters": {"size": 1}}]}, "inputs[0].parameters: 'size'"),
        (
            V2,
            {"inputs": INPUTS, "outputs": [{"name": "label", "parameters": {"classification": 2}}]},
            "outputs[0].parameters: 'classification' is unknown",
        ),
        ("/playground/explain", {"text": TEXT, "targets": {}}, "did you mean 'target'?"),
    ],
)
def test_unknown_fields_are_refused_with_their_place(
    limited: Server, path: str, body: Any, message: str
) -> None:
    response = limited.post(path, body)

    assert response.status_code == 400
    assert message in response.json()["error"]


@pytest.mark.parametrize("protocol", ["V1, parameters", "V2, parameters", "gRPC"])
def test_parameters_of_the_protocols_pass(server: Server, protocol: str) -> None:
    parameters = {
        "binary_data_output": False,
        "sequence_id": "a-7",
        "sequence_start": True,
        "sequence_end": False,
        "priority": 2,
        "timeout": 9_000_000,
        "triton_enable_empty_final_response": True,
    }
    assert ASK[protocol](server, parameters) == server.expected("intents", [TEXT])[0]
    body = {"inputs": INPUTS, "model_name": "intents", "model_version": "1", "id": "a"}
    assert server.post(V2, body).status_code == 200
    body = {"instances": [TEXT], "signature_name": "serving_default"}
    assert server.post(V1, body).status_code == 200


def test_own_language_of_a_text_goes_first(server: Server) -> None:
    instances = [{"text": TEXT, "lang": "tamil"}, {"text": TEXT}, TEXT]
    answers = server.post(V1, {"instances": instances, "lang": "hindi"}).json()["predictions"]
    inputs = [bytes_tensor("text", [TEXT] * 3), bytes_tensor("lang", ["tamil", "", ""])]
    outputs = server.post(V2, {"inputs": inputs, "lang": "hindi"}).json()["outputs"]

    wanted = ["tamil", "hindi", "hindi"]
    assert [answer["lang"] for answer in answers] == wanted
    assert [json.loads(answer)["lang"] for answer in outputs[0]["data"]] == wanted


def test_v2_has_labels_and_scores_as_tensors(server: Server) -> None:
    for top_k, width in ((1, 1), (3, 3), (99, 4)):
        body = {"inputs": [bytes_tensor("text", SENTENCES)], "top_k": top_k}
        content = server.post("/v2/models/joint/infer", body).json()
        outputs = {output["name"]: output for output in content["outputs"]}
        best = [
            answer.get("top_k", [answer])
            for answer in server.expected("joint", SENTENCES, top_k=top_k)
        ]
        for name, field in (("labels", "label"), ("scores", "probability")):
            assert outputs[name]["shape"] == [len(SENTENCES), width]
            assert outputs[name]["data"] == [choice[field] for row in best for choice in row]
    types = {each["name"]: each for each in server.get("/v2/models/joint").json()["outputs"]}
    assert types["labels"] == {"name": "labels", "datatype": "BYTES", "shape": [-1, -1]}
    assert types["scores"]["datatype"] == "FP32" and types["confidence"]["shape"] == [-1]


def test_server_sets_and_limits_the_threshold(limited: Server) -> None:
    for ask in ASK.values():
        assert ask(limited, {})["threshold"] == 0.3
        assert ask(limited, {"threshold": 0.6})["threshold"] == 0.6
        for level in (0.1, 0.61):
            problem = ask(limited, {"threshold": level})["error"]
            assert "from 0.2 to 0.6, the limits of this server" in problem
    metadata = limited.get("/v2/models/intents").json()["metadata"]
    assert (metadata["threshold"], metadata["threshold_limits"]) == (0.3, [0.2, 0.6])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"threshold": "1.5"}, r"--threshold \(SAARTHI_THRESHOLD\)"),
        ({"min_threshold": 0.7, "max_threshold": 0.4}, "min_threshold .0.7. must not be more"),
        ({"cors_origins": f"{PAGE}/"}, "--cors-origins .* without a path"),
        ({"cors_origins": "bot.example"}, "--cors-origins"),
        ({"cors_origins": f"*,{PAGE.upper()}"}, "--cors-origins"),
        ({"cors_origins": f"{PAGE},"}, "--cors-origins"),
    ],
)
def test_bad_request_settings_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings.load({"bundles": ["a"], **given}, {})
    origins = {"SAARTHI_CORS_ORIGINS": f"{PAGE}:8443,http://[::1]:3000,*"}
    assert len(Settings.load({"bundles": ["a"]}, origins).cors_origins) == 3


def test_pages_of_allowed_origins_may_ask(server: Server, limited: Server) -> None:
    def preflight(of: Server, origin: str, path: str) -> Any:
        asked = {"access-control-request-method": "POST", "origin": origin}
        asked["access-control-request-headers"] = "content-type, x-request-id"
        return of.client.options(of.url + path, headers=asked)

    allowed = "access-control-allow-origin"
    for path in ("/predict", V1, V2):
        answer = preflight(limited, PAGE, path)
        assert (answer.status_code, answer.headers[allowed]) == (200, PAGE)
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert "x-request-id" in answer.headers["access-control-allow-headers"]
        assert allowed not in preflight(limited, "https://evil.example", path).headers
        assert allowed not in preflight(server, PAGE, path).headers
    body = {"text": TEXT}
    for sent, status in ((body, 200), ({"text": ""}, 400)):
        answer = limited.post("/predict", sent, origin=PAGE)
        assert (answer.status_code, answer.headers[allowed]) == (status, PAGE)
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
    assert allowed not in limited.post("/predict", body, origin="https://evil.example").headers
    assert allowed not in server.post("/predict", body, origin=PAGE).headers
    assert limited.post("/playground/explain", body, origin=PAGE).status_code == 403


def test_openapi_describes_requests_and_answers(limited: Server) -> None:
    document = limited.get("/openapi.json").json()
    full: dict[str, dict[str, Any]] = {
        "/predict": {"text": TEXT, "lang": "hindi", "top_k": 2, "threshold": 0.3, "model": "words"},
        "/predict/{name}": {"text": TEXT},
        "/v1/models/{name}:predict": {
            "instances": [TEXT, {"text": TEXT, "lang": None}],
            "lang": "hindi",
            "parameters": {"top_k": 2, "sequence_id": 7},
        },
        "/v2/models/{name}/infer": {
            "inputs": [*INPUTS, bytes_tensor("lang", [""])],
            "outputs": [{"name": "labels", "parameters": {"binary_data": False}}],
            "threshold": 0.4,
        },
        "/v2/models/{name}/versions/{version}/infer": {"inputs": INPUTS, "id": "a"},
        "/playground/explain": {"text": TEXT},
    }
    for path, operations in document["paths"].items():
        place = path.format(name="intents", version="1")
        for method, operation in operations.items():
            if method == "get":
                response = limited.get(place)
            elif "requestBody" in operation:
                conform(document, operation["requestBody"], full[path])
                wrong = full[path] | {"colour": "red"}
                with pytest.raises(jsonschema.ValidationError):
                    conform(document, operation["requestBody"], wrong)
                assert limited.post(place, wrong).status_code == 400
                response = limited.post(place, full.pop(path))
            else:  # the repository API is off
                response = limited.post(place, {})
                assert response.status_code == 400
            status = "200" if response.is_success else "4XX"
            kind = response.headers["content-type"]
            content = response.json() if kind == "application/json" else response.text
            conform(document, operation["responses"][status], content)
    assert full == {}
    refused = limited.post("/predict", {})
    conform(document, document["paths"]["/predict"]["post"]["responses"]["4XX"], refused.json())


def conform(document: dict[str, Any], described: dict[str, Any], content: Any) -> None:
    """Check content by the schema of a request or of a response."""
    [schema] = (each["schema"] for each in described["content"].values())
    jsonschema.validate(content, schema | {"components": document["components"]})
