"""The same sweep as a Katib Experiment: a grid, each trial a Job of the training image.

kubeflow.org/v1beta1, as Katib 0.15 and later read it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import ConfigError
from saarthi_lib.storage import whole_file

METRIC = "validation_main"
_MOUNT = "/etc/saarthi"


def experiment(
    fields: Mapping[str, Any],
    over: Mapping[str, Sequence[Any]],
    seeds: int,
    *,
    name: str,
    image: str,
    jobs: int,
) -> list[dict[str, Any]]:
    """The manifests: a ConfigMap with the configuration, and the Experiment.

    Args:
        fields: of the configuration that is varied; `input_path` must be one that a pod can read.
        over: the varied fields and their values.
        seeds: runs of each combination.
        name: of both.
        image: the training image.
        jobs: trials at once.

    Raises:
        ConfigError: the input cannot be read by a pod.
    """
    config = TrainConfig.from_mapping(fields)
    if not (config.input_path.startswith(("gs://", "demo:", "/"))):
        raise ConfigError(
            f"input_path: {config.input_path} is a path beside you; a trial on a cluster needs a "
            "gs:// URI, a demo: or an absolute path in the image or a volume"
        )
    every = {**over, **({"seed": range(config.seed, config.seed + seeds)} if seeds > 1 else {})}
    arguments = [
        "saarthi_lib.sweep.trial",
        f"{_MOUNT}/config.yaml",
        "--set",
        "root_output_path=/tmp/run",
    ]
    for field in every:
        arguments += ["--set", f"{field}=${{trialParameters.{field}}}"]
    trials = 1
    for values in every.values():
        trials *= len(values)
    container = {
        "name": "training",
        "image": image,
        "command": ["python", "-m"],
        "args": arguments,
        "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "8Gi"}},
        "volumeMounts": [{"name": "config", "mountPath": _MOUNT, "readOnly": True}],
    }
    pod = {
        "metadata": {"annotations": {"sidecar.istio.io/inject": "false"}},
        "spec": {
            "restartPolicy": "Never",
            "containers": [container],
            "volumes": [{"name": "config", "configMap": {"name": name}}],
        },
    }
    spec = {
        "objective": {"type": "maximize", "objectiveMetricName": METRIC},
        "algorithm": {"algorithmName": "grid"},
        "metricsCollectorSpec": {"collector": {"kind": "StdOut"}},
        "parallelTrialCount": jobs,
        "maxTrialCount": trials,
        "maxFailedTrialCount": max(1, trials // 4),
        "parameters": [
            {
                "name": field,
                "parameterType": "categorical",
                "feasibleSpace": {"list": [_text(value) for value in values]},
            }
            for field, values in every.items()
        ],
        "trialTemplate": {
            "primaryContainerName": "training",
            "trialParameters": [
                {"name": field, "description": _described(field), "reference": field}
                for field in every
            ],
            "trialSpec": {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "spec": {"backoffLimit": 1, "template": pod},
            },
        },
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name},
            "data": {
                "config.yaml": yaml.safe_dump(dict(fields), sort_keys=False, allow_unicode=True)
            },
        },
        {
            "apiVersion": "kubeflow.org/v1beta1",
            "kind": "Experiment",
            "metadata": {"name": name},
            "spec": spec,
        },
    ]


def write_manifests(path: Path, manifests: Sequence[Mapping[str, Any]]) -> None:
    """Write them as one YAML file, for `kubectl apply -f`."""
    with whole_file(path) as aside:
        text = yaml.safe_dump_all(manifests, sort_keys=False, allow_unicode=True)
        aside.write_text(text, encoding="utf-8")


def _yaml(fields: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(fields), sort_keys=False, allow_unicode=True)


def _text(value: Any) -> str:
    """As `--set` reads it again: YAML in one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()


def _described(field: str) -> str:
    return TrainConfig.model_fields[field].description or field
