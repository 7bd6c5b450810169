"""Commands on bundles: `saarthi bundle verify`, `card`, `sign`, `publish`, `list`, `rollback`."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from saarthi_lib.cli.bundle import versions
from saarthi_lib.cli.console import BundleArgument, console, errors, plain, say

app = typer.Typer(help="Model bundles.", no_args_is_help=True)


def verify(
    bundle: BundleArgument,
    keys: Annotated[
        list[Path],
        Option(
            "--key", help="Trusted public key (PEM, Ed25519); one must have signed; repeatable."
        ),
    ] = [],  # noqa: B006
) -> None:
    """Check every file of a bundle against its digest, and the bundle against its signature.

    Examples:

      saarthi bundle verify runs/intents/bundle-int8

      saarthi bundle verify runs/intents/bundle-int8 --key public.pem
    """
    from saarthi_lib.bundle import verify_bundle

    manifest = verify_bundle(bundle, keys)
    signed = ", signed by a trusted key" if keys else ""
    trial = ", trial run" if manifest.trial else ""
    console.print(
        plain(
            f"{manifest.name} version {manifest.version} ({manifest.task}, {manifest.precision}, "
            f"{manifest.runtime}{trial}): {len(manifest.files)} files are unchanged{signed}"
        )
    )
    if manifest.digest is None:
        risk = (
            "its signature covers it all the same"
            if keys
            else "a changed metric or threshold is not found; train again, or sign it"
        )
        errors.print(
            f"{plain(bundle)}: bundle.json has no digest of itself, because an earlier version of "
            f"Saarthi made it: {risk}",
            soft_wrap=True,
        )


def card(bundle: BundleArgument) -> None:
    """Print a bundle's model card: use, training, metrics, limits, in Markdown.

    Example:

      saarthi bundle card runs/intents/bundle-int8 > README.md
    """
    from saarthi_lib.bundle.card import model_card

    typer.echo(model_card(bundle), nl=False)


def sign(
    bundle: BundleArgument,
    key: Annotated[Path, Option(help="A private key (PEM, Ed25519).", metavar="KEY.pem")],
) -> None:
    """Sign a bundle; servers with the public key then accept only bundles signed by it.

    Private key: openssl genpkey -algorithm ed25519 -out key.pem;
    public key: openssl pkey -in key.pem -pubout -out public.pem

    Example:

      saarthi bundle sign runs/intents/bundle-int8 --key key.pem
    """
    from saarthi_lib.bundle import sign_bundle

    manifest = sign_bundle(bundle, key)
    say(plain(f"{manifest.name} version {manifest.version}: signed"))


app.command()(verify)
app.command()(card)
app.command()(sign)
app.command()(versions.publish)
app.command("list")(versions.list_)
app.command()(versions.rollback)
