"""Roll-outs: a rolling update, or in serverless mode a canary that is compared and promoted.

Each step can be repeated, because it does nothing if its work is done. A pipeline's tasks and the
command line run the same steps.
"""

from collections.abc import Mapping
from typing import Any

from deployment.bundles import checked_bundle
from deployment.change import MINIMUM, PERCENT, Change, operations, version_change
from deployment.cluster import Cluster, Object
from deployment.comparison import Limits, source_of, watch
from deployment.platform import check_platform
from deployment.state import (
    Mode,
    Predictor,
    bundle_of,
    predictor_container,
    read_predictor,
    ready_pods,
    runtime_image,
    tag_of,
)
from deployment.wait import Show, wait_until_ready_pods, wait_until_settled
from saarthi_lib.errors import SaarthiError

LIMITS = Limits(errors=0.01, latency=1.5, abstentions=0.05, requests=50)
REPLICA_SET = ("apps/v1", "ReplicaSet")
_REVISION_NUMBER = "deployment.kubernetes.io/revision"


def limits_from(given: Mapping[str, Any]) -> Limits:
    """Limits of a comparison; those that are not given keep their defaults.

    Raises:
        SaarthiError: a limit is unknown.
    """
    if unknown := set(given) - set(vars(LIMITS)):
        raise SaarthiError(
            f"limits of the canary: {', '.join(sorted(unknown))} unknown; the limits are "
            f"{', '.join(vars(LIMITS))}"
        )
    return Limits(**{**vars(LIMITS), **given})


def start_change(
    cluster: Cluster, predictor: Predictor, bundle: str | None, tag: str | None, percent: int
) -> Change:
    """Make the change that starts a roll-out; empty if it is running or done already.

    A canary starts with as many pods as the stable version has, so that its promotion does not
    lose any.

    Raises:
        SaarthiError: another canary is running.
    """
    canary = predictor.canary
    if canary and not predictor.ended:
        if _is(canary.bundle, canary.image, bundle, tag):
            return {PERCENT: percent} if percent != predictor.percent else {}
        raise SaarthiError(
            f"{predictor.name}: a canary of {canary.bundle} is running; end it first: "
            f"`saarthi rollout {predictor.name} --undo`"
        )
    if _is(predictor.stable.bundle, predictor.stable.image, bundle, tag):
        return {}
    change = version_change(predictor, bundle, tag)
    if predictor.mode is Mode.SERVERLESS:
        change[PERCENT] = percent
        ready = len(ready_pods(cluster, predictor.namespace, predictor.stable))
        if ready > least_pods(predictor):
            change[MINIMUM] = ready
    return change


def start(
    cluster: Cluster,
    predictor: Predictor,
    bundle: str | None,
    tag: str | None,
    percent: int,
    seconds: float,
    show: Show,
) -> Predictor:
    """Start a roll-out, or find it running, and wait; return to the old version if it fails.

    Args:
        cluster: cluster of the predictor.
        predictor: predictor to change.
        bundle: new bundle; None keeps it.
        tag: new tag of the image; None keeps it.
        percent: traffic of a canary, which only the serverless mode has.
        seconds: longest time to wait.
        show: function that gets a line after each progress.

    Raises:
        SaarthiError: the new version was not ready in time, and the old one was restored; or
            the roll-out cannot start, as with a bundle that the predictor cannot fetch.
    """
    bundle = bundle and checked_bundle(bundle, predictor.mode, show)
    check_platform(cluster, predictor, show)
    change = start_change(cluster, predictor, bundle, tag, percent)
    if change and predictor.canary is None and not predictor.settled:
        raise SaarthiError(f"{predictor.progress}: let it become ready before a roll-out")
    _patch(cluster, predictor, change)
    try:
        [now] = wait_until_settled(cluster, [(predictor.name, predictor.namespace)], seconds, show)
    except SaarthiError as error:
        try:
            end = f"returned to {undo(cluster, reread(cluster, predictor), seconds, show)}"
        except SaarthiError as failure:
            end = f"not undone: {failure}"
        raise SaarthiError(f"{error}\n  {end}") from error
    return now


def compare(
    cluster: Cluster,
    predictor: Predictor,
    seconds: float,
    limits: Limits,
    prometheus: str | None,
    show: Show,
) -> str:
    """Compare a canary with the stable version; returns the reasons against it, or nothing."""
    try:
        source = source_of(cluster, predictor, prometheus)
        verdict = watch(cluster, predictor, source, limits, seconds, show)
    except SaarthiError as error:
        return str(error)
    if verdict.enough:
        return "; ".join(verdict.missed)
    return (
        f"too few requests to compare: stable {verdict.stable.requests}, canary "
        f"{verdict.canary.requests}, but each needs {limits.requests}"
    )


def judge(
    cluster: Cluster,
    predictor: Predictor,
    seconds: float,
    limits: Limits,
    prometheus: str | None,
    show: Show,
) -> str:
    """Compare a running canary with the stable version, and end it if it is worse.

    Returns:
        Reasons for the end; empty for a canary within the limits, and without a canary.
    """
    if predictor.canary is None:
        show(f"{predictor.name}: no traffic is split, so there is nothing to compare")
        return ""
    against = compare(cluster, predictor, seconds, limits, prometheus, show)
    if not against:
        return ""
    if (now := reread(cluster, predictor)).canary:
        undo(cluster, now, max(seconds, 60), show)
    return f"canary of {predictor.name} rolled back: {against}"


def promote(
    cluster: Cluster, predictor: Predictor, bundle: str | None, seconds: float, show: Show
) -> Predictor:
    """Give a canary all the traffic, once it has as many ready pods as it started for.

    Without a canary there is nothing to do, except to remove a share of traffic that is left.

    Raises:
        SaarthiError: another bundle is running, or the canary was not ready in time.
    """
    if bundle and bundle.rstrip("/") != (running := predictor.workloads[-1].bundle):
        raise SaarthiError(f"{predictor.name}: {running} is running, not {bundle}")
    if predictor.canary:
        least = least_pods(predictor)
        wait_until_ready_pods(cluster, predictor, least, seconds, show)
    if predictor.mode is Mode.SERVERLESS:
        _patch(cluster, predictor, {PERCENT: None})
    [now] = wait_until_settled(cluster, [(predictor.name, predictor.namespace)], seconds, show)
    return now


def undo_change(cluster: Cluster, predictor: Predictor) -> Change:
    """Make the change to the version before: without the canary, or by the Deployment's history.

    Raises:
        SaarthiError: no earlier version is known.
    """
    if predictor.mode is Mode.SERVERLESS:
        if predictor.canary is None:
            raise SaarthiError(
                f"{predictor.name}: no canary is running; to return to an earlier bundle, roll "
                f"it out: `saarthi rollout {predictor.name} --bundle URI`"
            )
        stable = predictor.stable
        tag = _own_tag(cluster, predictor, stable.image)
        # Without a share, Knative would give a bad candidate all the traffic until the stable
        # bundle has a new revision.
        share = None if predictor.ended else 0
        return {PERCENT: share} | version_change(predictor, stable.bundle, tag)
    earlier = _earlier(cluster, predictor)
    image = predictor_container(earlier["spec"])["image"]
    return version_change(predictor, bundle_of(earlier), _own_tag(cluster, predictor, image))


def undo(cluster: Cluster, predictor: Predictor, seconds: float, show: Show) -> str:
    """Return to the version before, and wait; returns its bundle.

    Of a canary, the traffic goes back first. Then the stable bundle becomes the latest revision
    too, so that the specification matches the running revision.

    Raises:
        SaarthiError: no earlier version is known, or it was not ready in time.
    """
    where = [(predictor.name, predictor.namespace)]
    change = undo_change(cluster, predictor)
    if predictor.canary:
        _patch(cluster, predictor, {PERCENT: 0})
        show(f"{predictor.name}: all traffic goes to {predictor.stable.version} again")
    _patch(cluster, predictor, change)
    [now] = wait_until_settled(cluster, where, seconds, show)
    if predictor.canary:
        _patch(cluster, now, {PERCENT: None})
        [now] = wait_until_settled(cluster, where, seconds, show)
    return now.stable.bundle


def reread(cluster: Cluster, predictor: Predictor) -> Predictor:
    """The predictor's state now."""
    return read_predictor(cluster, predictor.name, predictor.namespace)


def _patch(cluster: Cluster, predictor: Predictor, change: Change) -> None:
    if steps := operations(predictor.document, change):
        cluster.patch(predictor.document, steps)


def _is(bundle: str, image: str, wanted: str | None, tag: str | None) -> bool:
    return (wanted or bundle).rstrip("/") == bundle and tag in (None, tag_of(image))


def least_pods(predictor: Predictor) -> int:
    """Pods that a serverless predictor always has; KServe's default is 1."""
    return int(predictor.document["spec"]["predictor"].get("minReplicas", 1))


def _own_tag(cluster: Cluster, predictor: Predictor, image: str) -> str:
    """Tag to set for an image; empty if it is the one of KServe's runtime."""
    tag = tag_of(image)
    if predictor.mode is Mode.DEPLOYMENT:
        return tag
    return "" if tag == tag_of(runtime_image(cluster, predictor.document)) else tag


def _earlier(cluster: Cluster, predictor: Predictor) -> Object:
    """Pod template of the latest ReplicaSet with another bundle or image than the wanted one.

    KServe restores a Deployment that `kubectl rollout undo` has changed, so that the earlier
    version must be put into the InferenceService.
    """
    stable = predictor.stable
    uid = stable.document.get("metadata", {}).get("uid")
    found = [
        each
        for each in cluster.select(REPLICA_SET, predictor.namespace, stable.selector)
        if any(own["uid"] == uid for own in each["metadata"].get("ownerReferences", []))
    ]
    for each in sorted(found, key=_number, reverse=True):
        template: Object = each["spec"]["template"]
        image = predictor_container(template["spec"])["image"]
        if (bundle_of(template), image) != (stable.bundle, stable.image or image):
            return template
    raise SaarthiError(f"{predictor.name}: its history has no other version to return to")


def _number(document: Object) -> int:
    return int(document["metadata"].get("annotations", {}).get(_REVISION_NUMBER, 0))
