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


def test_missing_bundles_error_names_the_variable() -> None:
    with pytest.raises(ConfigError, match="SAARTHI_BUNDLES"):
        Settings.load({}, {})


def test_options_may_stand_between_bundles() -> None:
    given = ["a=x", "--http-port", "80", "--playground", "b"]
    arguments = {name: value for name, value in parse(given, "serve", None).items() if value}
    assert arguments == {"bundles": ["a=x", "b"], "http_port": "80", "playground": True}
