"""First part of all pipelines: from labelled text to a tested teacher and its signals."""

from typing import Any, NamedTuple

from components.digest_data.component import digest_data
from components.preprocess_data.component import preprocess_data
from components.run_teacher.component import run_teacher
from components.train_teacher.component import train_teacher
from components.train_teacher_on_nodes.component import train_teacher_on_nodes
from pipelines.resources import Environment
from saarthi_lib.data.cloud import is_bucket
from saarthi_lib.lineage import CHECKPOINTS_VARIABLE


class Taught(NamedTuple):
    """Outputs of this part; `records` are the parameters of `record_run`."""

    data: Any
    teacher: Any
    teacher_test: Any
    signals: Any
    hidden: Any
    data_digest: Any
    records: dict[str, Any]

    @property
    def artifacts(self) -> dict[str, Any]:
        """Inputs of the distillation."""
        names = ("data", "teacher_test", "signals", "hidden")
        return {name: getattr(self, name) for name in names}


def teach(
    environment: Environment, run_config: Any, data_config: Any, teacher_config: Any
) -> Taught:
    """Add the tasks from labelled text to a teacher's signals to the current pipeline."""
    give = environment.give
    configs = {"run_config": run_config, "teacher_config": teacher_config}
    # Never cached: the files may have changed since an earlier run.
    digest = give(digest_data(data_config=data_config), "control", cached=False).output
    preprocessing = preprocess_data(**configs, data_config=data_config, data_digest=digest)
    data = give(preprocessing, "data").outputs["data"]
    records = {"data": preprocessing.outputs["Output"]}
    if environment.trainer:
        training = _train_on_nodes(environment, configs, data)
    else:
        training = give(train_teacher(**configs, data=data), "teacher")
    teacher = training.outputs["teacher"]
    of_teacher = {**configs, "data": data, "teacher": teacher, **environment.workspace_folder()}
    running = give(run_teacher(**of_teacher), "teacher").outputs
    records |= {"teacher": training.outputs["Output"], "signals": running["Output"]}
    made = {name: running[name] for name in ("teacher_test", "signals", "hidden")}
    return Taught(data=data, teacher=teacher, **made, data_digest=digest, records=records)


def _train_on_nodes(environment: Environment, configs: dict[str, Any], data: Any) -> Any:
    trainer, minutes = environment.trainer, environment.kinds["teacher"].minutes
    assert trainer and minutes  # checked by Environment
    training = train_teacher_on_nodes(
        **configs,
        **trainer.model_dump(include={"nodes", "gpus_per_node", "namespace", "runtime"}),
        resources={**trainer.resources, trainer.gpu: str(trainer.gpus_per_node)},
        image=environment.image,
        minutes=minutes,
        variables=_variables(environment),
        data=data,
    )
    if environment.checkpoints and is_bucket(environment.checkpoints):  # for the job's pods
        training.set_env_variable(CHECKPOINTS_VARIABLE, environment.checkpoints)
    return environment.give(training, "control", minutes=minutes)  # it waits for the whole job


def _variables(environment: Environment) -> list[dict[str, Any]]:
    """Variables of the job's pods in Kubernetes' form: those of a teacher's task."""
    return [{"name": name, "value": value} for name, value in environment.variables.items()] + [
        {"name": name, "valueFrom": {"secretKeyRef": place}}
        for secret in environment.secrets
        if "teacher" in secret.kinds
        for key, name in secret.env.items()
        for place in [{"name": secret.name, "key": key, "optional": secret.optional}]
    ]
