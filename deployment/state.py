"""State of a predictor, read from the cluster: workloads, bundles and traffic.

KServe's InferenceService does not show whether it is up to date: its `observedGeneration` belongs
to the Deployment or Knative Service below it, and its conditions stay old until KServe has checked.
Readiness therefore comes from the Deployment or Revision that makes the pods, as soon as it has the
bundle and the image of the InferenceService.
"""

import re
from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from deployment.cluster import Cluster, Kind, Object
from deployment.overlay import predictor_container, with_tag
from saarthi_lib.errors import SaarthiError

INFERENCE_SERVICE: Kind = ("serving.kserve.io/v1beta1", "InferenceService")
SERVING_RUNTIME: Kind = ("serving.kserve.io/v1alpha1", "ServingRuntime")
REVISION: Kind = ("serving.knative.dev/v1", "Revision")
DEPLOYMENT: Kind = ("apps/v1", "Deployment")
POD: Kind = ("v1", "Pod")
EVENT: Kind = ("v1", "Event")

OURS = "app.kubernetes.io/part-of=saarthi"
KSERVE_LABEL = "serving.kserve.io/inferenceservice"
# Annotation with the bundle that KServe's webhook fetches.
_SOURCE = "internal.serving.kserve.io/storage-initializer-sourceuri"
_MODE = "serving.kserve.io/deploymentMode"


class Mode(StrEnum):
    """Mode of a predictor; KServe runs the first two."""

    STANDARD = "standard"
    SERVERLESS = "serverless"
    DEPLOYMENT = "deployment"


_MODES = {
    "Standard": Mode.STANDARD,
    "RawDeployment": Mode.STANDARD,
    "Knative": Mode.SERVERLESS,
    "Serverless": Mode.SERVERLESS,
}


@dataclass(frozen=True)
class Workload:
    """The pods of one bundle: a Deployment, or a Knative Revision.

    Attributes:
        name: name of the Deployment or Revision.
        bundle: URI of the bundle.
        image: image of the predictor.
        selector: label selector of the pods.
        ready: whether the pods are ready.
        detail: progress in words.
        failure: reason if it cannot become ready.
        since: time of the last roll-out in ISO 8601; empty before the first.
    """

    name: str
    bundle: str
    image: str
    selector: str
    ready: bool
    detail: str
    failure: str | None = None
    since: str = ""

    @property
    def version(self) -> str:
        """The bundle's version, which is the name of its folder."""
        return self.bundle.rstrip("/").rpartition("/")[2]


@dataclass(frozen=True)
class Predictor:
    """State of a predictor.

    Attributes:
        mode: mode of the predictor.
        document: InferenceService or Deployment.
        stable: the stable version.
        canary: the candidate, if one is running.
        percent: traffic of the canary.
        pending: condition other than the pods that is not met yet; None if all are.
    """

    mode: Mode
    document: Object
    stable: Workload
    canary: Workload | None = None
    percent: int = 0
    pending: str | None = None

    @property
    def name(self) -> str:
        """Name of the predictor."""
        return str(self.document["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Namespace of the predictor."""
        return str(self.document["metadata"]["namespace"])

    @property
    def workloads(self) -> list[Workload]:
        """The stable version, and the canary if there is one."""
        return [self.stable, *([self.canary] if self.canary else [])]

    @property
    def settled(self) -> bool:
        """Whether all workloads match the specification and are ready."""
        return self.pending is None and all(each.ready for each in self.workloads)

    @property
    def progress(self) -> str:
        """Progress in one line."""
        parts = [f"stable {self.stable.version}: {self.stable.detail}"]
        if self.canary:
            parts.append(f"canary {self.canary.version} ({self.percent}%): {self.canary.detail}")
        if self.pending and all(each.ready for each in self.workloads):
            parts.append(self.pending)
        return f"{self.name}: " + "; ".join(parts)


def read_predictor(cluster: Cluster, name: str, namespace: str) -> Predictor:
    """State of the InferenceService, or else of the Deployment, with this name.

    Raises:
        SaarthiError: neither exists, or the mode is unknown.
    """
    if service := cluster.find(INFERENCE_SERVICE, namespace, name):
        if "model" not in service["spec"]["predictor"]:
            raise SaarthiError(f"InferenceService {name}: has no spec.predictor.model to roll out")
        return _READERS[_mode(service)](cluster, service)
    if deployment := cluster.find(DEPLOYMENT, namespace, name):
        return Predictor(Mode.DEPLOYMENT, deployment, _deployment(deployment))
    raise SaarthiError(
        f"{name}: no InferenceService or Deployment with this name in the namespace {namespace}; "
        "`saarthi rollout status` lists them"
    )


def list_predictors(cluster: Cluster, namespace: str) -> list[Predictor]:
    """All Saarthi predictors in a namespace."""
    services = cluster.select(INFERENCE_SERVICE, namespace, OURS)
    plain = cluster.select(DEPLOYMENT, namespace, f"{OURS},!{KSERVE_LABEL}")
    names = sorted(item["metadata"]["name"] for item in (*services, *plain))
    return [read_predictor(cluster, name, namespace) for name in names]


def tag_of(image: str) -> str:
    """Tag of an image; empty without a tag."""
    found = re.search(r":([^/@:]+)(@|$)", image)
    return found[1] if found else ""


def runtime_image(cluster: Cluster, service: Object) -> str:
    """Image of an InferenceService's runtime; empty for a runtime that is not ours."""
    name = service["spec"]["predictor"]["model"].get("runtime")
    namespace = service["metadata"]["namespace"]
    runtime = cluster.find(SERVING_RUNTIME, namespace, name) if name else None
    return str(predictor_container(runtime["spec"])["image"]) if runtime else ""


def condition(document: Object, name: str) -> Object:
    """Condition of an object's status; empty if it is missing."""
    conditions = document.get("status", {}).get("conditions") or []
    return next((each for each in conditions if each["type"] == name), {})


def _mode(service: Object) -> Mode:
    metadata = service["metadata"]
    annotated = metadata.get("annotations", {}).get(_MODE)
    name = annotated or service.get("status", {}).get("deploymentMode", "")
    if name not in _MODES:
        raise SaarthiError(
            f"InferenceService {metadata['name']}: its mode is {name or 'not known yet'}; the "
            f"annotation {_MODE} must be Standard or Knative"
        )
    return _MODES[name]


def _standard(cluster: Cluster, service: Object) -> Predictor:
    spec = service["spec"]
    predictor, canaries = spec["predictor"], spec.get("canary") or []
    if len(canaries) > 1:
        raise SaarthiError(
            f"InferenceService {service['metadata']['name']}: has {len(canaries)} canaries, but "
            "one is supported: remove the others from spec.canary"
        )
    image = runtime_image(cluster, service)

    def workload(part: Object) -> Workload:
        name = "-".join(filter(None, (service["metadata"]["name"], part.get("name"), "predictor")))
        model = {**predictor["model"], **part["model"]}
        wanted = with_tag(image, tag) if (tag := model.get("runtimeVersion")) and image else image
        live = cluster.find(DEPLOYMENT, service["metadata"]["namespace"], name)
        return _made_by_kserve(live, name, model["storageUri"], wanted)

    canary = canaries[0] if canaries else None
    return Predictor(
        Mode.STANDARD,
        service,
        workload(predictor),
        workload(canary["predictor"]) if canary else None,
        canary["trafficPercent"] if canary else 0,
        _not_ready(service),
    )


def _made_by_kserve(live: Object | None, name: str, bundle: str, image: str) -> Workload:
    if live is None:
        return Workload(name, bundle, image, "", False, "KServe has not made it yet")
    found = _deployment(live)
    if found.bundle != bundle or (image and found.image != image):
        return _awaited(found, bundle, image)
    return found


def _awaited(found: Workload, bundle: str, image: str) -> Workload:
    """The requested workload, while the pods still belong to another one."""
    wanted = f"{bundle} with {image}" if found.bundle == bundle else bundle
    detail = f"KServe has not taken over {wanted} yet"
    return replace(found, bundle=bundle, image=image, ready=False, detail=detail, failure=None)


def _deployment(live: Object) -> Workload:
    """State of a Deployment, by the rules of `kubectl rollout status`."""
    metadata, spec, status = live["metadata"], live["spec"], live.get("status") or {}
    template = spec["template"]
    container = predictor_container(template["spec"])
    annotations = template["metadata"].get("annotations") or {}
    progressing = condition(live, "Progressing")
    wanted, updated = spec.get("replicas", 1), status.get("updatedReplicas", 0)
    available, old = status.get("availableReplicas", 0), status.get("replicas", 0) - updated
    ready, failure = False, None
    if status.get("observedGeneration", 0) < metadata["generation"]:
        detail = "the cluster has not seen the change yet"
    elif progressing.get("reason") == "ProgressDeadlineExceeded":
        detail = failure = progressing.get("message", "its progress deadline has passed")
    elif updated < wanted:
        detail = f"{updated} of {wanted} new pods created"
    elif old > 0:
        detail = f"{old} old pods are still ending"
    elif available < updated:
        detail = f"{available} of {updated} pods available"
    else:
        ready, detail = True, f"{available} pods ready"
    return Workload(
        metadata["name"],
        annotations.get(_SOURCE) or next(iter(container.get("args") or []), ""),
        container["image"],
        ",".join(f"{key}={value}" for key, value in spec["selector"]["matchLabels"].items()),
        ready,
        detail,
        failure,
        progressing.get("lastUpdateTime", ""),
    )


def _serverless(cluster: Cluster, service: Object) -> Predictor:
    model = service["spec"]["predictor"]["model"]
    percent = service["spec"]["predictor"].get("canaryTrafficPercent")
    status = service.get("status", {}).get("components", {}).get("predictor", {})
    image = runtime_image(cluster, service)
    if tag := model.get("runtimeVersion"):
        image = with_tag(image, tag) if image else ""
    latest = _revision(cluster, service, status.get("latestCreatedRevision", ""))
    if latest is None:
        bundle = model["storageUri"]
        latest = Workload("", bundle, image, "", False, "KServe has not made a revision yet")
    elif latest.bundle != model["storageUri"] or (image and latest.image != image):
        latest = _awaited(latest, model["storageUri"], image)
    split: Counter[str] = Counter()
    for each in status.get("traffic") or []:
        split[each["revisionName"]] += each.get("percent", 0)
    rolled_out = status.get("latestRolledoutRevision", "")
    stable = _revision(cluster, service, rolled_out) if percent is not None else None
    if stable is None or rolled_out == latest.name:  # the only revision, with all the traffic
        pending = None if split[latest.name] == 100 else "it does not have all the traffic yet"
        return Predictor(Mode.SERVERLESS, service, latest, pending=pending or _not_ready(service))
    moved = (split[stable.name], split[latest.name]) == (100 - percent, percent)
    pending = None if moved else "the traffic is not split yet"
    return Predictor(
        Mode.SERVERLESS, service, stable, latest, percent, pending or _not_ready(service)
    )


def _revision(cluster: Cluster, service: Object, name: str) -> Workload | None:
    live = cluster.find(REVISION, service["metadata"]["namespace"], name) if name else None
    if live is None:
        return None
    ready = condition(live, "Ready")
    reason = ": ".join(filter(None, (ready.get("reason"), ready.get("message"))))
    detail = "ready" if ready.get("status") == "True" else reason or "its pods start"
    return Workload(
        name,
        live["metadata"].get("annotations", {}).get(_SOURCE, ""),
        predictor_container(live["spec"])["image"],
        f"serving.knative.dev/revision={name}",
        ready.get("status") == "True",
        detail,
        reason if ready.get("status") == "False" else None,
        live["metadata"]["creationTimestamp"],
    )


def _not_ready(service: Object) -> str | None:
    """KServe's reason if the service is not ready."""
    ready = condition(service, "Ready")
    if ready.get("status") == "True":
        return None
    said = ": ".join(filter(None, (ready.get("reason"), ready.get("message"))))
    return f"KServe: {said or 'not ready yet'}"


_READERS: dict[Mode, Any] = {Mode.STANDARD: _standard, Mode.SERVERLESS: _serverless}
