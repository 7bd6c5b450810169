"""Write a bundle for serving, and publish it."""

from typing import NamedTuple

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
    model_registry: str,
    exported: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    bundle: dsl.Output[dsl.Model],
) -> NamedTuple("Published", [("uri", str), ("record", str)]):  # type: ignore[valid-type]
    """Write a bundle with its metrics on the test split, and publish it.

    A published version never changes. The task fails if the version already exists with different
    content, or if the bundle comes from a trial run.

    Args:
        run_config: Task.
        delivery_config: Name and version of the bundle.
        model: Model whose metrics the bundle gets, "final" or "quantized".
        version: Version of the bundle; empty: bundle_version of the configuration, or the next
            number at publish_to.
        data_digest: Output of digest_data; it links the bundle to its data.
        publish_to: Folder, or s3:// or gs:// address, to which `<name>/<version>` is added;
            empty: keep the bundle only as an artifact.
        model_registry: Address of a Kubeflow Model Registry, such as
            http://model-registry-service.kubeflow:8080, where the published bundle is registered
            with its metrics and origin; empty: no registration.
        exported: Folder written by export_model or quantize_model.
        evaluation: Folder written by evaluate_models.
        bundle: All files that serving needs, each with its digest.
        uri: Output: URI of the published bundle; empty if it was not published.
        record: Output: URI of the artifact, for record_run.
    """
    from saarthi_lib import steps
    from saarthi_lib.bundle import publishing
    from saarthi_lib.bundle.registration import register_bundle
    from saarthi_lib.lineage import origin
    from saarthi_lib.steps.task import paths, record_of, task

    named = {"bundle_version": version} if version else {}
    with task(run_config, delivery_config, named) as config:
        model_folder, metrics, out = paths(exported, evaluation, bundle)
        steps.publish(config, model_folder, metrics, model, out, data_digest)
        given = config.bundle_version
        uri = publishing.publish_bundle(out, publish_to, given) if publish_to else ""
        number = publishing.published_manifest(uri).version if uri else config.version
        bundle.metadata |= {"name": config.name, "version": number, "uri": uri}
        made_from = {"data_digest": data_digest, **origin()}
        bundle.metadata |= made_from
        if uri and model_registry:
            register_bundle(publishing.published_manifest(uri), uri, model_registry, made_from)
        key = "bundle" if model == "final" else "bundle_quantized"
        return uri, record_of(**{key: bundle})
