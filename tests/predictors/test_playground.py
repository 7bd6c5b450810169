"""The playground's server side: access, explanations, and off by default."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from predictors.settings import Settings
from saarthi_lib.errors import ConfigError
from saarthi_lib.inference.occlusion import Target, explain
from tests.predictors.serving import Server, serving
from tests.tiny_bundle import SENTENCES, write_tiny_bundle

FILES = ("/playground", "/playground/page.css", "/playground/page.js")
EXPLAIN = "/playground/explain"
TOKEN = "a token: with a colon"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("playground")
    intents = write_tiny_bundle(
        root / "a", name="intents", runtime="onnxruntime", normalization="standard"
    )
    joint = write_tiny_bundle(root / "b", "joint", name="joint", version="3", runtime="onnxruntime")
    # The same bundle under another name, as a canary.
    options: dict[str, Any] = {"playground": True, "max_text_characters": 200, "drain_seconds": 0}
    with serving(intents, joint, f"canary={intents}", **options) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("guarded") / "a", runtime="onnxruntime")
    with serving(
        bundle,
        playground=True,
        host="0.0.0.0",
        environment={"SAARTHI_PLAYGROUND_TOKEN": TOKEN},
    ) as running:
        yield running


def test_playground_is_off_by_default(server: Server) -> None:
    assert [server.get(path).status_code for path in FILES] == [404] * 3
    assert server.post(EXPLAIN, {"text": "lights"}).status_code == 404


def test_open_host_needs_a_playground_token() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        Settings.load({"bundles": ["a"], "playground": True, "host": host}, {})
    open_host = {"bundles": ["a"], "playground": True, "host": "0.0.0.0"}
    Settings.load(open_host | {"playground_token": TOKEN}, {})
    with pytest.raises(ConfigError, match="SAARTHI_PLAYGROUND_TOKEN"):
        Settings.load(open_host, {})


def test_page_loads_nothing_from_other_sites(served: Server) -> None:
    for path, kind in zip(FILES, ("html", "css", "javascript"), strict=True):
        response = served.get(path)
        assert response.status_code == 200
        assert response.headers["content-type"] == f"text/{kind}; charset=utf-8"
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "http" not in policy and "unsafe" not in policy
        assert "http://" not in response.text and "https://" not in response.text


def test_explanations_equal_the_librarys(served: Server) -> None:
    joint = served.predictors["joint"]
    text = next(text for text in SENTENCES if joint.predict([text])[0].entities)
    entity = joint.predict([text])[0].entities[0]

    of_label = served.post(EXPLAIN, {"model": "joint", "text": text}).json()
    target: dict[str, Any] = {"start": entity.start, "end": entity.end, "label": entity.label}
    of_entity = served.post(EXPLAIN, {"model": "joint", "text": text, "target": target}).json()
    of_first = served.post(EXPLAIN, {"text": text}).json()
    of_canary = served.post(EXPLAIN, {"text": text, "model": "canary"}).json()

    assert (of_label["model"], of_label["version"]) == ("joint", "3")
    assert of_label["milliseconds"] > 0
    expected = explain(joint, text)
    assert of_label["label"] == expected.label
    for answer, wanted in (
        (of_label, expected),
        (of_entity, explain(joint, text, Target(**target))),
        (of_first, explain(served.predictors["intents"], text)),
        (of_canary, explain(served.predictors["intents"], text)),
    ):
        assert answer["label"] == wanted.label
        assert [part["text"] for part in answer["parts"]] == [part.text for part in wanted.parts]
        assert [part["evidence"] for part in answer["parts"]] == pytest.approx(
            [part.evidence for part in wanted.parts], abs=1e-3
        )


def test_bundle_can_be_served_under_two_names(served: Server) -> None:
    names = [model["name"] for model in served.get("/").json()["models"]]
    assert names == ["intents", "joint", "canary"]
    [answer] = served.post("/v1/models/canary:predict", {"instances": ["lights"]}).json()[
        "predictions"
    ]
    assert answer["model"] == "canary"
    assert answer["label"] == served.expected("intents", ["lights"])[0]["label"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("[", 400, "JSON"),
        ({}, 400, '"text"'),
        ({"text": " "}, 400, "empty"),
        ({"text": "\u200b"}, 400, "only invisible"),
        ({"text": "a" * 201}, 413, "201 characters"),
        ({"text": "a", "model": "nobody"}, 404, "nobody"),
        ({"text": "a", "target": 3}, 400, "target must be an object"),
        ({"text": "a", "target": {"start": 0, "end": 1}}, 400, "target must be an object"),
        ({"text": "a", "target": {"start": 0, "end": 1, "label": "b"}}, 400, "whole text"),
        (
            {"text": "a", "model": "joint", "target": {"start": 7, "end": 9, "label": "area"}},
            400,
            "not in the text",
        ),
    ],
)
def test_bad_explain_request_is_refused(
    served: Server, body: object, status: int, message: str
) -> None:
    response = served.post(EXPLAIN, body)
    assert response.status_code == status
    assert message in response.json()["error"]


def test_requests_of_other_sites_are_refused(served: Server) -> None:
    body = {"text": "lights"}
    own = f"http://127.0.0.1:{served.http_port}"
    assert served.post(EXPLAIN, body, origin=own).status_code == 200
    for origin in ("http://evil.example", "null", own + "0", f"http://localhost:{own[-4:]}"):
        assert served.post(EXPLAIN, body, origin=origin).status_code == 403, origin
    # DNS rebinding: the name of a foreign site points to this machine.
    rebound = {"host": "evil.example", "origin": "http://evil.example"}
    assert served.post(EXPLAIN, body, **rebound).status_code == 403
    for host in ("evil.example", "[::1", ""):
        response = served.get("/playground", headers={"host": host})
        assert response.status_code in (400, 403)


def test_playground_without_its_token_is_refused(guarded: Server) -> None:
    for path in FILES:
        assert guarded.get(path, auth=("anybody", TOKEN)).status_code == 200
        for wrong in (None, ("anybody", "wrong"), (TOKEN, ""), ("anybody", "")):
            refused = guarded.get(path, auth=wrong)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Basic ")
    given = base64.b64encode(f"x:{TOKEN}".encode()).decode()
    headers = {"authorization": f"Basic {given}", "host": "models.example"}
    assert guarded.post(EXPLAIN, {"text": "a"}).status_code == 401
    assert guarded.post(EXPLAIN, {"text": "a"}, authorization="Basic *").status_code == 401
    assert guarded.post(EXPLAIN, {"text": "a"}, **headers).status_code == 200
    assert guarded.post(EXPLAIN, {"text": "a"}, **headers, origin="http://b").status_code == 403


def test_page_files_belong_to_the_package() -> None:
    root = Path(__file__).parents[2]
    patterns = (root / "pyproject.toml").read_text(encoding="utf-8")
    for path in (root / "predictors" / "playground").iterdir():
        if path.suffix in (".html", ".css", ".js"):
            assert f'"*{path.suffix}"' in patterns
