"""The bundle of a trial run is refused before anything in the cluster changes."""

from deployment.wait import Show


def refuse_trial(bundle: str | None, show: Show) -> None:
    """Raise if a bundle comes from a trial run (`fast_dev_run`).

    Args:
        bundle: URI; None is not checked. An unreadable one is reported but not refused: perhaps
            only the cluster has access to it.
        show: function that gets the report.

    Raises:
        BundleError: the bundle of a trial run.
    """
    from saarthi_lib.bundle.publishing import manifest_at, trial_error

    if bundle is None:
        return
    manifest = manifest_at(bundle)
    if manifest is None:
        show(f"{bundle}: cannot be read from here, so a trial run would not be detected")
    elif manifest.trial:
        raise trial_error(bundle, "rolled out")
