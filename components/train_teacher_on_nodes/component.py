"""Fine-tune the teacher on several machines with Kubeflow Trainer."""

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
    variables: list,
    data: dsl.Input[dsl.Dataset],
    teacher: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> str:
    """Fine-tune the teacher on several machines with Kubeflow Trainer and Lightning's DDP.

    The task starts a TrainJob and waits for it; a repeated task waits for the same job.

    Args:
        run_config: Task, seed, precision and the other fields of the section `run`.
        teacher_config: Name and fine-tuning of the encoder; teacher_batch_size is per GPU.
        nodes: Number of machines.
        gpus_per_node: GPUs, and processes, on each machine.
        resources: Requests of each pod, such as {"nvidia.com/gpu": "2", "memory": "64Gi"}.
        namespace: Namespace of the TrainJob.
        runtime: Training runtime of the cluster, such as torch-distributed.
        image: Image of the pods, the same as this component's.
        minutes: Time limit of the job.
        variables: Environment of the pods in Kubernetes' form; secrets are in the job's namespace.
        data: Folder written by preprocess_data, in a bucket (s3://, gs://) or in KFP's own store.
        teacher: Fine-tuned teacher on the trimmed vocabulary (safetensors).
        metrics: Main metric on validation.

    Returns:
        URI and duration of the output, for record_run.
    """
    from deployment.train_job import run_train_job, train_job
    from saarthi_lib.data.cloud import fetch
    from saarthi_lib.lineage import job_variables, origin
    from saarthi_lib.logs import get_logger
    from saarthi_lib.steps.task import log_metrics, paths, record_of, task, worker_arguments
    from saarthi_lib.storage import digest_json, read_json

    with task(run_config, teacher_config) as config:
        places, run_id = (data.uri, f"{teacher.uri}-of-trainer"), origin().get("run_id", "")
        arguments = worker_arguments({**run_config, **teacher_config}, *places)
        name = f"saarthi-teacher-{digest_json([run_id, arguments])[:10]}"
        job = train_job(
            name, namespace, image=image, arguments=arguments, nodes=nodes,
            processes=gpus_per_node, runtime=runtime, resources=resources,
            environment=[*variables, *job_variables()], seconds=60 * minutes,
        )  # fmt: skip
        run_train_job(job, 60 * minutes, get_logger("trainer").info)
        fetch(arguments[-1], *paths(teacher))
        scores = read_json(f"{teacher.path}/scores.json")
        teacher.metadata |= {"teacher_name": config.teacher_name, "train_job": name, **scores}
        log_metrics(metrics, scores)
        return record_of(teacher=teacher)
