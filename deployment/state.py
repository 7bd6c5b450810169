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

from deployment.cluster import Cluster, Kind, Object
from saarthi_lib.errors import SaarthiError

INFERENCE_SERVICE: Kind = ("serving.kserve.io/v1beta1", "InferenceService")
SERVING_RUNTIME: Kind = ("serving.kserve.io/v1alpha1", "ServingRuntime")
REVISION: Kind = ("serving.knative.dev/v1", "Revision")
DEPLOYMENT: Kind = ("apps/v1", "Deployment")
POD: Kind = ("v1", "Pod")
EVENT: Kind = ("v1", "Event")

# Annotation with the bundle that KServe's webhook fetches.
_SOURCE = "internal.serving.kserve.io/storage-initializer-sourceuri"
_MODE = "serving.kserve.io/deploymentMode"
_NAMED = re.compile(r"([a-z0-9][a-z0-9-]*=)?(.*)")  # a plain Deployment's argument: NAME=URI


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
        bundle: URI of the bundle, without a slash at its end.
        image: image of the predictor.
        selector: label selector of the pods.
        ready: whether the pods are ready.
        detail: progress in words.
        failure: reason if it cannot become ready.
        document: the Deployment or Revision; empty before it exists.
    """

    name: str
    bundle: str
    image: str
    selector: str
    ready: bool
    detail: str
    failure: str | None
    document: Object

    @property
    def version(self) -> str:
        """The bundle's version, which is the name of its folder."""
        return self.bundle.rpartition("/")[2]


@dataclass(frozen=True)
class Predictor:
    """State of a predictor.

    Attributes:
        mode: mode of the predictor.
        document: InferenceService or Deployment.
        stable: the stable version.
        canary: the candidate, if one is running; only in serverless mode.
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
    def ended(self) -> bool:
        """Whether the canary is the stable version again, as after a way back through git."""
        stable, canary = self.stable, self.canary
        return canary is not None and (stable.bundle, stable.image) == (canary.bundle, canary.image)

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
        SaarthiError: neither exists, or it cannot be rolled out.
    """
    if service := cluster.find(INFERENCE_SERVICE, namespace, name):
        if "model" not in service["spec"]["predictor"]:
            raise SaarthiError(f"InferenceService {name}: has no spec.predictor.model to roll out")
        if service["spec"].get("canary"):
            raise SaarthiError(
                f"InferenceService {name}: has spec.canary, whose traffic KServe's standard mode "
                "does not split in every version: remove it, and roll out without a canary"
            )
        serverless = _mode(service) is Mode.SERVERLESS
        return _serverless(cluster, service) if serverless else _standard(cluster, service)
    if deployment := cluster.find(DEPLOYMENT, namespace, name):
        return Predictor(Mode.DEPLOYMENT, deployment, _deployment(deployment))
    raise SaarthiError(
        f"{name}: no InferenceService or Deployment with this name in the namespace {namespace}; "
        "give its namespace (--namespace), or apply the manifests first (kubectl apply -k)"
    )


def predictor_container(pod: Object) -> Object:
    """The predicting container of a pod, which may have sidecars from KServe or other tools."""
    containers: list[Object] = pod["containers"]
    named = (each for each in containers if each["name"] in ("kserve-container", "predictor"))
    return next(named, containers[0])


def bundle_of(template: Object) -> str:
    """URI of the bundle of a pod template, made by KServe or in a plain Deployment."""
    annotations = template["metadata"].get("annotations") or {}
    bundle: str = annotations.get(_SOURCE) or named_bundle(template["spec"])[1]
    return bundle.rstrip("/")


def named_bundle(pod: Object) -> tuple[str, str]:
    """Name with `=` (may be empty) and URI of the bundle of a plain Deployment's pod."""
    found = _NAMED.fullmatch(next(iter(predictor_container(pod).get("args") or []), ""))
    return (found[1] or "", found[2]) if found else ("", "")


def with_tag(image: str, tag: str) -> str:
    """Replace the tag or digest of an image name, and keep a registry port."""
    return re.sub(r"(:[^/@:]+)?(@[^@]+)?$", "", image, count=1) + f":{tag}"


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


def ready_pods(cluster: Cluster, namespace: str, workload: Workload) -> list[Object]:
    """Ready pods of a workload."""
    pods = cluster.select(POD, namespace, workload.selector) if workload.selector else []
    return [pod for pod in pods if condition(pod, "Ready").get("status") == "True"]


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


def _wanted(cluster: Cluster, service: Object) -> tuple[str, str]:
    """Bundle and image of an InferenceService; the image is empty if it is not known."""
    model = service["spec"]["predictor"]["model"]
    image = runtime_image(cluster, service)
    tag = model.get("runtimeVersion")
    bundle = model.get("storageUri", "").rstrip("/")
    return bundle, with_tag(image, tag) if tag and image else image


def _standard(cluster: Cluster, service: Object) -> Predictor:
    metadata, predictor = service["metadata"], service["spec"]["predictor"]
    name = "-".join(filter(None, (metadata["name"], predictor.get("name"), "predictor")))
    bundle, image = _wanted(cluster, service)
    live = cluster.find(DEPLOYMENT, metadata["namespace"], name)
    if live is None:
        found = _missing(name, bundle, image, "KServe has not made it yet")
    else:
        found = _as_wanted(_deployment(live), bundle, image)
    return Predictor(Mode.STANDARD, service, found, pending=_not_ready(service))


def _missing(name: str, bundle: str, image: str, detail: str) -> Workload:
    return Workload(name, bundle, image, "", False, detail, None, {})


def _as_wanted(found: Workload, bundle: str, image: str) -> Workload:
    """The workload; not ready while its pods still belong to another bundle or image."""
    if found.bundle == bundle and image in ("", found.image):
        return found
    wanted = f"{bundle} with {image}" if found.bundle == bundle else bundle
    detail = f"KServe has not taken over {wanted} yet"
    return replace(found, bundle=bundle, image=image, ready=False, detail=detail, failure=None)


def _deployment(live: Object) -> Workload:
    """State of a Deployment, by the rules of `kubectl rollout status`."""
    metadata, spec, status = live["metadata"], live["spec"], live.get("status") or {}
    template = spec["template"]
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
        bundle_of(template),
        predictor_container(template["spec"])["image"],
        ",".join(f"{key}={value}" for key, value in spec["selector"]["matchLabels"].items()),
        ready,
        detail,
        failure,
        live,
    )


def _serverless(cluster: Cluster, service: Object) -> Predictor:
    percent = service["spec"]["predictor"].get("canaryTrafficPercent")
    status = service.get("status", {}).get("components", {}).get("predictor", {})
    bundle, image = _wanted(cluster, service)
    latest = _revision(cluster, service, status.get("latestCreatedRevision", ""))
    if latest is None:
        latest = _missing("", bundle, image, "KServe has not made a revision yet")
    else:
        latest = _as_wanted(latest, bundle, image)
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
        live["metadata"].get("annotations", {}).get(_SOURCE, "").rstrip("/"),
        predictor_container(live["spec"])["image"],
        f"serving.knative.dev/revision={name}",
        ready.get("status") == "True",
        detail,
        reason if ready.get("status") == "False" else None,
        live,
    )


def _not_ready(service: Object) -> str | None:
    """KServe's reason if the service is not ready."""
    ready = condition(service, "Ready")
    if ready.get("status") == "True":
        return None
    said = ": ".join(filter(None, (ready.get("reason"), ready.get("message"))))
    return f"KServe: {said or 'not ready yet'}"
