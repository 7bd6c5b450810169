"""The way to a tested teacher, which all pipelines begin with."""

from typing import Any, NamedTuple

from kfp import kubernetes

from components.digest_data.component import digest_data
from components.preprocess_data.component import preprocess_data
from components.test_teacher.component import test_teacher
from components.train_teacher.component import train_teacher
from components.train_teacher_on_nodes.component import train_teacher_on_nodes
from pipelines.resources import Environment


class Taught(NamedTuple):
    """Outputs of tasks, for the tasks that follow."""

    data_digest: Any
    data: Any
    teacher: Any
    teacher_test: Any


def teach(
    environment: Environment, run_config: Any, data_config: Any, teacher_config: Any
) -> Taught:
    """Add the tasks from the labelled text to a tested teacher to the pipeline being made."""
    give = environment.give
    configs = {"run_config": run_config, "teacher_config": teacher_config}
    # What the files are now is not to be taken from an earlier run.
    digest = give(digest_data(data_config=data_config), "control", cached=False).output
    preprocessing = preprocess_data(**configs, data_config=data_config, data_digest=digest)
    data = give(preprocessing, "data").outputs["data"]
    if trainer := environment.trainer:
        minutes = environment.kinds["teacher"].minutes or 0
        gpus = {trainer.gpu: str(trainer.gpus_per_node)}
        training = train_teacher_on_nodes(
            **configs,
            data=data,
            nodes=trainer.nodes,
            gpus_per_node=trainer.gpus_per_node,
            resources={**trainer.resources, **gpus},
            namespace=trainer.namespace,
            runtime=trainer.runtime,
            image=environment.image,
            minutes=minutes,
        )
        give(training, "control")
        kubernetes.set_timeout(training, 60 * minutes)  # it waits as long as the job runs
        teacher = training.outputs["teacher"]
    else:
        teacher = give(train_teacher(**configs, data=data), "teacher").outputs["teacher"]
    testing = test_teacher(run_config=run_config, data=data, teacher=teacher)
    return Taught(digest, data, teacher, give(testing, "teacher").outputs["teacher_test"])
