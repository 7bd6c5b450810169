"""Address of a bundle, checked before anything in the cluster changes."""

from deployment.state import Mode
from deployment.wait import Show
from saarthi_lib.addresses import DEPLOYED, SERVED, checked_address, scheme_of
from saarthi_lib.errors import ConfigError


def checked_bundle(bundle: str, mode: Mode, show: Show) -> str:
    """Check that a predictor can fetch a bundle, and that it is not of a trial run.

    Args:
        bundle: address of the bundle.
        mode: mode of the predictor. A plain Deployment fetches its bundle itself.
        show: function that gets a report if the bundle is not readable from here: perhaps only the
            cluster has access to it.

    Returns:
        The address in its usual spelling.

    Raises:
        BundleError: the bundle of a trial run (`fast_dev_run`).
        ConfigError: a predictor of this mode cannot fetch from there.
    """
    from saarthi_lib.bundle.publishing import manifest_at, trial_error

    own = mode is Mode.DEPLOYMENT
    address = checked_address(bundle, "bundle", SERVED if own else DEPLOYED)
    manifest = manifest_at(address)
    if manifest and manifest.trial:
        raise trial_error(address, "rolled out")
    in_pod = own and address.startswith("/")  # such as a mounted volume
    if not (scheme_of(address) or in_pod):
        raise ConfigError(
            f"bundle: {bundle}: pods do not have this folder; publish it to a bucket (saarthi "
            "bundle publish), and give the address that is printed"
        )
    if manifest is None:
        show(f"{bundle}: cannot be read from here, so a trial run would not be detected")
    return address
