"""Commands on published bundles: `saarthi bundle publish`, `list` and `rollback`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from saarthi_lib.cli.console import (
    BundleArgument,
    JsonOption,
    errors,
    plain,
    say,
    say_json,
    show_table,
    table,
)
from saarthi_lib.errors import SaarthiError
from saarthi_lib.reports.page import percent

if TYPE_CHECKING:
    from saarthi_lib.bundle.publishing import Published


def publish(
    bundle: BundleArgument,
    destination: Annotated[
        str, Argument(help="A folder, s3:// or gs://bucket/folder.", metavar="DESTINATION")
    ],
    version: Annotated[
        str, Option(help="Version; default: bundle_version, or else the next number.")
    ] = "",
    key: Annotated[
        Path | None, Option(help="Sign the published bundle with this private key (PEM, Ed25519).")
    ] = None,
) -> None:
    """Publish a bundle to DESTINATION/<name>/<version>, which never changes afterwards.

    Servers of DESTINATION/<name> then serve this version. Bundles of trial runs
    (fast_dev_run: true) are refused.

    Examples:

      saarthi bundle publish runs/intents/bundle-int8 s3://my-bucket/bundles

      saarthi bundle publish runs/intents/bundle-int8 bundles --version 2026.12 --key key.pem
    """
    from saarthi_lib.bundle.publishing import publish_bundle

    say(plain(publish_bundle(bundle, destination, version, key)))


def list_(
    uri: Annotated[
        str, Argument(help="A destination, DESTINATION/<name>, or a run's folder.", metavar="URI")
    ],
    json_: JsonOption = False,
) -> None:
    """List bundles with version, date, main metric, and which version is served.

    Examples:

      saarthi bundle list s3://my-bucket/bundles

      saarthi bundle list runs/intents
    """
    from saarthi_lib.bundle.publishing import list_bundles

    found = list_bundles(uri)
    if json_:
        say_json([_as_json(each) for each in found])
        return
    made = table("bundle", "version", "made", "main metric", "state", numbers=["main metric"])
    for each in found:
        if not isinstance(each.manifest, SaarthiError):
            shown = _as_json(each)
            main = "–" if shown["main"] is None else percent(shown["main"])
            row = each.uri, shown["version"], shown["created"][:16].replace("T", " ")
            made.add_row(*map(plain, row), main, plain(shown["state"]))
    show_table(made)
    for each in found:
        if isinstance(each.manifest, SaarthiError):
            errors.print(plain(each.manifest), soft_wrap=True)


def rollback(
    uri: Annotated[str, Argument(help="DESTINATION/<name>.", metavar="URI")],
    version: Annotated[
        str, Argument(help="Version to serve; default: the one served before.")
    ] = "",
) -> None:
    """Serve the previous version again, or any published one; no version changes.

    Servers of DESTINATION/<name> follow within reload_seconds. A server of one version
    (DESTINATION/<name>/2) and services on a cluster stay: saarthi rollout --undo.

    Examples:

      saarthi bundle rollback s3://my-bucket/bundles/my-bot

      saarthi bundle rollback bundles/my-bot 3
    """
    from saarthi_lib.bundle.publishing import roll_back

    before, now = roll_back(uri, version)
    say(plain(f"{uri}: version {now} is served" + (f", before: {before}" if before else "")))


def _as_json(found: "Published") -> dict[str, Any]:
    if isinstance(found.manifest, SaarthiError):
        return {"bundle": found.uri, "error": str(found.manifest)}
    manifest = found.manifest
    main = manifest.metrics.get("main")
    return {
        "bundle": found.uri,
        "name": manifest.name,
        "version": manifest.version,
        "created": manifest.created,
        "task": manifest.task,
        "main": main if isinstance(main, int | float) else None,
        "trial": manifest.trial,
        "state": "trial run" if manifest.trial else found.state,
    }
