"""An unattended canary: the part of `saarthi rollout` that a pipeline runs.

Each step can be repeated; it does nothing if its work is already done.
"""

from collections.abc import Mapping
from typing import Any

from deployment.cluster import Cluster
from deployment.comparison import Limits, source_of, watch
from deployment.rollout import canary_change, end_canary, promote, reread
from deployment.state import Predictor, read_predictor
from deployment.trial import refuse_trials
from deployment.wait import Show, wait_until_settled
from saarthi_lib.errors import SaarthiError

LIMITS = Limits(errors=0.01, latency=1.5, abstentions=0.05, requests=50)


def begin_canary(
    name: str, namespace: str, bundle: str, percent: int, seconds: float, show: Show
) -> None:
    """Send a part of a predictor's traffic to a bundle and wait; roll back if it fails to start.

    Raises:
        SaarthiError: the predictor does not exist or does not support canaries, the canary was not
            ready in time, or the bundle comes from a trial run.
    """
    cluster = Cluster(namespace=namespace)
    predictor = read_predictor(cluster, name, namespace)
    if predictor.canary is None and predictor.stable.bundle == bundle:
        show(f"{name}: {bundle} is stable already")
        return
    change = canary_change(predictor, bundle, None, percent)
    refuse_trials([bundle], show)
    cluster.patch(predictor.document, change)
    try:
        wait_until_settled(cluster, [(name, namespace)], seconds, show)
    except SaarthiError:
        _roll_back(cluster, predictor, seconds, show)
        raise


def judge_canary(
    name: str,
    namespace: str,
    seconds: float,
    limits: Mapping[str, Any],
    prometheus: str,
    show: Show,
) -> str:
    """Compare a canary with the stable version; roll back if it is worse or cannot be judged.

    Args:
        name: predictor name.
        namespace: namespace of the predictor.
        seconds: duration of the comparison.
        limits: fields of `Limits` that differ from the defaults.
        prometheus: URL of Prometheus; empty: read the pods' metrics.
        show: callback for progress messages.

    Returns:
        Reasons for the rollback; empty if the canary meets the limits.

    Raises:
        SaarthiError: a limit is unknown.
    """
    if unknown := set(limits) - set(vars(LIMITS)):
        raise SaarthiError(
            f"limits of the canary: {', '.join(sorted(unknown))} unknown; the limits are "
            f"{', '.join(vars(LIMITS))}"
        )
    bounds = Limits(**{**vars(LIMITS), **limits})
    cluster = Cluster(namespace=namespace)
    predictor = read_predictor(cluster, name, namespace)
    if predictor.canary is None:
        show(f"{name}: no canary is running to compare")
        return ""
    source = source_of(cluster, predictor, prometheus)
    try:
        verdict = watch(cluster, predictor, source, bounds, seconds, show)
        against = "; ".join(verdict.missed)
        if not verdict.enough:
            against = (
                f"too few requests to compare: stable {verdict.stable.requests}, canary "
                f"{verdict.canary.requests}, but each needs {bounds.requests}"
            )
    except SaarthiError as error:
        against = str(error)
    if against:
        _roll_back(cluster, predictor, seconds, show)
        return f"canary of {name} rolled back: {against}"
    return ""


def promote_bundle(name: str, namespace: str, bundle: str, seconds: float, show: Show) -> None:
    """Make a bundle's canary the stable version.

    Raises:
        SaarthiError: a canary of this bundle is not running, or was not ready in time.
    """
    cluster = Cluster(namespace=namespace)
    predictor = read_predictor(cluster, name, namespace)
    if predictor.canary is None and predictor.stable.bundle == bundle:
        show(f"{name}: {bundle} is stable already")
        return
    if predictor.canary and predictor.canary.bundle != bundle:
        raise SaarthiError(
            f"{name}: a canary of {predictor.canary.bundle} is running, not of {bundle}"
        )
    promote(cluster, predictor)
    wait_until_settled(cluster, [(name, namespace)], seconds, show)
    show(f"{name}: {bundle} has all the traffic")


def _roll_back(cluster: Cluster, predictor: Predictor, seconds: float, show: Show) -> None:
    now = reread(cluster, predictor)
    if now.canary is None:
        return
    end_canary(cluster, now, seconds, show)
    wait_until_settled(cluster, [(now.name, now.namespace)], seconds, show)
