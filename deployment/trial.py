"""Bundles of trial runs are refused before anything in the cluster changes."""

from collections.abc import Iterable

from deployment.wait import Show


def refuse_trials(bundles: Iterable[str], show: Show) -> None:
    """Raise if one of the bundles comes from a trial run (`fast_dev_run`).

    Args:
        bundles: their URIs. A place that cannot be read from here is reported, and not refused:
            only the cluster may have access to it.
        show: called with each report.

    Raises:
        BundleError: the bundle of a trial run.
    """
    from saarthi_lib.bundle.publishing import manifest_at, trial_error

    for uri in bundles:
        manifest = manifest_at(uri)
        if manifest is None:
            show(f"{uri}: cannot be read from here; not checked: whether it is of a trial run")
        elif manifest.trial:
            raise trial_error(uri, "rolled out")
