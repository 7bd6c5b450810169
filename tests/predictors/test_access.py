"""Tokens guard the repository API and the playground, and never appear in a log."""

import base64
from pathlib import Path

import grpc
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from predictors.settings import Settings
from saarthi_lib.errors import ConfigError
from tests.predictors.serving import HOST, serving
from tests.tiny_bundle import write_tiny_bundle

PLAYGROUND, REPOSITORY, WRONG = "open-sesame-7731", "hands-off-9924", "let-me-in-5512"
LOAD = "/v2/repository/models/bot/load"


def basic(token: str) -> str:
    return "Basic " + base64.b64encode(f"me:{token}".encode()).decode()


def test_repository_api_needs_token_and_logs_hide_secrets(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bot", name="bot", runtime="onnxruntime")
    environment = {
        "SAARTHI_PLAYGROUND_TOKEN": PLAYGROUND,
        "SAARTHI_REPOSITORY_TOKEN": REPOSITORY,
    }
    flags = {"playground": True, "repository_api": True, "access_log": True, "log_texts": True}
    with serving(bundle, environment=environment, **flags) as server:
        for authorization in (None, basic(WRONG), f"Bearer {WRONG}", basic(PLAYGROUND), "Basic é"):
            headers = {} if authorization is None else {b"authorization": authorization.encode()}
            response = server.client.post(server.url + LOAD, headers=headers)
            assert response.status_code == 401, authorization
            assert "token" in response.json()["error"]
        for authorization in (basic(REPOSITORY), f"Bearer {REPOSITORY}"):
            assert server.post(LOAD, {}, authorization=authorization).status_code == 200
        page = server.get("/playground", headers={"authorization": basic(PLAYGROUND)})
        assert page.status_code == 200
        with grpc.insecure_channel(f"{HOST}:{server.grpc_port}") as channel:
            load = GRPCInferenceServiceStub(channel).RepositoryModelLoad
            request = pb.RepositoryModelLoadRequest(model_name="bot")
            with pytest.raises(grpc.RpcError) as caught:
                load(request, timeout=10, metadata=[("authorization", f"Bearer {WRONG}")])
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
            assert load(request, timeout=10, metadata=[("authorization", f"Bearer {REPOSITORY}")])
        server.post("/predict", {"text": "turn on"}, authorization=f"Bearer {REPOSITORY}")
        server.post("/predict", "{", authorization=basic(REPOSITORY))
        for path in ("/metrics", "/metadata", "/v2/health/ready", "/openapi.json"):
            shown = server.get(path).text
            assert REPOSITORY not in shown and PLAYGROUND not in shown
        log = server.log.read_text(encoding="utf-8")

    assert '"text":["turn on"]' in log  # the log does contain requests
    secrets = (PLAYGROUND, REPOSITORY, WRONG)
    for secret in (*secrets, *(basic(secret).split()[1] for secret in secrets)):
        assert secret not in log


def test_token_may_have_characters_beyond_ascii(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bot", name="bot", runtime="onnxruntime")
    token, wrong = "schlüssel-खोलो-✓", "schlüssel-खोलो-✗"
    request = pb.RepositoryModelLoadRequest(model_name="bot")
    environment = {"SAARTHI_REPOSITORY_TOKEN": token}
    with serving(bundle, environment=environment, repository_api=True) as server:
        for given, status in ((token, 200), (wrong, 401), (token.encode("utf-16").hex(), 401)):
            for authorization in (f"Bearer {given}", basic(given)):
                headers = {b"authorization": authorization.encode()}
                answer = server.client.post(server.url + LOAD, headers=headers)
                assert answer.status_code == status, authorization
        with grpc.insecure_channel(f"{HOST}:{server.grpc_port}") as channel:
            load = GRPCInferenceServiceStub(channel).RepositoryModelLoad
            for name, value in (
                ("authorization", basic(token)),
                ("authorization-bin", f"Bearer {token}".encode()),
            ):
                assert load(request, timeout=10, metadata=[(name, value)]).isLoaded
            for bad in (b"Bearer \xff", f"Bearer {wrong}".encode()):
                with pytest.raises(grpc.RpcError) as caught:
                    load(request, timeout=10, metadata=[("authorization-bin", bad)])
                assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_load_without_token_is_refused_to_other_sites(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bot", name="bot", runtime="onnxruntime")
    with serving(bundle, repository_api=True) as server:
        assert server.post(LOAD, {}).status_code == 200
        assert server.post(LOAD, {}, origin="http://evil.example").status_code == 403
        rebound = {"host": "evil.example", "origin": "http://evil.example"}
        assert server.post(LOAD, {}, **rebound).status_code == 403


def test_open_host_needs_a_token() -> None:
    for exposed in ("playground", "repository_api"):
        given = {"bundles": ["a"], "host": "0.0.0.0", exposed: True}
        token = f"{exposed.removesuffix('_api')}_token"
        with pytest.raises(ConfigError, match=token.upper()):
            Settings.load(given, {})
        settings = Settings.load({**given, token: "secret-1"}, {})
        assert "secret-1" not in repr(settings) and "secret-1" not in str(settings)
        with pytest.raises(ConfigError) as caught:
            Settings.load({**given, token: ["secret-1"]}, {})
        assert "secret-1" not in str(caught.value)
