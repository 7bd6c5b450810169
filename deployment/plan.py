"""Changes that an overlay would make, from the server's dry run."""

import copy
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from deployment.cluster import Cluster, Object, kind_of
from deployment.overlay import predictor_container
from deployment.state import INFERENCE_SERVICE, tag_of
from saarthi_lib.errors import SaarthiError

# Fields that the server sets to different values each time.
_SERVER_FIELDS = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_SECRET_NAME = re.compile(r"(TOKEN|PASSWORD|SECRET|CREDENTIALS?|KEY)$", re.IGNORECASE)
_SECRET_IN_URL = re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")


@dataclass(frozen=True)
class Change:
    """An object to create or change.

    Attributes:
        title: kind and name of the object.
        lines: unified difference, without secrets.
    """

    title: str
    lines: list[str]


def prepare(cluster: Cluster, objects: list[Object]) -> list[Object]:
    """Adapt an overlay's InferenceServices to the changes of roll-outs in the cluster.

    Raises:
        SaarthiError: a canary is running that the overlay does not have.
    """
    objects = copy.deepcopy(objects)
    images = {
        item["metadata"]["name"]: predictor_container(item["spec"])["image"]
        for item in objects
        if item["kind"] == "ServingRuntime"
    }
    for wanted in (item for item in objects if kind_of(item) == INFERENCE_SERVICE):
        name, namespace = wanted["metadata"]["name"], wanted["metadata"]["namespace"]
        live = cluster.find(INFERENCE_SERVICE, namespace, name)
        if live is None:
            continue
        if _has_canary(live) and not _has_canary(wanted):
            raise SaarthiError(
                f"InferenceService {name}: a canary is running, which this overlay does not have; "
                f"end it first: `saarthi rollout promote {name}` or `saarthi rollout rollback "
                f"{name}`, with --namespace {namespace}"
            )
        # A promoted candidate's image overrides the runtime's, so it must follow the overlay.
        model, left = wanted["spec"]["predictor"]["model"], live["spec"]["predictor"]["model"]
        if left.get("runtimeVersion") and model["runtime"] in images:
            model.setdefault("runtimeVersion", tag_of(images[model["runtime"]]))
    return objects


def plan(cluster: Cluster, objects: list[Object]) -> list[Change]:
    """Compare the planned state of each object with its current state.

    Raises:
        SaarthiError: the server would refuse an object.
    """
    changes = []
    for wanted in objects:
        metadata = wanted["metadata"]
        live = cluster.find(kind_of(wanted), metadata.get("namespace"), metadata["name"])
        planned = cluster.apply(wanted, dry_run=True)
        if lines := difference(live, planned):
            title = f"{wanted['kind']} {metadata['name']}"
            changes.append(Change(title if live else f"{title} (new)", lines))
    return changes


def difference(before: Object | None, after: Object) -> list[str]:
    """Lines of a unified difference of two objects as YAML; secrets are hidden."""
    old = _shown(before) if before else None
    new = _shown(after)
    if old == new:
        return []
    old, new = _hide(old, old), _hide(new, old or new)
    lines = difflib.unified_diff(_yaml(old), _yaml(new), n=2, lineterm="")
    return list(lines)[2:]  # without the file names


def _shown(document: Object) -> Object:
    """An object without its status and the fields of the server."""
    shown = {key: value for key, value in document.items() if key != "status"}
    metadata = {k: v for k, v in shown["metadata"].items() if k not in _SERVER_FIELDS}
    if annotations := metadata.get("annotations"):
        kept = {key: value for key, value in annotations.items() if key != _LAST_APPLIED}
        metadata = {**metadata, "annotations": kept}
    return {**shown, "metadata": metadata}


def _yaml(document: Object | None) -> list[str]:
    if document is None:
        return []
    return yaml.safe_dump(document, allow_unicode=True, width=1000).splitlines()


def _hide(document: Any, other: Any, secret: bool = False) -> Any:
    """The document with secrets replaced by a note, which shows whether they changed."""
    if isinstance(document, dict):
        return {
            key: _hide(
                value,
                other.get(key) if isinstance(other, dict) else None,
                secret or _is_secret(document, key),
            )
            for key, value in document.items()
        }
    if isinstance(document, list):
        others = other if isinstance(other, list) else []
        return [
            _hide(value, others[index] if index < len(others) else None, secret)
            for index, value in enumerate(document)
        ]
    if secret:
        return "(hidden)" if document == other else "(hidden, changed)"
    return _SECRET_IN_URL.sub("(hidden)", document) if isinstance(document, str) else document


def _is_secret(holder: Object, key: str) -> bool:
    if holder.get("kind") == "Secret":
        return key in ("data", "stringData")
    return key == "value" and bool(_SECRET_NAME.search(str(holder.get("name", ""))))


def _has_canary(service: Object) -> bool:
    spec = service["spec"]
    return bool(spec.get("canary")) or spec["predictor"].get("canaryTrafficPercent") is not None


def styled(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Lines of a difference, each with its style."""
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in lines:
        yield line, styles.get(line[:1], "dim")
