"""Changes of a roll-out, as JSON patch operations for the cluster or a kustomize patch for git."""

from pathlib import Path
from typing import Any

import yaml

from deployment.cluster import Object
from deployment.state import (
    Mode,
    Predictor,
    named_bundle,
    predictor_container,
    with_tag,
)
from saarthi_lib.addresses import storage_uri
from saarthi_lib.errors import SaarthiError

Change = dict[str, Any]  # new value by JSON pointer; None removes the field
_PREDICTOR = "/spec/predictor"
PERCENT = f"{_PREDICTOR}/canaryTrafficPercent"
MINIMUM = f"{_PREDICTOR}/minReplicas"
_URI, _TAG = f"{_PREDICTOR}/model/storageUri", f"{_PREDICTOR}/model/runtimeVersion"
# A new pod becomes ready before an old one ends.
_SURGE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
_HEADER = """\
# Written by `saarthi rollout`, which replaces its patches here. To use it, add this folder to the
# `components` of an overlay, after the others.
"""


def version_change(predictor: Predictor, bundle: str | None, tag: str | None) -> Change:
    """Make the change to another bundle or image tag; None keeps one, an empty tag the runtime's.

    In standard mode and for a plain Deployment, the change includes the strategy if the present
    one lets the number of ready pods fall.
    """
    if predictor.mode is Mode.DEPLOYMENT:
        change = _deployment_change(predictor, bundle, tag)
        place = "/spec/strategy"
    else:
        change = {_URI: storage_uri(bundle)} if bundle else {}
        if tag is not None:
            change[_TAG] = tag or None
        place = f"{_PREDICTOR}/deploymentStrategy"
    if predictor.mode is not Mode.SERVERLESS and not _keeps_pods(predictor.stable.document):
        change[place] = _SURGE
    return change


def operations(document: Object, change: Change) -> list[Object]:
    """JSON patch operations that make a change to a live object."""
    found = []
    for place, value in change.items():
        if value is not None:
            found.append(_set(place, value))
        elif _has(document, place):
            found.append({"op": "remove", "path": place})
    return found


def write_patch(folder: Path, predictor: Predictor, change: Change) -> Path:
    """Write a change as a kustomize component; returns its file.

    Patches of other predictors in the file stay.

    Raises:
        SaarthiError: the folder has another `kustomization.yaml`.
    """
    file = folder / "kustomization.yaml"
    content: Any = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "patches": [],
    }
    if file.is_file():
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.keys() != content.keys():
            raise SaarthiError(f"--write {folder}: has another kustomization.yaml; give a new one")
        content = found
    target = {"kind": predictor.document["kind"], "name": predictor.name}
    written = [_set(place, value) for place, value in change.items() if value is not None]
    patch = {"target": target, "patch": yaml.safe_dump(written, sort_keys=False, width=1000)}
    others = [each for each in content["patches"] if each.get("target") != target]
    content["patches"] = [*others, patch]
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=1000)
    file.write_text(_HEADER + text, encoding="utf-8")
    return file


def _deployment_change(predictor: Predictor, bundle: str | None, tag: str | None) -> Change:
    pod = predictor.document["spec"]["template"]["spec"]
    container = predictor_container(pod)
    place = f"/spec/template/spec/containers/{pod['containers'].index(container)}"
    change: Change = {}
    if bundle:
        change[f"{place}/args/0"] = named_bundle(pod)[0] + bundle
    if tag:
        change[f"{place}/image"] = with_tag(container["image"], tag)
    return change


def _keeps_pods(deployment: Object) -> bool:
    """Whether a Deployment's strategy keeps the number of ready pods."""
    strategy = deployment.get("spec", {}).get("strategy") or {}
    least = (strategy.get("rollingUpdate") or {}).get("maxUnavailable")
    return strategy.get("type") == "RollingUpdate" and least in (0, "0", "0%")


def _set(place: str, value: Any) -> Object:
    # In a list, `add` would insert; in a mapping, it sets a field that may be missing.
    in_list = place.rpartition("/")[2].isdigit()
    return {"op": "replace" if in_list else "add", "path": place, "value": value}


def _has(document: Any, place: str) -> bool:
    for step in place.strip("/").split("/"):
        if step not in document:
            return False
        document = document[step]
    return True


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
