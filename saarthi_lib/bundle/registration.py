"""Register a published bundle in the Kubeflow Model Registry, through its REST API.

A bundle's name is a registered model, its version is a model version with the metrics and the
origin as properties, and its address is the version's artifact.
"""

import os
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

from saarthi_lib.addresses import storage_uri
from saarthi_lib.bundle.manifest import BundleManifest
from saarthi_lib.errors import BundleError
from saarthi_lib.logs import get_logger

logger = get_logger("registration")

# Bearer token of the registry; without it, requests are sent without one.
TOKEN_VARIABLE = "SAARTHI_MODEL_REGISTRY_TOKEN"
# New registries have both, earlier ones only the second.
_APIS = ("v1", "v1alpha3")
_TIMEOUT = 30.0  # seconds

Document = dict[str, Any]


def register_bundle(
    manifest: BundleManifest, uri: str, registry: str, origin: Mapping[str, str]
) -> str:
    """Register a bundle; repeating it is safe, so a failed step can be retried.

    Args:
        manifest: content of the published `bundle.json`.
        uri: address of the published bundle, which KServe serves as `storageUri`.
        registry: address of the registry, such as
            `http://model-registry-service.kubeflow:8080`.
        origin: properties of the version besides the metrics: revision, run and data.

    Returns:
        ID of the version in the registry.

    Raises:
        BundleError: the registry cannot be reached or refuses, or has this version with another
            address.
    """
    api = _Registry(registry)
    model = api.find("registered_model", name=manifest.name) or api.create(
        "registered_models",
        {"name": manifest.name, "description": f"Saarthi, {manifest.task}"},
    )
    version = api.find(
        "model_version", name=manifest.version, parentResourceId=model["id"]
    ) or api.create(
        "model_versions",
        {
            "name": manifest.version,
            "registeredModelId": model["id"],
            "customProperties": {**_metrics(manifest), **_texts(manifest, origin)},
        },
    )
    _add_artifact(api, version["id"], manifest, storage_uri(uri), origin)
    logger.info("bundle %s version %s: registered", manifest.name, manifest.version)
    return str(version["id"])


def _add_artifact(
    api: "_Registry",
    version_id: str,
    manifest: BundleManifest,
    uri: str,
    origin: Mapping[str, str],
) -> None:
    place = f"model_versions/{version_id}/artifacts"
    known = api.get(place)["items"]
    if any(each.get("uri") == uri for each in known):
        return
    if known:
        raise BundleError(
            f"{api.shown}: has version {manifest.version} of {manifest.name} with the address "
            f"{known[0].get('uri')}, not {uri}; set another bundle_version"
        )
    artifact = {
        "artifactType": "model-artifact",
        "name": f"{manifest.name}/{manifest.version}",
        "uri": uri,
        "modelFormatName": "saarthi",
        "modelFormatVersion": str(manifest.format),
    }
    if run := origin.get("run_id"):
        artifact |= {"modelSourceKind": "kfp", "modelSourceClass": "pipelinerun"}
        artifact |= {"modelSourceId": run, "modelSourceName": manifest.name}
    api.create(place, artifact)


def _metrics(manifest: BundleManifest) -> Document:
    return {
        name: {"metadataType": "MetadataDoubleValue", "double_value": value}
        for name, value in _numbers(manifest.metrics)
    }


def _numbers(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Numbers of nested metrics, such as `by_language.hindi.main`."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
            yield prefix + name, float(value)


def _texts(manifest: BundleManifest, origin: Mapping[str, str]) -> Document:
    given = {
        "task": manifest.task,
        "languages": ",".join(manifest.languages),
        "precision": manifest.precision,
        "bundle_digest": manifest.digest or "",
        **origin,
    }
    return {
        name: {"metadataType": "MetadataStringValue", "string_value": value}
        for name, value in given.items()
        if value
    }


class _Registry:
    """The REST API of a registry."""

    def __init__(self, address: str) -> None:
        from requests import Session  # type: ignore[import-untyped]

        self.shown = address
        self._session = Session()
        if token := os.environ.get(TOKEN_VARIABLE):
            self._session.headers["Authorization"] = f"Bearer {token}"
        root = f"{address.rstrip('/')}/api/model_registry"
        for version in _APIS:
            self._root = f"{root}/{version}"
            if self._ask("GET", "registered_models", {"pageSize": "1"}) is not None:
                return
        raise BundleError(
            f"{address}: is not a Kubeflow Model Registry (404); correct model_registry"
        )

    def get(self, path: str) -> Document:
        return self._ask("GET", path, {}) or {"items": []}

    def find(self, path: str, **query: str) -> Document | None:
        """Return an object by its name; None if there is none."""
        return self._ask("GET", path, query)

    def create(self, path: str, body: Document) -> Document:
        made = self._ask("POST", path, {}, body)
        if made is None:
            raise BundleError(f"{self.shown}: {path}: not found (404); update the Model Registry")
        return made

    def _ask(
        self, method: str, path: str, query: Mapping[str, str], body: Document | None = None
    ) -> Document | None:
        """Send a request; None if the answer is 404."""
        from requests import RequestException

        url = f"{self._root}/{path}"
        try:
            answer = self._session.request(
                method, url, params=query, json=body, timeout=_TIMEOUT, allow_redirects=False
            )
        except RequestException as error:
            raise BundleError(
                f"{self.shown}: the Model Registry does not answer ({error}); check model_registry"
            ) from error
        if answer.status_code == 404:
            return None
        if answer.status_code in (301, 302, 303, 307, 308, 401, 403):
            raise BundleError(
                f"{self.shown}: the Model Registry refuses access ({answer.status_code}); set "
                f"{TOKEN_VARIABLE} with a secret of the environment"
            )
        try:
            answer.raise_for_status()
            return dict(answer.json())
        except (RequestException, ValueError, TypeError) as error:
            raise BundleError(
                f"{self.shown}: {method} {path}: {answer.status_code} {answer.text[:300]}"
            ) from error
