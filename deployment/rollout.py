"""Roll-outs: a candidate next to the stable version, promoted or removed.

Each step patches only its own fields; all other fields come from the overlay.
"""

from deployment.cluster import Cluster, Object
from deployment.overlay import predictor_container
from deployment.state import Mode, Predictor, Workload, read_predictor, runtime_image, tag_of
from deployment.wait import Show, wait_until_settled
from saarthi_lib.errors import SaarthiError

REPLICA_SET = ("apps/v1", "ReplicaSet")
_REVISION_NUMBER = "deployment.kubernetes.io/revision"
# A candidate has its own pods under its own name, and keeps the name when it is promoted.
_CANDIDATES = ("candidate", "candidate-2")
# A promoted candidate takes over the scaling of the stable version.
_SCALING = {"minReplicas", "maxReplicas", "scaleTarget", "scaleMetric"}


def canary_change(
    predictor: Predictor, bundle: str | None, tag: str | None, percent: int
) -> Object:
    """Make the patch that starts a canary, or changes the traffic of a running one.

    Args:
        predictor: predictor to change.
        bundle: bundle of the candidate; None: the bundle of the running canary.
        tag: tag of the candidate's image; None: the tag of the stable version.
        percent: traffic of the canary.

    Raises:
        SaarthiError: the predictor is not on KServe, so it cannot split traffic; or another canary
            is running.
    """
    spec, canary = predictor.document["spec"], predictor.canary
    if predictor.mode is Mode.DEPLOYMENT:
        raise SaarthiError(
            f"{predictor.name} is a plain Deployment, which cannot split traffic: a canary needs "
            "KServe (overlays standard or serverless); here `saarthi deploy` rolls out all at "
            "once, and `saarthi rollout rollback` returns"
        )
    if canary and (tag or bundle not in (None, canary.bundle)):
        raise SaarthiError(
            f"{predictor.name}: a canary of {canary.bundle} is running; end it first: `saarthi "
            f"rollout promote {predictor.name}` or `saarthi rollout rollback {predictor.name}`"
        )
    if canary is None and bundle is None and tag is None:
        raise SaarthiError(f"{predictor.name}: no canary is running; start one with --bundle URI")
    if canary is None and not predictor.settled:
        raise SaarthiError(f"{predictor.progress}: let it become ready before a canary")
    if predictor.mode is Mode.SERVERLESS:
        change: Object = {"canaryTrafficPercent": percent}
        if canary is None:
            change["model"] = _model(bundle or predictor.stable.bundle, tag)
        return {"spec": {"predictor": change}}
    if canary:
        entry = {**spec["canary"][0], "trafficPercent": percent}
    else:
        stable = spec["predictor"]
        model = {
            "name": "",  # the schema requires it for a canary
            "modelFormat": stable["model"]["modelFormat"],
            **_model(bundle or predictor.stable.bundle, tag),
        }
        name = next(each for each in _CANDIDATES if each != stable.get("name"))
        entry = {"trafficPercent": percent, "predictor": {"name": name, "model": model}}
    return {"spec": {"canary": [entry]}}


def promote(cluster: Cluster, predictor: Predictor) -> None:
    """Make the canary the stable version, with all the traffic.

    In standard mode its pods keep running: the stable predictor takes their name.

    Raises:
        SaarthiError: no canary is running, or it is not ready.
    """
    spec = predictor.document["spec"]
    # Without a stable revision it has all the traffic already; only its share is left to remove.
    alone = predictor.canary is None and "canaryTrafficPercent" in spec["predictor"]
    if not alone and not _canary(predictor).ready:
        raise SaarthiError(f"{predictor.progress}: only a canary that is ready is promoted")
    change: Object
    if predictor.mode is Mode.SERVERLESS:
        change = {"predictor": {"canaryTrafficPercent": None}}
    else:
        candidate = spec["canary"][0]["predictor"]
        stable = {key: value for key, value in candidate.items() if key not in _SCALING}
        stable["model"] = {key: value for key, value in stable["model"].items() if value != ""}
        change = {"predictor": stable, "canary": None}
    cluster.patch(predictor.document, {"spec": change})


def end_canary(cluster: Cluster, predictor: Predictor, seconds: float, show: Show) -> None:
    """Remove the canary; the unchanged stable version gets all the traffic again.

    In serverless mode, the traffic returns first. Then the stable bundle becomes the latest
    revision too, so that the specification matches the running revision.

    Raises:
        SaarthiError: a canary is not running, or the last revision was not ready in time.
    """
    _canary(predictor)
    service = predictor.document
    if predictor.mode is Mode.STANDARD:
        cluster.patch(service, {"spec": {"canary": None}})
        return
    where = [(predictor.name, predictor.namespace)]
    tag = tag_of(predictor.stable.image)
    own = None if tag == tag_of(runtime_image(cluster, service)) else tag
    model = {"storageUri": predictor.stable.bundle, "runtimeVersion": own}
    cluster.patch(service, {"spec": {"predictor": {"canaryTrafficPercent": 0}}})
    show(f"{predictor.name}: all traffic goes to {predictor.stable.version} again")
    cluster.patch(service, {"spec": {"predictor": {"model": model}}})
    wait_until_settled(cluster, where, seconds, show)
    cluster.patch(service, {"spec": {"predictor": {"canaryTrafficPercent": None}}})


def go_back(cluster: Cluster, predictor: Predictor, bundle: str | None) -> str:
    """Roll out an earlier bundle without a canary; returns its URI.

    A plain Deployment keeps its history: the previous revision, or the last one of a bundle,
    returns with its whole pod. KServe keeps no history that can be queried.

    Args:
        cluster: cluster of the predictor.
        predictor: predictor to change.
        bundle: earlier bundle; None: the previous revision of a plain Deployment.

    Raises:
        SaarthiError: the revision does not exist, or KServe needs the name of a bundle.
    """
    if predictor.mode is not Mode.DEPLOYMENT:
        if bundle is None:
            raise SaarthiError(
                f"{predictor.name}: no canary is running; name the bundle to return to: --to URI"
            )
        cluster.patch(
            predictor.document, {"spec": {"predictor": {"model": {"storageUri": bundle}}}}
        )
        return bundle
    history = _history(cluster, predictor)
    if bundle is not None:
        history = [each for each in history if _bundle(each) == bundle]
    if not history:
        wanted = f"of {bundle}" if bundle else "before this one"
        raise SaarthiError(f"{predictor.name}: its history has no revision {wanted}")
    template = history[-1]["spec"]["template"]
    template["metadata"]["labels"].pop("pod-template-hash", None)
    replaced = {"op": "replace", "path": "/spec/template", "value": template}
    cluster.patch(predictor.document, [replaced])
    return _bundle(history[-1])


def reread(cluster: Cluster, predictor: Predictor) -> Predictor:
    """The predictor's state now."""
    return read_predictor(cluster, predictor.name, predictor.namespace)


def _canary(predictor: Predictor) -> Workload:
    if predictor.canary is None:
        raise SaarthiError(f"{predictor.name}: no canary is running")
    return predictor.canary


def _model(bundle: str, tag: str | None) -> Object:
    return {"storageUri": bundle} | ({"runtimeVersion": tag} if tag else {})


def _history(cluster: Cluster, predictor: Predictor) -> list[Object]:
    """ReplicaSets of a Deployment's earlier revisions, the latest last."""
    metadata = predictor.document["metadata"]
    current = _number(predictor.document)
    found = [
        each
        for each in cluster.select(REPLICA_SET, predictor.namespace, predictor.stable.selector)
        if any(own["uid"] == metadata["uid"] for own in each["metadata"].get("ownerReferences", []))
        and _number(each) != current
    ]
    return sorted(found, key=_number)


def _number(document: Object) -> int:
    return int(document["metadata"].get("annotations", {}).get(_REVISION_NUMBER, 0))


def _bundle(replica_set: Object) -> str:
    arguments = predictor_container(replica_set["spec"]["template"]["spec"]).get("args") or [""]
    return str(arguments[0])
