"""Registration of a published bundle in a stand-in for the Kubeflow Model Registry."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.compile import make_pipeline
from pipelines.parameters import run_parameters
from pipelines.resources import Environment
from saarthi_lib.bundle import read_manifest
from saarthi_lib.bundle.manifest import BundleManifest
from saarthi_lib.bundle.registration import TOKEN_VARIABLE, register_bundle
from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import BundleError, ConfigError
from tests.stores.model_registry import ModelRegistry
from tests.tiny_bundle import write_tiny_bundle

URI = "s3://bucket/bundles/nlu/7"
ORIGIN = {"data_digest": "sha256:1", "source_revision": "abc", "run_id": "run-9"}
METRICS = {
    "main": 0.9,
    "by_language": {"hindi": {"main": 0.8, "examples": 52}},
    "note": "text",
}


@pytest.fixture
def registry() -> Iterator[ModelRegistry]:
    with ModelRegistry() as running:
        yield running


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> BundleManifest:
    folder = tmp_path_factory.mktemp("bundle") / "nlu"
    bundle = write_tiny_bundle(folder, name="nlu", version="7", metrics=METRICS)
    read = read_manifest(bundle)
    return replace(read, metrics={**read.metrics, "lost": math.nan})


@pytest.mark.parametrize("apis", [("v1", "v1alpha3"), ("v1alpha3",), ("v1",)])
def test_bundle_is_registered_with_metrics_and_origin(
    registry: ModelRegistry, manifest: BundleManifest, apis: tuple[str, ...]
) -> None:
    registry.apis = apis
    version_id = register_bundle(manifest, URI, registry.url + "/", ORIGIN)

    [model] = registry.objects["registered_models"].values()
    [version] = registry.objects["model_versions"].values()
    [artifact] = registry.objects["artifacts"].values()
    assert (model["name"], version["name"], version["id"]) == ("nlu", "7", version_id)
    assert version["registeredModelId"] == model["id"]
    shown = {name: [*each.values()][1] for name, each in version["customProperties"].items()}
    assert shown["main"] == 0.9 and shown["by_language.hindi.main"] == 0.8
    assert shown["languages"] == "english,hindi" and not {"note", "lost"} & set(shown)
    assert ORIGIN.items() <= shown.items() and shown["bundle_digest"] == manifest.digest
    # KServe reads an address on s3:// as the beginning of names: 7 without a slash fetches 70 too.
    assert artifact["uri"] == f"{URI}/" and artifact["version"] == version_id
    source = [artifact[f"modelSource{part}"] for part in ("Kind", "Class", "Id")]
    assert source == ["kfp", "pipelinerun", "run-9"]


def test_interrupted_registration_is_continued(
    registry: ModelRegistry, manifest: BundleManifest
) -> None:
    for passes in range(8):
        registry.passes = passes
        try:
            register_bundle(manifest, URI, registry.url, ORIGIN)
        except BundleError as error:
            assert "503 " in str(error)
    assert [len(each) for each in registry.objects.values()] == [1, 1, 1]
    registry.passes = None
    register_bundle(manifest, URI, registry.url, ORIGIN)  # repeated step
    register_bundle(replace(manifest, version="8"), f"{URI}/8", registry.url, {})
    assert [len(each) for each in registry.objects.values()] == [1, 2, 2]


def test_version_with_another_address_is_refused(
    registry: ModelRegistry, manifest: BundleManifest
) -> None:
    register_bundle(manifest, URI, registry.url, ORIGIN)
    with pytest.raises(BundleError, match=r"with the address s3://.*; set another bundle_version"):
        register_bundle(manifest, "gs://other/nlu/7", registry.url, ORIGIN)


def test_refusal_names_the_remedy(
    registry: ModelRegistry, manifest: BundleManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.token = "secret"
    with pytest.raises(BundleError, match=f"401.*set {TOKEN_VARIABLE}"):
        register_bundle(manifest, URI, registry.url, ORIGIN)
    monkeypatch.setenv(TOKEN_VARIABLE, "secret")
    assert register_bundle(manifest, URI, registry.url, ORIGIN)
    registry.apis = ()
    with pytest.raises(BundleError, match="not a Kubeflow Model Registry"):
        register_bundle(manifest, URI, registry.url, ORIGIN)
    with pytest.raises(BundleError, match="does not answer"):
        register_bundle(manifest, URI, "http://127.0.0.1:9", ORIGIN)


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9)
metrics = st.recursive(
    st.dictionaries(st.text("abé", min_size=1), numbers | st.text() | st.none()),
    lambda inner: st.dictionaries(st.text("abé", min_size=1), inner, max_size=3),
    max_leaves=6,
)


@given(measured=metrics, source=st.dictionaries(st.text("xyz", min_size=1), st.text()))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_metrics_and_origin_are_accepted(
    manifest: BundleManifest, measured: dict[str, Any], source: dict[str, str]
) -> None:
    with ModelRegistry() as registry:
        register_bundle(replace(manifest, metrics=measured), URI, registry.url, source)
        assert len(registry.objects["artifacts"]) == 1


def test_registration_without_publishing_is_refused() -> None:
    config = TrainConfig.from_mapping({"task": "ner", "input_path": "gs://bucket/data"})
    pipeline = make_pipeline("ner", Environment.load("local"))
    given = {"model_registry": "http://registry:8080"}
    with pytest.raises(ConfigError, match="'model_registry': needs 'publish_to'"):
        run_parameters(pipeline, config, given)
    assert run_parameters(pipeline, config, {**given, "publish_to": "s3://b/f"})
