"""Checks before a roll-out: the version of KServe, and tools that own the predictor."""

import re

from deployment.cluster import Cluster
from deployment.state import DEPLOYMENT, Mode, Predictor, tag_of
from deployment.wait import Show
from saarthi_lib.errors import SaarthiError

# KServe's own namespace, and Kubeflow's.
_NAMESPACES = ("kserve", "kubeflow")
_CONTROLLER = "kserve-controller-manager"
# The first version with the modes' names Standard and Knative.
_OLDEST = (0, 17)
# Labels and annotations of tools that undo changes of live objects.
_OWNERS = {
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "argocd.argoproj.io/instance": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
}


def check_platform(cluster: Cluster, predictor: Predictor, show: Show) -> None:
    """Check the version of KServe, and report a tool that would revert a live change.

    Args:
        cluster: cluster of the predictor.
        predictor: predictor to roll out.
        show: function that gets each report.

    Raises:
        SaarthiError: KServe is too old.
    """
    metadata = predictor.document["metadata"]
    marks = (metadata.get("labels") or {}).keys() | (metadata.get("annotations") or {}).keys()
    if owner := next((tool for mark, tool in _OWNERS.items() if mark in marks), None):
        show(
            f"{predictor.name}: {owner} owns it, and can revert a change of the live object; "
            "`saarthi rollout --write DIR` writes the change for git"
        )
    if predictor.mode is Mode.DEPLOYMENT:
        return
    needed = ".".join(map(str, _OLDEST))
    version = _kserve_version(cluster, show)
    if version is None:
        show(f"the version of KServe is not known; KServe {needed} or newer is needed")
    elif version < _OLDEST:
        raise SaarthiError(
            f"KServe {'.'.join(map(str, version))} is too old: update it to {needed} or newer"
        )


def _kserve_version(cluster: Cluster, show: Show) -> tuple[int, int] | None:
    """Version by the tag of the controller's image; None if it is not readable from here."""
    for namespace in _NAMESPACES:
        try:
            controller = cluster.find(DEPLOYMENT, namespace, _CONTROLLER)
        except SaarthiError as error:  # most accounts of a namespace may not read another one
            show(str(error))
            continue
        if controller is None:
            continue
        for container in controller["spec"]["template"]["spec"]["containers"]:
            found = re.match(r"v?(\d+)\.(\d+)", tag_of(container["image"]))
            if container["name"] == "manager" and found:
                return int(found[1]), int(found[2])
    return None
