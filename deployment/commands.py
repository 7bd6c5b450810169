"""`saarthi deploy` and `saarthi rollout`; each command imports the cluster code when it runs."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from deployment import screen
from saarthi_lib.errors import SaarthiError

if TYPE_CHECKING:
    from deployment.cluster import Cluster
    from deployment.comparison import Limits, Source
    from deployment.smoke import Utterance
    from deployment.state import Predictor

rollout = typer.Typer(
    help="Roll a predictor's bundle out and back on a cluster.", no_args_is_help=True
)

NameArgument = Annotated[str, typer.Argument(help="Predictor, such as nlu.", metavar="NAME")]
NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Default: the context's.")
]
ContextOption = Annotated[
    str | None, typer.Option(help="Context of the kubeconfig; default: the current one.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
TimeoutOption = Annotated[float, typer.Option(min=1, help="Seconds to become ready.")]
BundlesOption = Annotated[
    list[str], typer.Option(help="Another bundle: NAME=URI; repeatable.", metavar="NAME=URI")
]
UtterancesOption = Annotated[
    list[str], typer.Option(help="Ask this utterance afterwards; repeatable.", metavar="TEXT")
]
UrlsOption = Annotated[
    list[str],
    typer.Option(help="URL to ask, for all or by name; repeatable.", metavar="[NAME=]URL"),
]


def deploy(
    overlay: Annotated[Path, typer.Argument(help="Overlay of the manifests.", metavar="OVERLAY")],
    bundle: BundlesOption = [],  # noqa: B006
    tag: Annotated[str | None, typer.Option(help="Another tag of the images.")] = None,
    yes: YesOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the difference.")] = False,
    timeout: TimeoutOption = 300,
    smoke: UtterancesOption = [],  # noqa: B006
    smoke_file: Annotated[
        Path | None, typer.Option(help="One utterance a line; tab and expected label are optional.")
    ] = None,
    url: UrlsOption = [],  # noqa: B006
    context: ContextOption = None,
) -> None:
    """Render an overlay, show its changes to the cluster, apply it, wait, and test it.

    Exits with 1 if an utterance gets a wrong answer.

    Examples:

      saarthi deploy manifests/overlays/prod/standard --dry-run

      saarthi deploy manifests/overlays/prod/standard --bundle nlu=gs://my-bucket/bundles/nlu/0.2.0

      saarthi deploy manifests/overlays/dev/deployment --yes --smoke "turn on the lights"
    """
    from deployment.overlay import bundle_of, is_predictor, override, render
    from deployment.smoke import read_utterances
    from deployment.trial import refuse_trials

    utterances = read_utterances(smoke, smoke_file)
    urls = dict(_url(each) for each in url)
    objects = override(render(overlay), dict(_named(each) for each in bundle), tag)
    refuse_trials(map(bundle_of, filter(is_predictor, objects)), screen.show)
    cluster = _cluster(context, None)
    objects = cluster.placed(objects)
    if not _apply(cluster, objects, yes, dry_run):
        return
    names = [
        (each["metadata"]["name"], each["metadata"]["namespace"])
        for each in objects
        if is_predictor(each)
    ]
    passed = [
        _try(cluster, each, utterances, urls.get(each.name, urls.get("")))
        for each in _settled(cluster, names, timeout)
        if utterances
    ]
    if not all(passed):
        raise typer.Exit(1)


@rollout.command("canary")
def canary(
    name: NameArgument,
    percent: Annotated[
        int, typer.Option(min=0, max=99, help="Percent of the traffic for the canary.")
    ] = 10,
    bundle: Annotated[
        str | None,
        typer.Option(help="Bundle of a new canary; not for a running one.", metavar="URI"),
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Another tag of its image.")] = None,
    watch: Annotated[
        float, typer.Option(min=0, help="Seconds to compare the canary with the stable version.")
    ] = 300,
    max_error_increase: Annotated[
        float, typer.Option(min=0, help="Limit on its error rate minus the stable one's.")
    ] = 0.01,
    max_latency_ratio: Annotated[
        float, typer.Option(min=0, help="Limit on its p95 latency divided by the stable one's.")
    ] = 1.5,
    max_abstention_increase: Annotated[
        float, typer.Option(min=0, help="Limit on its abstention rate minus the stable one's.")
    ] = 0.05,
    min_requests: Annotated[
        int, typer.Option(min=1, help="Requests that each version needs for a comparison.")
    ] = 50,
    prometheus: Annotated[
        str | None,
        typer.Option(help="URL of Prometheus; default: metrics of the pods.", metavar="URL"),
    ] = None,
    timeout: TimeoutOption = 300,
    yes: YesOption = False,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
) -> None:
    """Send part of the traffic to a candidate, compare it, and roll back if it is worse.

    Without --bundle, changes the traffic of the running canary. Exits with 0 if the canary meets
    the limits, and with 1 if it was rolled back or got too few requests to compare (it then stays).

    Examples:

      saarthi rollout canary nlu --bundle gs://my-bucket/bundles/nlu/0.2.0 --percent 10

      saarthi rollout canary nlu --percent 50 --watch 600 --prometheus http://localhost:9090
    """
    from deployment.comparison import Limits, source_of
    from deployment.rollout import canary_change
    from deployment.trial import refuse_trials

    cluster, predictor = _predictor(name, namespace, context)
    limits = Limits(max_error_increase, max_latency_ratio, max_abstention_increase, min_requests)
    source = source_of(cluster, predictor, prometheus)
    change = canary_change(predictor, bundle, tag, percent)
    refuse_trials([bundle] if bundle else [], screen.show)
    if watch:
        source(predictor.stable)  # fail before the change if metrics cannot be read
    running = predictor.workloads[-1].bundle
    screen.ask(f"{percent}% of {name}'s traffic to {bundle or running}?", yes)
    cluster.patch(predictor.document, change)
    _watch(cluster, predictor, source, limits, watch, timeout)


@rollout.command("promote")
def promote(
    name: NameArgument,
    timeout: TimeoutOption = 300,
    yes: YesOption = False,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
) -> None:
    """Make the canary the stable version.

    Example:

      saarthi rollout promote nlu --namespace saarthi
    """
    from deployment import rollout as steps

    cluster, predictor = _predictor(name, namespace, context)
    if predictor.canary:
        screen.ask(f"all of {name}'s traffic to {predictor.canary.bundle}?", yes)
    steps.promote(cluster, predictor)
    [now] = _settled(cluster, [(name, cluster.namespace)], timeout)
    screen.console.print(
        f"put {now.stable.bundle} into the overlay's settings.yaml: the next deploy reads it\n"
        f"back: saarthi rollout rollback {name} --to {predictor.stable.bundle}",
        soft_wrap=True,
        markup=False,
    )


@rollout.command("rollback")
def rollback(
    name: NameArgument,
    to: Annotated[
        str | None, typer.Option("--to", help="An earlier bundle.", metavar="URI")
    ] = None,
    timeout: TimeoutOption = 300,
    yes: YesOption = False,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
) -> None:
    """Remove the running canary; without a canary, return to an earlier bundle.

    A plain Deployment returns to its previous revision, like `kubectl rollout undo`.

    Examples:

      saarthi rollout rollback nlu --yes

      saarthi rollout rollback nlu --to gs://my-bucket/bundles/nlu/0.1.0
    """
    from deployment.rollout import end_canary, go_back
    from deployment.trial import refuse_trials

    cluster, predictor = _predictor(name, namespace, context)
    if predictor.canary and to:
        raise SaarthiError(f"{name}: a canary is running; roll it back first, without --to")
    refuse_trials([to] if to else [], screen.show)
    if predictor.canary:
        screen.ask(f"roll back {name}'s canary of {predictor.canary.bundle}?", yes)
        end_canary(cluster, predictor, timeout, screen.show)
    else:
        screen.ask(
            f"return {name} from {predictor.stable.bundle} to {to or 'the previous one'}?", yes
        )
        screen.show(f"{name}: back to {go_back(cluster, predictor, to)}")
    _settled(cluster, [(name, cluster.namespace)], timeout)


@rollout.command("status")
def status(
    name: Annotated[str | None, typer.Argument(help="Default: all.", metavar="[NAME]")] = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    json_: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Show the running predictors: mode, bundles, traffic, readiness.

    Examples:

      saarthi rollout status --namespace saarthi

      saarthi rollout status nlu --json
    """
    from deployment.state import list_predictors, read_predictor

    cluster = _cluster(context, namespace)
    if name:
        found = [read_predictor(cluster, name, cluster.namespace)]
    else:
        found = list_predictors(cluster, cluster.namespace)
    if json_:
        screen.console.print(json.dumps(screen.as_json(found)), soft_wrap=True, markup=False)
    elif found:
        screen.console.print(screen.status_table(found))
    else:
        screen.console.print(f"no predictors in the namespace {cluster.namespace}")


def _cluster(context: str | None, namespace: str | None) -> "Cluster":
    try:
        from deployment.cluster import Cluster
    except ModuleNotFoundError as error:
        raise SaarthiError(
            f"{error.name} is needed for a cluster: pip install 'saarthi[deploy]'"
        ) from error
    return Cluster(context, namespace)


def _predictor(
    name: str, namespace: str | None, context: str | None
) -> "tuple[Cluster, Predictor]":
    cluster = _cluster(context, namespace)
    from deployment.state import read_predictor

    return cluster, read_predictor(cluster, name, cluster.namespace)


def _settled(cluster: "Cluster", names: list[tuple[str, str]], timeout: float) -> "list[Predictor]":
    """Wait until the predictors with these names and namespaces are ready, and show them."""
    from deployment.wait import wait_until_settled

    predictors = wait_until_settled(cluster, names, timeout, screen.show)
    screen.console.print(screen.status_table(predictors))
    return predictors


def _apply(cluster: "Cluster", objects: list[dict[str, Any]], yes: bool, dry_run: bool) -> bool:
    """Show the changes, ask, and apply them; returns whether to continue."""
    from deployment.plan import plan, prepare, styled

    objects = prepare(cluster, objects)
    changes = plan(cluster, objects)
    for change in changes:
        screen.console.print(f"[bold]{escape(change.title)}[/]")
        for line, style in styled(change.lines):
            screen.console.print(f"  {line}", style=style, markup=False, soft_wrap=True)
    if not changes:
        screen.console.print("no differences from the cluster")
        return not dry_run
    if dry_run:
        screen.console.print(f"{len(changes)} objects would change; nothing was applied")
        return False
    screen.ask(f"apply {len(changes)} changes to {', '.join(_namespaces(objects))}?", yes)
    for wanted in objects:
        cluster.apply(wanted)
    return True


def _watch(
    cluster: "Cluster",
    before: "Predictor",
    source: "Source",
    limits: "Limits",
    seconds: float,
    timeout: float,
) -> None:
    """Wait for a canary and compare it; roll back after any failure."""
    from deployment.comparison import rows, watch
    from deployment.rollout import end_canary, reread
    from deployment.wait import wait_until_settled

    where = [(before.name, before.namespace)]

    def roll_back(why: str) -> typer.Exit:
        screen.errors.print(f"[bold red]rolled back:[/] {escape(why)}", soft_wrap=True)
        end_canary(cluster, reread(cluster, before), timeout, screen.show)
        wait_until_settled(cluster, where, timeout, screen.show)
        return typer.Exit(1)

    try:
        [now] = wait_until_settled(cluster, where, timeout, screen.show)
        if not seconds:
            screen.console.print(screen.status_table([now]))
            return
        verdict = watch(cluster, now, source, limits, seconds, screen.show)
    except SaarthiError as error:
        raise roll_back(str(error)) from error
    except KeyboardInterrupt:
        screen.errors.print(
            f"the canary stays, without a comparison; back: saarthi rollout rollback {before.name}"
        )
        raise
    versions = (f"stable {now.stable.version}", f"canary {now.workloads[-1].version}")
    table = screen.table_of(now.name, *versions)
    for row in rows(verdict):
        table.add_row(*row)
    screen.console.print(table)
    if verdict.missed:
        raise roll_back("; ".join(verdict.missed))
    if not verdict.enough:
        screen.errors.print(
            f"too few requests to compare ({limits.requests} of each are needed): the canary "
            "stays; watch it longer, or give it more traffic",
            soft_wrap=True,
        )
        raise typer.Exit(1)
    screen.console.print(
        f"the canary meets the limits; next: saarthi rollout promote {now.name}", soft_wrap=True
    )


def _try(
    cluster: "Cluster", predictor: "Predictor", utterances: "list[Utterance]", url: str | None
) -> bool:
    from deployment.smoke import smoke_test

    outcomes = smoke_test(cluster, predictor, utterances, url)
    for each in outcomes:
        mark = "[green]ok[/]    " if each.passed else "[bold red]failed[/]"
        said = f"{predictor.name}: {each.utterance.text} → {each.said}"
        screen.console.print(f"{mark} {escape(said)}", soft_wrap=True)
    return all(each.passed for each in outcomes)


def _named(pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not (name and equals and value):
        raise SaarthiError(f"--bundle {pair}: must be of the form NAME=URI")
    return name, value


def _url(given: str) -> tuple[str, str]:
    """Split `[NAME=]URL` into name and URL; an empty name means all predictors."""
    named = re.fullmatch(r"(?:([a-z0-9-]+)=)?(https?://.+)", given)
    if named is None:
        raise SaarthiError(f"--url {given}: must be of the form [NAME=]http://…")
    return named[1] or "", named[2]


def _namespaces(objects: list[dict[str, Any]]) -> list[str]:
    return sorted({each["metadata"].get("namespace", "the cluster") for each in objects})
