"""Settings from arguments and from the environment."""

import pytest

from predictors.settings import Settings, parse
from saarthi_lib.errors import ConfigError


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
