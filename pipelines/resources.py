"""Resources of tasks on a cluster: the settings of an environment, read from YAML.

`environments/` has the files of `local`, `dev` and `prod`; users can write their own.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from kfp import dsl, kubernetes
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from components.images import pinned
from pipelines.forms import Bucket, Cpu, Duration, Memory, Quantity, Store
from saarthi_lib import __version__
from saarthi_lib.errors import ConfigError
from saarthi_lib.lineage import CHECKPOINTS_VARIABLE, RUN_ID_VARIABLE
from saarthi_lib.settings import TextLoader

FOLDER = Path(__file__).parent / "environments"
ENVIRONMENTS = ("local", "dev", "prod")
SCRATCH = "/scratch"
PENDING = 3600  # seconds that an attempt may wait for a node and its image
NO_LIMIT = 30 * 24 * 3600  # seconds

# Kinds of tasks. Only the last two run a network that is faster on a GPU.
Kind = Literal["control", "data", "teacher", "student"]
KINDS: tuple[Kind, ...] = get_args(Kind)
KINDS_WITH_GPU: tuple[Kind, ...] = ("teacher", "student")

Image = Annotated[str, AfterValidator(pinned)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Gpu(_Settings):
    """GPUs of one pod: name of the node's resource, and number."""

    type: str = Field("nvidia.com/gpu", min_length=1)
    count: int = Field(1, ge=1)


class Toleration(_Settings):
    """Toleration of a node's taint."""

    key: str
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoExecute", "NoSchedule", "PreferNoSchedule"] | None = None


class Nodes(_Settings):
    """Nodes that a pod can run on."""

    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()


class Retries(_Settings):
    """Retries of a failed task.

    The cluster decides which failures are repeated; see "Retries" in docs/guides/cluster.md.

    Attributes:
        count: number of retries.
        first: waiting time before the first retry.
        factor: factor of each further waiting time; Argo takes only whole numbers.
    """

    count: int = Field(default=0, ge=0)
    first: Duration = "30s"
    factor: int = Field(default=2, ge=1)

    def seconds(self, minutes: int | None) -> int:
        """Time for all attempts of a task, from the first one's start.

        Argo counts KFP's `backoff_max_duration` from the start of the first attempt: after this
        time it starts no retry, and ends a running one.

        Args:
            minutes: time limit of an attempt; None: no limit.
        """
        if minutes is None:
            return NO_LIMIT
        waits = sum(int(self.first[:-1]) * self.factor**n for n in range(self.count))
        return min(NO_LIMIT, (self.count + 1) * (60 * minutes + PENDING) + waits)


class Resources(Nodes):
    """Resources of the tasks of one kind; None: the cluster's default.

    Attributes:
        cpu, memory: request and limit.
        scratch: disk at `/scratch`, the task's TMPDIR; it counts as ephemeral storage.
        shm: memory at `/dev/shm`, where data loaders pass tensors; the default is 64 MB.
        gpu: GPUs of the pod.
        minutes: time limit of the task.
        spot: whether to run on the environment's spot nodes.
    """

    cpu: Cpu | None = None
    memory: Memory | None = None
    scratch: Quantity | None = None
    shm: Quantity | None = None
    gpu: Gpu | None = None
    minutes: int | None = Field(None, ge=1)
    spot: bool = False


class Secret(_Settings):
    """Kubernetes secret that tasks read as variables or as files.

    Attributes:
        name: name of the secret.
        env: variable names by key of the secret.
        folder: folder to mount the keys in, as files.
        kinds: kinds of tasks that read the secret.
        optional: whether tasks also start without the secret.
    """

    name: str
    env: dict[str, str] = {}
    folder: str | None = None
    kinds: tuple[Kind, ...] = KINDS
    optional: bool = False


class Volume(_Settings):
    """Claim of a persistent volume (PVC) that tasks mount.

    Attributes:
        claim: name of the claim, in the namespace of the runs.
        folder: where tasks see the volume. Addresses of the configuration can be below it.
        kinds: kinds of tasks that mount the volume. With more than one task at a time, the claim's
            access mode must be ReadWriteMany, or all tasks must run on one node.
    """

    claim: str = Field(min_length=1)
    folder: str = Field(pattern=r"^/[^/]+(/[^/]+)*$")
    kinds: tuple[Kind, ...] = KINDS


class Workspace(_Settings):
    """KFP's Workspace: a volume for one run, for the teacher's signals and states of stages.

    KFP does not reuse results of tasks with a Workspace in other runs.

    Attributes:
        size: size of the volume.
        storage_class: class of the volume; None: the cluster's default.
        access_modes: None: KFP's default; a sweep on several nodes needs ReadWriteMany.
    """

    size: Quantity
    storage_class: str | None = None
    access_modes: tuple[Literal["ReadWriteOnce", "ReadWriteMany"], ...] | None = None

    def config(self) -> dsl.WorkspaceConfig:
        """The Workspace as KFP's SDK describes it."""
        given = {"storageClassName": self.storage_class, "accessModes": self.access_modes}
        patch = {key: list(v) if isinstance(v, tuple) else v for key, v in given.items() if v}
        return dsl.WorkspaceConfig(self.size, dsl.KubernetesWorkspaceConfig(patch))


class Trainer(_Settings):
    """Training of the teacher on several machines with Kubeflow Trainer.

    Attributes:
        nodes: number of machines.
        gpus_per_node: GPUs, and processes, on each machine.
        resources: requests of each pod in addition to the GPUs.
        namespace: namespace of the TrainJob.
        runtime: training runtime of the cluster.
        gpu: name of the nodes' GPU resource.
    """

    nodes: int = Field(ge=1)
    gpus_per_node: int = Field(ge=1)
    resources: dict[str, Quantity] = {}
    namespace: str = Field(min_length=1)
    runtime: str = "torch-distributed"
    gpu: str = "nvidia.com/gpu"


class Gates(_Settings):
    """Default limits of the gates; parameters of a run override them.

    Attributes:
        teacher: limits on the metrics of `test_teacher`, such as `main`.
        student: limits on `metrics.json`, such as `retention`.
        canary: limits of `check_canary`.
    """

    teacher: dict[str, dict[str, float]] = {}
    student: dict[str, dict[str, float]] = {}
    canary: dict[str, float] = {}


class Environment(_Settings):
    """Settings of an environment.

    Attributes:
        name: name of the environment, used in the names of compiled files.
        image: image of all tasks, pinned by version or digest; None: given by submit.
        image_pull_secrets: names of the secrets for the registry.
        service_account: service account of submitted runs.
        object_store: root of all artifacts, such as s3://bucket/pipelines; None: the cluster's.
        retries: retries of failed tasks.
        deadline_hours: time limit of a whole run; needs KFP 2.17.
        keep_days: days until the pods of an ended run are deleted; needs KFP 2.17.
        cached: whether tasks may reuse results of earlier runs.
        parallelism: number of students of a sweep that are trained at a time.
        explain: default of the parameter `explain`, which costs as much as an evaluation.
        gates: default limits.
        trainer: machines for the teacher's training; None: train in the task's own pod.
        spot_nodes: nodes for the kinds of tasks with `spot: true`.
        variables: environment variables of all tasks, such as MLFLOW_TRACKING_URI.
        secrets: secrets that tasks read.
        volumes: volumes that tasks mount.
        workspace: volume of each run; None: the signals are an artifact.
        checkpoints: store of unfinished trainings, from which a retried task resumes: s3:// or
            gs:// address, or a folder in a volume; None: the task's own disk.
        api: address of the KFP API in the cluster, to report the errors of failed tasks.
        kinds: resources by kind of task.
    """

    name: str
    image: Image | None = None
    image_pull_secrets: tuple[str, ...] = ()
    service_account: str | None = None
    object_store: Bucket | None = None
    retries: Retries = Retries()
    deadline_hours: int | None = Field(None, ge=1, le=8760)
    keep_days: int | None = Field(None, ge=1, le=8760)
    cached: bool = True
    parallelism: int = Field(1, ge=1)
    explain: bool = False
    gates: Gates = Gates()
    trainer: Trainer | None = None
    spot_nodes: Nodes | None = None
    variables: dict[str, str] = {}
    secrets: tuple[Secret, ...] = ()
    volumes: tuple[Volume, ...] = ()
    workspace: Workspace | None = None
    checkpoints: Store | None = None
    api: str | None = None
    kinds: dict[Kind, Resources]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if missing := set(KINDS) - set(self.kinds):
            raise ValueError(f"kinds: {', '.join(sorted(missing))} missing")
        for kind, resources in self.kinds.items():
            if resources.gpu and kind not in KINDS_WITH_GPU:
                raise ValueError(f"kinds.{kind}: uses no GPU; take gpu out")
            if resources.spot and self.spot_nodes is None:
                raise ValueError(f"kinds.{kind}: spot is true, but there are no spot_nodes")
            if kind in KINDS_WITH_GPU and not self._reaches(self.checkpoints, kind):
                place = f"{self.checkpoints} is in no volume of the kind {kind}"
                raise ValueError(f"checkpoints: {place}; add one, or use an s3:// or gs:// address")
        if self.trainer and not (self.image and self.kinds["teacher"].minutes):
            raise ValueError("trainer: needs image, and minutes of the kind teacher")
        if self.trainer and any(each.folder and "teacher" in each.kinds for each in self.secrets):
            raise ValueError("trainer: its pods mount no secret; use env, or kinds without teacher")
        return self

    def _reaches(self, place: str | None, kind: Kind) -> bool:
        """Whether tasks of a kind mount the volume of a folder; true for an address."""
        folders = [Path(each.folder) for each in self.volumes if kind in each.kinds]
        path = Path(place or "")
        return not path.is_absolute() or any(path.is_relative_to(folder) for folder in folders)

    @classmethod
    def load(cls, name: str, **changes: Any) -> Self:
        """Read the settings of `local`, `dev`, `prod`, or of a YAML file.

        Args:
            name: name or path.
            changes: fields that replace those of the file.

        Raises:
            ConfigError: the environment is unknown, or a field is wrong.
        """
        path = FOLDER / f"{name}.yaml" if name in ENVIRONMENTS else Path(name)
        if not path.is_file():
            raise ConfigError(
                f"environment '{name}' is unknown; use one of {', '.join(ENVIRONMENTS)}, or the "
                "path of a YAML file like theirs"
            )
        try:
            # Fields convert texts, so that cpu: 2 and a taint's value: true stay as written.
            content = yaml.load(path.read_text(encoding="utf-8"), TextLoader)
            if isinstance(content.get("image"), str):
                content["image"] = content["image"].replace("{version}", __version__)
            return cls.model_validate({"name": path.stem, **content, **changes})
        except (yaml.YAMLError, AttributeError) as error:
            raise ConfigError(f"{path}: cannot be read as a YAML mapping: {error}") from error
        except ValidationError as error:
            named = ((".".join(map(str, each["loc"])), each["msg"]) for each in error.errors())
            lines = "; ".join(f"{name or 'settings'}: {message}" for name, message in named)
            raise ConfigError(f"{path}: {lines}") from None

    def pipeline_config(self) -> dsl.PipelineConfig:
        """Settings of a whole run."""
        return dsl.PipelineConfig(
            workspace=self.workspace and self.workspace.config(),
            ttl_seconds_after_finished=self.keep_days and 24 * 3600 * self.keep_days,
            active_deadline_seconds=self.deadline_hours and 3600 * self.deadline_hours,
        )

    def pipeline_options(self) -> dict[str, Any]:
        """Arguments of `dsl.pipeline` for a whole pipeline."""
        return {"pipeline_root": self.object_store, "pipeline_config": self.pipeline_config()}

    def workspace_folder(self) -> dict[str, str]:
        """Parameter of the tasks that use the Workspace; KFP mounts it in tasks with this value."""
        return {"workspace": dsl.WORKSPACE_PATH_PLACEHOLDER} if self.workspace else {}

    def give(
        self,
        task: dsl.PipelineTask,
        kind: Kind,
        *,
        cached: bool = True,
        minutes: int | None = None,
    ) -> dsl.PipelineTask:
        """Set the resources of a task; returns the task.

        Args:
            task: task to set up.
            kind: kind of the task.
            cached: whether KFP may reuse an earlier result for the same inputs.
            minutes: time limit in place of the kind's.
        """
        wanted = self.kinds[kind]
        if self.image:
            task.set_container_image(self.image)
        if wanted.cpu:
            task.set_cpu_request(wanted.cpu).set_cpu_limit(wanted.cpu)
        if wanted.memory:
            task.set_memory_request(wanted.memory).set_memory_limit(wanted.memory)
        if wanted.gpu:
            task.set_accelerator_type(wanted.gpu.type).set_accelerator_limit(wanted.gpu.count)
        if self.retries.count:
            task.set_retry(
                self.retries.count,
                backoff_duration=self.retries.first,
                backoff_factor=self.retries.factor,
                backoff_max_duration=f"{self.retries.seconds(minutes or wanted.minutes)}s",
            )
        task.set_caching_options(cached and self.cached)
        # Not a parameter: a new id would invalidate all cached results.
        kubernetes.use_field_path_as_env(task, RUN_ID_VARIABLE, "metadata.labels['pipeline/runid']")
        if self.image_pull_secrets:
            kubernetes.set_image_pull_secrets(task, list(self.image_pull_secrets))
        if minutes := minutes or wanted.minutes:
            kubernetes.set_timeout(task, 60 * minutes)
        self._place(task, wanted)
        self._mount(task, wanted, kind)
        return task

    def _place(self, task: dsl.PipelineTask, wanted: Resources) -> None:
        spot = [self.spot_nodes] if wanted.spot and self.spot_nodes else []
        for nodes in (wanted, *spot):
            for label, value in nodes.node_selector.items():
                kubernetes.add_node_selector(task, label, value)
            for toleration in nodes.tolerations:
                kubernetes.add_toleration(task, **toleration.model_dump(exclude_none=True))

    def _mount(self, task: dsl.PipelineTask, wanted: Resources, kind: Kind) -> None:
        if wanted.shm:
            kubernetes.empty_dir_mount(task, "shm", "/dev/shm", "Memory", wanted.shm)
        if wanted.scratch:
            kubernetes.empty_dir_mount(task, "scratch", SCRATCH, size_limit=wanted.scratch)
            task.set_env_variable("TMPDIR", SCRATCH)
        for name, value in self.variables.items():
            task.set_env_variable(name, value)
        for volume in (each for each in self.volumes if kind in each.kinds):
            kubernetes.mount_pvc(task, volume.claim, volume.folder)
        if self.checkpoints and kind in KINDS_WITH_GPU:
            task.set_env_variable(CHECKPOINTS_VARIABLE, self.checkpoints)
        for secret in (each for each in self.secrets if kind in each.kinds):
            given: dict[str, Any] = {"secret_name": secret.name, "optional": secret.optional}
            if secret.env:
                kubernetes.use_secret_as_env(task, secret_key_to_env=secret.env, **given)
            if secret.folder:
                kubernetes.use_secret_as_volume(task, mount_path=secret.folder, **given)
