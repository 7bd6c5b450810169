"""Addresses are recognized before a text becomes a path, and lose their secrets."""

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saarthi_lib import logs
from saarthi_lib.addresses import local_path, scheme_of
from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import ConfigError, DataError, redacted
from saarthi_lib.inference.predictor import Predictor


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("s3://bucket/x", "s3"),
        ("GS://bucket", "gs"),
        ("foo+bar://x", "foo+bar"),
        ("s3:/bucket", "s3"),  # as Path writes it
        ("file:/data", "file"),
        ("C:/data", ""),
        ("data:/x", ""),  # a folder may have this name
        ("demo:home-assistant", ""),
        ("data/s3://x", ""),
        ("a b://x", ""),
        ("", ""),
    ],
)
def test_scheme_of_an_address_is_found(text: str, scheme: str) -> None:
    assert scheme_of(text) == scheme


@given(st.text(st.characters(codec="utf-8", exclude_characters=":\0"), max_size=20))
def test_text_without_a_scheme_stays_a_path(text: str) -> None:
    assert local_path(text, "x") == Path(text)


@given(st.sampled_from(["s3", "gs", "s3a", "ftp", "zz9"]), st.text("ab/.", max_size=9))
def test_no_address_becomes_a_local_path(scheme: str, rest: str) -> None:
    for text in (f"{scheme}://{rest}", f"{scheme.upper()}://{rest}"):
        with pytest.raises(ConfigError, match="known here: a path, file://"):
            local_path(text, "x")


@pytest.mark.parametrize("uri", ["s3://bucket/bundle", Path("s3://bucket/bundle"), "foo://x"])
def test_predictor_of_an_address_is_refused(uri: str | Path) -> None:
    with pytest.raises(ConfigError, match=r"bundle: .*known here: a path, file://"):
        Predictor.load(uri)


def test_file_addresses_are_paths(tmp_path: Path) -> None:
    folder = tmp_path / "my data"
    assert local_path(folder.as_uri(), "x") == folder
    assert local_path(f"file://localhost{folder}", "x") == folder
    assert local_path(f"file:{folder}", "x") == folder
    (tmp_path / "a%20b").mkdir()
    assert local_path(f"file://{tmp_path}/a%20b", "x") == tmp_path / "a%20b"
    with pytest.raises(ConfigError, match="is not of the form file://"):
        local_path("file://", "x")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("input_path", "s3n://b/x", r"s3n:// is unknown \(did you mean s3://\?\); known here"),
        ("input_path", "gcs://b/x", r"did you mean gs://\?"),
        ("input_path", "http://h/x.csv", r"did you mean https://\?"),
        ("input_path", "azure://b/x", "known here: a path, s3://, gs://, https://, hf://, file://"),
        ("input_path", "s3:/b/x", "is not of the form s3://"),
        ("input_path", "s3://", "is not of the form s3://"),
        ("input_path", "gs:///folder", "is not of the form gs://"),
        ("input_path", "gs://key:word@b/x", "give the credentials in the environment"),
        ("root_output_path", "s3://b/runs", "s3:// cannot be used here; download it"),
        ("teacher_name", "gs://b/teacher", "gs:// cannot be used here; download it"),
    ],
)
def test_field_with_an_unknown_scheme_is_refused(field: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"{field}: .*{message}") as caught:
        TrainConfig.from_mapping({field: value})
    assert "word" not in str(caught.value)


def test_input_path_is_written_in_one_way() -> None:
    for given_path, path in (
        ("file:///mnt/volume/bot", "/mnt/volume/bot"),
        ("S3://Bucket/x", "s3://Bucket/x"),
        ("runs/../data/", "runs/../data/"),
    ):
        assert TrainConfig.from_mapping({"input_path": given_path}).input_path == path


SECRETS = [
    "https://user:pa55@host/file.csv",
    "https://h/f?X-Amz-Credential=pa55&X-Amz-Signature=pa55&X-Amz-Security-Token=pa55",
    "https://h/f.csv?sv=2022&sig=pa55%3D&se=1",
    "https://h/f?access_token=pa55",
    "https://h/f?a=1&api_key=pa55&b=2",
    "s3://AKIA:pa55@bucket/x",
]


@pytest.mark.parametrize("address", SECRETS)
def test_secrets_of_addresses_are_left_out(
    address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("saarthi")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", logger.propagate)
    logs.configure()
    logs.get_logger("test").info("%s: 3 files", address)
    for text in (redacted(address), str(DataError(f"{address}: wrong")), capsys.readouterr().err):
        assert "pa55" not in text and "***" in text


@pytest.mark.parametrize(
    "text",
    ["hf://datasets/owner/name@v1/x", "https://h/f?gid=0&format=csv", "s3://b/a?b", "a@b.org"],
)
def test_text_without_secrets_stays(text: str) -> None:
    assert redacted(text) == text
