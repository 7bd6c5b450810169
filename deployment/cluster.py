"""A cluster through the Kubernetes client; objects are plain mappings."""

import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import NotFoundError, ResourceNotFoundError
from urllib3.exceptions import HTTPError

from saarthi_lib.errors import SaarthiError

FIELD_MANAGER = "saarthi"
REQUEST_SECONDS = 30

Object = dict[str, Any]
Kind = tuple[str, str]  # API version and kind


class Cluster:
    """A cluster and a default namespace.

    Args:
        context: context of the kubeconfig; default: the current one, or the account of the pod
            that this runs in.
        namespace: default namespace; default: the context's.

    Raises:
        SaarthiError: the context does not exist, or the cluster cannot be reached.
    """

    def __init__(self, context: str | None = None, namespace: str | None = None) -> None:
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # hides its retries
        configuration = client.Configuration()
        own = _configure(configuration, context)
        self.namespace = namespace or own
        self._api = client.ApiClient(configuration)
        # By default, the client caches the cluster's API in a shared file, which gets outdated.
        self._folder = tempfile.TemporaryDirectory(prefix="saarthi-")
        cache = str(Path(self._folder.name) / "discovery.json")
        with self._explained("the cluster"):
            self._client = DynamicClient(self._api, cache_file=cache)

    def find(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """Find an object; None if it or its kind does not exist."""
        try:
            with self._explained(f"{kind[1]} {name}"):
                return self._resource(kind).get(name=name, namespace=namespace).to_dict()
        except _MissingError:
            return None

    def select(
        self, kind: Kind, namespace: str, labels: str = "", fields: str = ""
    ) -> list[Object]:
        """Objects that match a label and a field selector; empty if their kind does not exist."""
        selectors = {"label_selector": labels, "field_selector": fields}
        given = {name: selector for name, selector in selectors.items() if selector}
        try:
            with self._explained(f"{kind[1]}s"):
                found = self._resource(kind).get(namespace=namespace, **given).to_dict()
        except _MissingError:
            return []
        return list(found["items"])

    def apply(self, wanted: Object) -> None:
        """Apply an object on the server.

        This client takes over fields that others have set.
        """
        metadata = wanted["metadata"]
        with self._explained(_title(wanted)):
            self._resource((wanted["apiVersion"], wanted["kind"])).server_side_apply(
                body=wanted,
                name=metadata["name"],
                namespace=metadata.get("namespace"),
                field_manager=FIELD_MANAGER,
                force_conflicts=True,
            )

    def patch(self, live: Object, operations: list[Object]) -> None:
        """Change fields of an object by JSON patch operations (RFC 6902)."""
        metadata = live["metadata"]
        with self._explained(_title(live)):
            self._resource((live["apiVersion"], live["kind"])).patch(
                body=operations,
                name=metadata["name"],
                namespace=metadata["namespace"],
                content_type="application/json-patch+json",
                field_manager=FIELD_MANAGER,
            )

    def delete(self, live: Object) -> None:
        """Delete an object; the cluster deletes its dependents in the background."""
        metadata = live["metadata"]
        with self._explained(_title(live)):
            self._resource((live["apiVersion"], live["kind"])).delete(
                name=metadata["name"],
                namespace=metadata["namespace"],
                body={"propagationPolicy": "Background"},
            )

    def ask_pod(self, namespace: str, name: str, port: int, path: str) -> str:
        """GET a path of a pod through the API server's proxy.

        Raises:
            SaarthiError: the pod does not answer, or refuses.
        """
        with self._explained(f"pod {name}:{port}{path}, asked through the API server's proxy"):
            answer = self._api.call_api(
                f"/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy{path}",
                "GET",
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=REQUEST_SECONDS,
            )
            return str(answer.data.decode())

    def _resource(self, kind: Kind) -> Any:
        try:
            return self._client.resources.get(api_version=kind[0], kind=kind[1])
        except ResourceNotFoundError as error:
            raise _MissingError(
                f"the cluster does not know {kind[1]} ({kind[0]}): install the software that "
                "defines it"
            ) from error

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Replace the client's errors by errors with the request and the answer."""
        try:
            yield
        except NotFoundError as error:
            raise _MissingError(f"{what}: {_message(error)}") from error
        except ApiException as error:
            raise SaarthiError(f"{what}: {_message(error)}") from error
        except (HTTPError, OSError) as error:
            host = self._api.configuration.host
            raise SaarthiError(
                f"{what}: the API server {host} cannot be reached ({error}); is this the right "
                "context (--context), and is the cluster up?"
            ) from error


class _MissingError(SaarthiError):
    """An object, its namespace or its kind does not exist."""


def _title(document: Object) -> str:
    return f"{document['kind']} {document['metadata']['name']}"


def _configure(configuration: Any, context: str | None) -> str:
    """Fill in the client's configuration; returns the context's namespace."""
    try:
        config.load_kube_config(
            context=context, client_configuration=configuration, persist_config=False
        )
    except config.ConfigException as error:
        if context is not None:
            raise SaarthiError(f"--context {context}: {error}") from error
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException:
            raise SaarthiError(
                f"no cluster is configured ({error}): point KUBECONFIG at one"
            ) from error
        own = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
        return own.read_text(encoding="utf-8").strip()
    contexts, active = config.list_kube_config_contexts()
    chosen = next((each for each in contexts if each["name"] == context), active)
    return str(chosen["context"].get("namespace") or "default")


def _message(error: ApiException) -> str:
    """Reason of the API server for an error."""
    body = error.body.decode() if isinstance(error.body, bytes) else error.body
    try:
        return str(json.loads(body)["message"])
    except (ValueError, TypeError, KeyError):
        return f"{error.status} {error.reason} {(body or '')[:300]}".strip()
