"""The server that most tests of this folder share."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.predictors.serving import Server, serving
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of three bundles, with low limits."""
    root = tmp_path_factory.mktemp("bundles")
    intents = write_tiny_bundle(
        root / "a",
        "intent_classification",
        name="intents",
        normalization="standard",
        runtime="onnxruntime",
        threshold=0.9,
    )
    entities = write_tiny_bundle(root / "b", "ner", name="entities", version="2.1")
    joint = write_tiny_bundle(root / "c", "joint", name="joint", runtime="onnxruntime")
    options: dict[str, Any] = {
        "max_text_characters": 500,
        "max_body_bytes": 200_000,
        "max_labels": 2,
    }
    with serving(intents, entities, joint, access_log=True, **options) as running:
        yield running
