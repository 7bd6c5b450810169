"""Fine-tune the teacher on several machines, by Kubeflow Trainer."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def train_teacher_on_nodes(
    run_config: dict,
    teacher_config: dict,
    nodes: int,
    gpus_per_node: int,
    resources: dict,
    namespace: str,
    runtime: str,
    image: str,
    minutes: int,
    data: dsl.Input[dsl.Dataset],
    teacher: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Fine-tune the teacher on several machines, by Kubeflow Trainer and Lightning's DDP.

    A TrainJob is started and watched; its pods read the data from, and write the teacher to, the
    object store, which must be on gs://. Asked again after this task has died, the same job is
    watched on.

    Args:
        run_config: Task, seed, precision and the other fields of the section `run`.
        teacher_config: Which encoder, and how it is fine-tuned; each GPU takes teacher_batch_size
            rows a step.
        nodes: Machines.
        gpus_per_node: GPUs, and so processes, on each of them.
        resources: What each pod asks for, such as {"nvidia.com/gpu": "2", "memory": "64Gi"}.
        namespace: Of the TrainJob.
        runtime: The cluster's training runtime, such as torch-distributed.
        image: Of the pods: this component's own.
        minutes: After which the job is ended.
        data: Of preprocess_data.
        teacher: The fine-tuned teacher on the trimmed vocabulary (safetensors).
        metrics: The main metric on validation.
    """
    import json
    import os
    from pathlib import Path

    from deployment.train_job import run_train_job, train_job
    from saarthi_lib import logs
    from saarthi_lib.config import TrainConfig
    from saarthi_lib.data.cloud import fetch, is_remote
    from saarthi_lib.errors import ConfigError
    from saarthi_lib.lineage import RUN_ID_VARIABLE
    from saarthi_lib.storage import digest_json, read_json, write_json

    with logs.task():
        config = TrainConfig.from_mapping({**run_config, **teacher_config})
        if not is_remote(data.uri):
            raise ConfigError(
                f"{data.uri}: the pods of a TrainJob cannot read it; set object_store of the "
                "environment to a gs:// URI, or train on one machine (trainer: null)"
            )
        written = f"{teacher.uri}-of-trainer"
        settings = json.dumps({**run_config, **teacher_config})
        arguments = ["--config", settings, "--data", data.uri, "--out", written]
        run_id = os.environ.get(RUN_ID_VARIABLE, "")
        job = train_job(
            f"saarthi-teacher-{digest_json([run_id, arguments])[:10]}",
            namespace,
            image=image,
            arguments=arguments,
            nodes=nodes,
            processes=gpus_per_node,
            runtime=runtime,
            resources=resources,
            environment={RUN_ID_VARIABLE: run_id},
            seconds=60 * minutes,
        )
        run_train_job(job, 60 * minutes, logs.get_logger("trainer").info)
        fetch(written, Path(teacher.path))
        scores = read_json(Path(teacher.path) / "scores.json")
        teacher.metadata |= {"teacher_name": config.teacher_name, **scores}
        teacher.metadata |= {"train_job": job["metadata"]["name"]}
        for name, value in scores.items():
            metrics.log_metric(name, value)
        write_json(metrics.path, scores)
