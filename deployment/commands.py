"""`saarthi rollout`; it imports the cluster code when it runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from saarthi_lib.addresses import storage_uri
from saarthi_lib.errors import SaarthiError

if TYPE_CHECKING:
    from deployment.cluster import Cluster
    from deployment.comparison import Limits
    from deployment.state import Predictor

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


LimitOption = Annotated[
    list[str],
    typer.Option(
        help="Limit of the comparison: errors, latency, abstentions, requests; repeatable.",
        metavar="NAME=NUMBER",
    ),
]
PrometheusOption = Annotated[
    str | None,
    typer.Option(help="URL of Prometheus; default: metrics of the pods.", metavar="URL"),
]


def deploy(context: typer.Context) -> None:
    """Print the commands of kubectl that replace this one, and exit with 2."""
    given = [each for each in context.args if Path(each).is_dir()]
    overlay = given[0] if given else "manifests/overlays/prod/standard"
    raise SaarthiError(
        "`saarthi deploy` does not exist any more; set the bundles in the overlay's settings.yaml, "
        f"then:\n  kubectl diff -k {overlay}\n  kubectl apply -k {overlay}\n"
        "  kubectl rollout status deployment/nlu-predictor   # without KServe: deployment/nlu\n"
        "Later versions: saarthi rollout nlu --bundle URI"
    )


def rollout(
    name: Annotated[str, typer.Argument(help="Predictor, such as nlu.", metavar="NAME")],
    bundle: Annotated[str | None, typer.Option(help="Bundle to roll out.", metavar="URI")] = None,
    tag: Annotated[str | None, typer.Option(help="Tag of the image to roll out.")] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="End the canary, or return to the version before.")
    ] = False,
    write: Annotated[
        Path | None,
        typer.Option(help="Write a kustomize patch; change nothing in the cluster.", metavar="DIR"),
    ] = None,
    percent: Annotated[
        int, typer.Option(min=1, max=99, help="Percent of the traffic for a canary.")
    ] = 10,
    watch: Annotated[
        float, typer.Option(min=0, help="Seconds to compare a canary with the stable version.")
    ] = 300,
    limit: LimitOption = [],  # noqa: B006
    prometheus: PrometheusOption = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to become ready.")] = 300,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Default: the context's.")
    ] = None,
    context: Annotated[
        str | None, typer.Option(help="Context of the kubeconfig; default: the current one.")
    ] = None,
) -> None:
    """Roll a bundle out on a cluster, watch it, and return to the old version if it fails.

    KServe's standard mode and a plain Deployment replace pod by pod. With Knative, a canary gets a
    part of the traffic, is compared, and then gets all. By default it may have 0.01 more errors,
    0.05 more abstentions and 1.5 times the p95 latency, after 50 requests. The same command
    continues an interrupted roll-out. Without --bundle, --tag or --undo, it shows the state. It
    exits with 1 after a canary that was worse.

    Examples:

      saarthi rollout nlu --bundle gs://my-bucket/bundles/nlu/0.2.0

      saarthi rollout nlu --bundle gs://my-bucket/bundles/nlu/0.2.0 --write clusters/prod/nlu

      saarthi rollout nlu --bundle gs://my-bucket/bundles/nlu/0.2.0 --percent 50 --limit latency=2

      saarthi rollout nlu --undo
    """
    cluster, predictor = _predictor(name, namespace, context)
    if undo and (bundle or tag):
        raise SaarthiError("--undo: cannot be given with --bundle or --tag")
    if not (undo or bundle or tag):
        console.print(f"{predictor.mode} {predictor.progress}", markup=False, soft_wrap=True)
        return
    comparison = (watch, _limits(limit), prometheus)
    if write:
        _write(cluster, predictor, write, bundle, tag, undo, percent, comparison)
    elif undo:
        _undo(cluster, predictor, timeout, yes)
    else:
        _roll_out(cluster, predictor, bundle, tag, percent, comparison, timeout, yes)


def _roll_out(
    cluster: "Cluster",
    predictor: "Predictor",
    bundle: str | None,
    tag: str | None,
    percent: int,
    comparison: "tuple[float, Limits, str | None]",
    timeout: float,
    yes: bool,
) -> None:
    from deployment.rollout import judge, promote, start

    _ask(f"{predictor.mode} {predictor.name}: roll out {bundle or tag}?", yes)
    now = start(cluster, predictor, bundle, tag, percent, timeout, _show)
    if now.canary and comparison[0]:
        try:
            against = judge(cluster, now, *comparison, _show)
        except KeyboardInterrupt:
            errors.print(
                "the canary stays, without a comparison; the same command continues, and "
                f"`saarthi rollout {now.name} --undo` ends it",
                soft_wrap=True,
            )
            raise
        if against:
            errors.print(against, style="bold red", markup=False, soft_wrap=True)
            raise typer.Exit(1)
    now = promote(cluster, now, None, timeout, _show)
    is_plain, is_serverless = (now.mode == each for each in ("deployment", "serverless"))
    running = now.stable.bundle if is_plain else storage_uri(now.stable.bundle)
    # Knative keeps no history.
    back = f"--bundle {predictor.stable.bundle}" if is_serverless else "--undo"
    console.print(
        f"{now.name}: {running} has all the traffic; put it into the overlay's settings.yaml for "
        f"the next apply\nback: saarthi rollout {now.name} {back}",
        soft_wrap=True,
        markup=False,
    )


def _undo(cluster: "Cluster", predictor: "Predictor", timeout: float, yes: bool) -> None:
    from deployment.rollout import undo

    _ask(f"return {predictor.name} from {predictor.workloads[-1].bundle}?", yes)
    console.print(
        f"{predictor.name}: back to {undo(cluster, predictor, timeout, _show)}",
        soft_wrap=True,
        markup=False,
    )


def _write(
    cluster: "Cluster",
    predictor: "Predictor",
    folder: Path,
    bundle: str | None,
    tag: str | None,
    undo: bool,
    percent: int,
    comparison: "tuple[float, Limits, str | None]",
) -> None:
    """Write the next change of a roll-out for git: its start, promotion, or end."""
    from deployment.bundles import checked_bundle
    from deployment.change import MINIMUM, version_change, write_patch
    from deployment.platform import check_platform
    from deployment.rollout import compare, least_pods, start_change, undo_change

    bundle = bundle and checked_bundle(bundle, predictor.mode, _show)
    check_platform(cluster, predictor, _show)
    against = ""
    if undo:
        change = undo_change(cluster, predictor)
    elif predictor.canary and not predictor.ended:
        start_change(cluster, predictor, bundle, tag, percent)  # refuses another bundle's
        against = compare(cluster, predictor, *comparison, _show) if comparison[0] else ""
        change = (
            undo_change(cluster, predictor) if against else version_change(predictor, bundle, tag)
        )
    else:
        change = start_change(cluster, predictor, bundle, tag, percent)
    if predictor.canary:  # fewer pods would make another revision, with fewer pods than now
        change[MINIMUM] = least_pods(predictor)
    if not change:
        console.print(f"{predictor.progress}; nothing to write", markup=False, soft_wrap=True)
        return
    file = write_patch(folder, predictor, change)
    console.print(f"{file}: written; commit it", markup=False, soft_wrap=True)
    if against:
        errors.print(f"the canary is worse: {against}", markup=False, soft_wrap=True)
        raise typer.Exit(1)


def _limits(given: list[str]) -> "Limits":
    from deployment.rollout import limits_from

    numbers = {}
    for each in given:
        name, _, number = each.partition("=")
        try:
            numbers[name] = float(number)
        except ValueError:
            raise SaarthiError(f"--limit {each}: must be of the form NAME=NUMBER") from None
    return limits_from(numbers)


def _predictor(
    name: str, namespace: str | None, context: str | None
) -> "tuple[Cluster, Predictor]":
    try:
        from deployment.cluster import Cluster
    except ModuleNotFoundError as error:
        raise SaarthiError(
            f"{error.name} is needed for a cluster: pip install 'saarthi[deploy]'"
        ) from error
    from deployment.state import read_predictor

    cluster = Cluster(context, namespace)
    return cluster, read_predictor(cluster, name, cluster.namespace)


def _show(line: str) -> None:
    errors.print(line, style="dim", markup=False, soft_wrap=True)


def _ask(question: str, yes: bool) -> None:
    """Ask before a change; exit with 1 unless the answer is yes."""
    if not yes and not typer.confirm(question, err=True):
        errors.print("nothing was changed")
        raise typer.Exit(1)
