"""Settings from arguments and from the environment."""

import re
from pathlib import Path

import pytest

from predictors.settings import Settings, parse, unknown_variables
from saarthi_lib.errors import ConfigError
from tests.predictors.serving import serving, start
from tests.tiny_bundle import write_tiny_bundle


def test_arguments_override_environment_and_defaults() -> None:
    environment = {
        "SAARTHI_BUNDLES": "gs://models/a,/models/b",
        "SAARTHI_HTTP_PORT": "80",
        "SAARTHI_MAX_BATCH": "4",
        "SAARTHI_ACCESS_LOG": "true",
        "SAARTHI_HOST": "",
    }

    settings = Settings.load({"http_port": "8000", "max_batch": None}, environment)

    assert settings.bundles == ("gs://models/a", "/models/b")
    assert (settings.http_port, settings.max_batch, settings.access_log) == (8000, 4, True)
    assert settings.host == "127.0.0.1"
    assert Settings.load({"bundles": ["c"]}, environment).bundles == ("c",)
    assert settings.workers >= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"http_port": 70_000}, r"--http-port \(SAARTHI_HTTP_PORT\).*65535"),
        ({"deadline_seconds": 0}, "--deadline-seconds"),
        ({"log_format": "xml"}, "'auto', 'json' or 'text'"),
        ({"colour": "red"}, "--colour"),
        ({"max_instances": 3000}, "max_queue"),
        ({"http_port": 9000, "grpc_port": 9000}, "http_port and grpc_port must differ"),
        ({"grpc_port": "8080"}, "both are 8080"),
    ],
)
def test_wrong_setting_is_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings.load({"bundles": ["a"], **arguments}, {})


@pytest.mark.parametrize("name", Settings.model_fields)
@pytest.mark.parametrize(
    "value", ["-1", "inf", "nan", "1e999", "1" + "0" * 12, "  ", "٣٣٣", "9" * 999]
)
def test_value_out_of_range_names_its_setting(name: str, value: str) -> None:
    kind = Settings.model_fields[name].annotation
    if kind not in (int, float, bool) and value != "  ":
        return
    for arguments, environment in (
        ({name: value}, {}),
        ({}, {f"SAARTHI_{name.upper()}": value}),
    ):
        with pytest.raises(ConfigError) as caught:
            Settings.load(
                {"bundles": ["a"], **arguments} if name != "bundles" else arguments, environment
            )
        assert f"SAARTHI_{name.upper()}" in str(caught.value)
        assert len(str(caught.value)) < 500


def test_every_number_has_a_range() -> None:
    for name, field in Settings.model_fields.items():
        if field.annotation in (int, float):
            bounds = {key for each in field.metadata for key in ("ge", "le") if hasattr(each, key)}
            assert bounds == {"ge", "le"}, name


@pytest.mark.parametrize("name", ["TRUSTED_KEYS", "REPOSITORY_TOKEN", "PLAYGROUND_TOKEN"])
@pytest.mark.parametrize("value", ["", " ", "\n"])
def test_empty_protection_is_an_error(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"SAARTHI_{name}"):
        Settings.load({"bundles": ["a"]}, {f"SAARTHI_{name}": value})


@pytest.mark.parametrize("token", ["secret-1\n", " secret-1", "secret-1\x1b", "secret-1\udcff"])
def test_unusable_token_is_refused_but_not_shown(token: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.load({"bundles": ["a"]}, {"SAARTHI_REPOSITORY_TOKEN": token})
    assert "REPOSITORY_TOKEN" in str(caught.value) and "secret-1" not in str(caught.value)


def test_missing_bundles_error_names_the_variable() -> None:
    with pytest.raises(ConfigError, match="SAARTHI_BUNDLES"):
        Settings.load({}, {})


def test_options_may_stand_between_bundles() -> None:
    given = ["a=x", "--http-port", "80", "--playground", "b"]
    arguments = {name: value for name, value in parse(given, "serve", None).items() if value}
    assert arguments == {"bundles": ["a=x", "b"], "http_port": "80", "playground": True}


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("SAARTHI_TRUSTED_KEY", "SAARTHI_TRUSTED_KEYS"),
        ("SAARTHI_TRUSTEDKEYS", "SAARTHI_TRUSTED_KEYS"),
        ("SAARTHI_TRUSTED_KEYS_", "SAARTHI_TRUSTED_KEYS"),
        ("saarthi_trusted_keys", "SAARTHI_TRUSTED_KEYS"),
        ("SAARTHI_PLAYGROUND_TOKENS", "SAARTHI_PLAYGROUND_TOKEN"),
        ("SAARTHI_REPOSITRY_TOKEN", "SAARTHI_REPOSITORY_TOKEN"),
    ],
)
def test_misspelt_protection_is_refused(wrong: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{wrong}: .*did you mean {meant}\?"):
        Settings.load({"bundles": ["a"]}, {wrong: "a"})


def test_other_misspelt_variables_are_named() -> None:
    service = {  # of a service "saarthi", set by Kubernetes
        "SAARTHI_PORT": "tcp://10.0.0.1:80",
        "SAARTHI_PORT_80_TCP": "tcp://10.0.0.1:80",
        "SAARTHI_PORT_80_TCP_ADDR": "10.0.0.1",
        "SAARTHI_SERVICE_HOST": "10.0.0.1",
        "SAARTHI_SERVICE_PORT_HTTP": "80",
        "SAARTHI_NLU_SERVICE_PORT": "80",
    }
    wrong = {"SAARTHI_MAX_BACH": "4", "SAARTHI_COLOUR": "red"}
    environment = {**service, **wrong, "PATH": "/bin", "SAARTHI_MAX_BATCH": "5"}
    assert unknown_variables(environment) == {
        "SAARTHI_MAX_BACH": "SAARTHI_MAX_BATCH",
        "SAARTHI_COLOUR": "",
    }
    assert Settings.load({"bundles": ["a"]}, environment).max_batch == 5


def test_server_names_misspelt_variables(tmp_path: Path) -> None:
    bundle, log = write_tiny_bundle(tmp_path / "bundle", runtime="onnxruntime"), tmp_path / "log"
    process = start(log, bundle, environment={"SAARTHI_TRUSTED_KEY": "/keys/public.pem"})
    assert process.wait(60) == 2
    text = log.read_text(encoding="utf-8")
    assert "did you mean SAARTHI_TRUSTED_KEYS?" in text and "Traceback" not in text
    with serving(bundle, environment={"SAARTHI_DRAIN_SECOND\n": "1"}) as server:
        warned = [line for line in server.log_lines() if "SAARTHI_DRAIN_SECOND" in line]
        assert len(warned) == 1 and "did you mean SAARTHI_DRAIN_SECONDS?" in warned[0]


def test_all_variables_of_the_sources_are_known() -> None:
    root = Path(__file__).parent.parent.parent
    used: set[str] = set()
    for folder in ("saarthi_lib", "predictors", "components", "pipelines"):
        for path in (root / folder).rglob("*.py"):
            used |= set(re.findall(r'"(SAARTHI_[A-Z_]+)"', path.read_text(encoding="utf-8")))
    assert len(used) > 8
    assert unknown_variables(dict.fromkeys(used, "a")) == {}
