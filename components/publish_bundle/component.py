"""Write the bundle that is served, and publish it where services fetch it."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def publish_bundle(
    run_config: dict,
    delivery_config: dict,
    model: str,
    version: str,
    data_digest: str,
    publish_to: str,
    exported: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    bundle: dsl.Output[dsl.Model],
) -> str:
    """Write the bundle that is served, with the figures measured on the test split, and publish it.

    A published version never changes: one that is there with another content is refused. So is the
    bundle of a trial run.

    Args:
        run_config: Task.
        delivery_config: The bundle's name and version.
        model: Whose figures they are, "final" or "quantized".
        version: Of the bundle; empty: bundle_version of the configuration.
        data_digest: Of digest_data; the bundle leads back to its data by it.
        publish_to: Folder or gs:// URI below which `<name>/<version>` is made; empty: the bundle
            stays an artifact.
        exported: Of export_model or quantise_model.
        evaluation: Of evaluate_models.
        bundle: All that serving needs, with the digest of every file.

    Returns:
        Where it was published; empty when it was not.
    """
    from pathlib import Path

    from saarthi_lib import logs, publishing, steps
    from saarthi_lib.config import TrainConfig
    from saarthi_lib.lineage import origin

    with logs.task():
        given = {"bundle_version": version} if version else {}
        config = TrainConfig.from_mapping({**run_config, **delivery_config, **given})
        out = Path(bundle.path)
        steps.publish(config, Path(exported.path), Path(evaluation.path), model, out, data_digest)
        uri = publishing.publish_bundle(out, publish_to) if publish_to else ""
        bundle.metadata |= {"name": config.name, "version": config.bundle_version, "uri": uri}
        bundle.metadata |= {"data_digest": data_digest, **origin()}
        return uri
