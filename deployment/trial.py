"""Bundles of trial runs are refused before anything in the cluster changes."""

from collections.abc import Iterable

from deployment.wait import Show


def refuse_trials(bundles: Iterable[str], show: Show) -> None:
    """Raise if one of the bundles comes from a trial run (`fast_dev_run`).

    Args:
        bundles: URIs. An unreadable one is reported but not refused: perhaps only the cluster has
            access to it.
        show: function that gets each report.

    Raises:
        BundleError: the bundle of a trial run.
    """
    from saarthi_lib.bundle.publishing import manifest_at, trial_error

    for uri in bundles:
        manifest = manifest_at(uri)
        if manifest is None:
            show(f"{uri}: cannot be read from here, so a trial run would not be detected")
        elif manifest.trial:
            raise trial_error(uri, "rolled out")
