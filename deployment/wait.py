"""Wait until predictors are ready, and give the reasons if they are not."""

import time
from collections.abc import Callable, Iterator

from deployment.cluster import Cluster, Object
from deployment.state import EVENT, POD, Predictor, Workload, read_predictor, ready_pods
from saarthi_lib.errors import SaarthiError

POLL_SECONDS = 0.5
_EVENTS = 5  # latest events of a workload's pods

Show = Callable[[str], None]


def wait_until_settled(
    cluster: Cluster, names: list[tuple[str, str]], seconds: float, show: Show
) -> list[Predictor]:
    """Wait until predictors match their specification.

    Args:
        cluster: cluster of the predictors.
        names: names and namespaces.
        seconds: longest time to wait.
        show: function that gets a line after each progress of a predictor.

    Raises:
        SaarthiError: a predictor failed or was not ready in time; with the known reasons.
    """
    end = time.monotonic() + seconds
    shown: dict[tuple[str, str], str] = {}
    while True:
        found = [read_predictor(cluster, *each) for each in names]
        for predictor in found:
            key = (predictor.name, predictor.namespace)
            if shown.get(key) != predictor.progress:
                shown[key] = predictor.progress
                show(predictor.progress)
        waiting = [each for each in found if not each.settled]
        if not waiting:
            return found
        for predictor in waiting:
            for workload in predictor.workloads:
                if workload.failure and not workload.ready:
                    raise _failed(cluster, [predictor], f"{predictor.name} has failed")
        if time.monotonic() >= end:
            late = ", ".join(each.name for each in waiting)
            raise _failed(cluster, waiting, f"not ready within {seconds:g} s: {late}")
        time.sleep(POLL_SECONDS)


def wait_until_ready_pods(
    cluster: Cluster, predictor: Predictor, least: int, seconds: float, show: Show
) -> None:
    """Wait until a canary has some number of ready pods.

    Raises:
        SaarthiError: it has fewer after this time.
    """
    canary = predictor.workloads[-1]
    end, shown = time.monotonic() + seconds, -1
    while (ready := len(ready_pods(cluster, predictor.namespace, canary))) < least:
        if ready != shown:
            show(f"{predictor.name}: canary {canary.version}: {ready} of {least} pods ready")
            shown = ready
        if time.monotonic() >= end:
            what = f"{predictor.name}: the canary has {ready} ready pods, but {least} are needed"
            raise _failed(cluster, [predictor], what)
        time.sleep(POLL_SECONDS)


def _failed(cluster: Cluster, predictors: list[Predictor], what: str) -> SaarthiError:
    reasons = [line for each in predictors for line in reasons_of(cluster, each)]
    return SaarthiError("\n  ".join([what, *dict.fromkeys(reasons)]))


def reasons_of(cluster: Cluster, predictor: Predictor) -> Iterator[str]:
    """Reasons why a predictor is not ready: progress, conditions, pods and their events."""
    yield predictor.progress
    status = predictor.document.get("status") or {}
    for each in status.get("conditions") or []:
        if each["status"] != "True" and each.get("message"):
            yield f"{each['type']}: {each.get('reason', '')}: {each['message']}"
    if failure := status.get("modelStatus", {}).get("lastFailureInfo"):
        yield f"model: {failure.get('reason', '')}: {failure.get('message', '')}"
    for workload in predictor.workloads:
        if not workload.ready and workload.selector:
            yield from _of_pods(cluster, predictor.namespace, workload)


def _of_pods(cluster: Cluster, namespace: str, workload: Workload) -> Iterator[str]:
    pods = {
        pod["metadata"]["name"]: pod for pod in cluster.select(POD, namespace, workload.selector)
    }
    for name, pod in pods.items():
        status = pod.get("status") or {}
        for kind in ("initContainerStatuses", "containerStatuses"):
            for container in status.get(kind) or []:
                if said := _of_container(container):
                    yield f"pod {name}, {container['name']}: {said}"
    warnings = cluster.select(EVENT, namespace, fields="type=Warning,involvedObject.kind=Pod")
    warnings = [each for each in warnings if each["involvedObject"]["name"] in pods]
    warnings.sort(key=lambda each: each.get("lastTimestamp") or each.get("eventTime") or "")
    for each in warnings[-_EVENTS:]:
        where = each["involvedObject"]["name"]
        yield f"event of pod {where}: {each['reason']}: {each['message']}"


def _of_container(container: Object) -> str:
    """Reason why a container is not running, and its last exit."""
    waiting = container.get("state", {}).get("waiting") or {}
    ended = container.get("lastState", {}).get("terminated") or {}
    if not waiting.get("message") and not ended:
        return ""
    said = [f"{waiting.get('reason', '')} {waiting.get('message', '')}".strip()]
    if ended:
        message = (ended.get("message") or "").strip()
        said.append(f"ended with exit code {ended['exitCode']}: {message or ended.get('reason')}")
    return "; ".join(filter(None, said))
