"""Input folders on S3: a real server in a process of its own, and proxies that fail before it."""

import json
import os
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from saarthi_lib import steps, train
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.cloud import bucket_at, fetch, remote_digest, storage_errors, store
from saarthi_lib.data.cloud.objects import DamagedError
from saarthi_lib.data.detect import with_task
from saarthi_lib.data.gather import gather, input_folder
from saarthi_lib.errors import DataError
from saarthi_lib.storage import digest_folder
from tests.stores.s3 import S3Bucket, proxy, s3_server, use_server
from tests.stores.web import web_server, write_certificate

PART = 8 << 20  # bytes from which boto3 transfers in parts


def send(url: str, body: bytes, method: str) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method)).close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "local"
    (root / "train").mkdir(parents=True)
    for part in range(3):
        (root / "train" / f"part {part}+ü.csv").write_text(
            "text,label\n" + f"बत्ती {part},on\n" * 50, encoding="utf-8"
        )
    (root / "test.csv").write_text("text,label\nbatti,on\n", encoding="utf-8")
    return root


def test_fetched_folder_equals_the_local_one(s3: S3Bucket, folder: Path, tmp_path: Path) -> None:
    s3.put_folder(folder, "sets/lights")
    s3.put_folder(folder, "sets/lights-2")  # shares the prefix of the name
    s3.put("sets/lights/empty/", b"")  # the empty object of a folder
    s3.put("sets/lights/empty.txt", b"")
    (folder / "empty.txt").touch()
    target = tmp_path / "fetched"
    fetch(f"s3://{s3.name}/sets/lights", target)

    assert digest_folder(target) == digest_folder(folder)
    s3.client.delete_object(Bucket=s3.name, Key="sets/lights/test.csv")
    fetch(f"S3://{s3.name}/sets/lights/", target)  # replaces the folder
    assert not (target / "test.csv").exists()


def test_address_of_one_object_gives_this_file(s3: S3Bucket, tmp_path: Path) -> None:
    s3.put("sets/bot.csv", "text,label\nhi,greet\n")
    s3.put("sets/bot.csv.bak", "text,label\n")
    fetch(f"s3://{s3.name}/sets/bot.csv", tmp_path / "fetched")
    assert [path.name for path in (tmp_path / "fetched").iterdir()] == ["bot.csv"]


def test_large_files_go_up_and_down_in_parts(
    s3: S3Bucket, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = tmp_path / "local"
    local.mkdir()
    (local / "train.csv").write_bytes(os.urandom(2 * PART + 5))
    requests: list[tuple[str, str]] = []

    def note(method: str, path: str) -> None:
        requests.append((method, path))

    with proxy(s3_url, note) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        store(local, f"s3://{s3.name}/large")
        assert sum("partNumber" in path for _, path in requests) == 3
        requests.clear()
        fetch(f"s3://{s3.name}/large", tmp_path / "fetched")
        assert sum(method == "GET" and "train.csv" in path for method, path in requests) == 3
    assert digest_folder(tmp_path / "fetched") == digest_folder(local)


def test_more_objects_than_a_page_are_all_listed(s3: S3Bucket) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: s3.put(f"set/train/part-{i}.csv", "a"), range(1050)))
    assert len(bucket_at(f"s3://{s3.name}/set").objects()) == 1050


def test_digest_changes_with_the_content_only(s3: S3Bucket, folder: Path) -> None:
    s3.put_folder(folder, "set")
    uri = f"s3://{s3.name}/set"
    before = remote_digest(uri)
    assert remote_digest(f"{uri}/") == before

    s3.put("set/test.csv", "text,label\nbatti,off\n")
    changed = remote_digest(uri)
    s3.put("set/dev.csv", "text,label\n")
    assert len({before, changed, remote_digest(uri)}) == 3
    s3.put_folder(folder, "set")  # the same content again
    s3.client.delete_object(Bucket=s3.name, Key="set/dev.csv")
    assert remote_digest(uri) == before


@pytest.mark.parametrize(("times", "size"), [(1, 20), (1, PART + 20), (99, 20)])
def test_object_overwritten_during_fetch_is_detected(
    s3: S3Bucket,
    s3_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: int,
    size: int,
) -> None:
    s3.put("set/train.csv", b"o" * size)
    left = times

    def overwrite_before_download(method: str, path: str) -> None:
        nonlocal left
        if method == "GET" and "train.csv" in path and left:
            left -= 1
            s3.put("set/train.csv", f"{left % 10}" * size)

    with proxy(s3_url, overwrite_before_download) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        target = tmp_path / "fetched"
        if times == 1:  # listed again, and the new one fetched
            fetch(f"s3://{s3.name}/set", target)
            assert (target / "train.csv").read_text() == "0" * size
        else:
            with pytest.raises(DataError, match="changed during 3 downloads"):
                fetch(f"s3://{s3.name}/set", target)
            assert list(tmp_path.iterdir()) == []


def test_temporary_errors_are_retried(
    s3: S3Bucket, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: set[str] = set()
    lock = threading.Lock()

    def fail_first(method: str, path: str) -> int | None:
        kind = f"{method} {'list' if 'list-type' in path else 'object'}"
        with lock:
            if kind in failed:
                return None
            failed.add(kind)
            return 503

    local = tmp_path / "local"
    local.mkdir()
    (local / "train.csv").write_text("text,label\n")
    with proxy(s3_url, fail_first) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        store(local, f"s3://{s3.name}/set")
        fetch(f"s3://{s3.name}/set", tmp_path / "fetched")
    assert failed == {"PUT object", "GET list", "GET object"}
    assert digest_folder(tmp_path / "fetched") == digest_folder(local)


def test_interrupted_download_leaves_nothing(
    s3: S3Bucket, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put("set/train.csv", "text,label\n" * 100)
    s3.put("set/test.csv", "text,label\n")

    def half(method: str, path: str) -> Any:
        return (lambda body: body[: len(body) // 2]) if "train.csv" in path else None

    with proxy(s3_url, half) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(DataError, match="the storage cannot be reached"):
            fetch(f"s3://{s3.name}/set", tmp_path / "fetched")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("checksum", ["CRC32", None])
def test_damaged_content_is_refused(
    s3: S3Bucket,
    s3_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    checksum: str | None,
) -> None:
    if checksum:
        s3.put("set/train.csv", "text,label\n")
    else:  # as another program stores it: the ETag is the only checksum
        send(f"{s3_url}/{s3.name}/set/train.csv", b"text,label\n", "PUT")

    def damage(method: str, path: str) -> Any:
        return (lambda body: body[::-1]) if method == "GET" and "train.csv" in path else None

    with proxy(s3_url, damage) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(DataError, match="does not match its checksum"):
            fetch(f"s3://{s3.name}/set", tmp_path / "fetched")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../outside", "unfit for a file"),
        ("a/../../outside", "unfit for a file"),
        ("/etc/outside", "unfit for a file"),
        ("a//b", "unfit for a file"),
        ("a\\..\\b", "unfit for a file"),
        ("ल" * 90, "unfit for a file"),  # 270 bytes
        ("train.csv/part", "both an object and a folder"),
    ],
)
def test_name_outside_the_folder_is_refused(
    s3: S3Bucket, tmp_path: Path, name: str, message: str
) -> None:
    s3.put("set/train.csv", "a")
    s3.put(f"set/{name}", "a")
    with pytest.raises(DataError, match=message):
        fetch(f"s3://{s3.name}/set", tmp_path / "fetched")
    assert list(tmp_path.iterdir()) == []


def test_missing_bucket_or_folder_is_named(
    s3: S3Bucket, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="s3://no-such-bucket/set: the bucket does not exist"):
        remote_digest("s3://no-such-bucket/set")
    with pytest.raises(DataError, match="there are no objects below it"):
        remote_digest(f"s3://{s3.name}/set")
    with pytest.raises(DataError, match="bucket's name is not valid"):
        remote_digest("s3://not a bucket/set")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "not an address")
    with pytest.raises(DataError, match="the AWS settings of the environment cannot be used"):
        remote_digest(f"s3://{s3.name}/set")


def test_wrong_key_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with s3_server() as url:
        s3 = S3Bucket(url)
        s3.put("set/train.csv", "text,label\n")
        key = _user_with_key(url)
        # From now on, the server checks signatures and permissions.
        send(f"{url}/moto-api/reset-auth", b"0", "POST")
        uri = f"s3://{s3.name}/set"

        use_server(monkeypatch, url, **key)
        fetch(uri, tmp_path / "fetched")
        for wrong, message in (
            ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "the secret key is wrong"),
            ({"AWS_ACCESS_KEY_ID": "AKIAWRONG"}, "the access key is unknown"),
        ):
            use_server(monkeypatch, url, **{**key, **wrong})
            with pytest.raises(DataError, match=message) as caught:
                remote_digest(uri)
            assert key["AWS_SECRET_ACCESS_KEY"] not in str(caught.value)


def _user_with_key(url: str) -> dict[str, str]:
    """Credentials of a new user who may use S3."""
    settings = {"endpoint_url": url, "region_name": "us-east-1"}
    iam = boto3.client("iam", aws_access_key_id="a", aws_secret_access_key="a", **settings)
    iam.create_user(UserName="bot")
    statement = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName="bot", PolicyName="s3", PolicyDocument=policy)
    key = iam.create_access_key(UserName="bot")["AccessKey"]
    return {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }


def test_certificate_of_the_server_is_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certificate = write_certificate(tmp_path)
    with s3_server("-c", str(certificate), "-k", str(certificate)) as url:
        use_server(monkeypatch, url)
        with pytest.raises(DataError, match="certificate is not trusted; set AWS_CA_BUNDLE"):
            remote_digest("s3://bucket/set")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        with pytest.raises(DataError, match="the bucket does not exist"):
            remote_digest("s3://bucket/set")


def test_overloaded_storage_is_named(
    s3: S3Bucket, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy(s3_url, lambda method, path: 503) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(DataError, match="overloaded or broken; try again later"):
            place = bucket_at(f"s3://{s3.name}", seconds=5)  # one try
            with storage_errors(place, f"s3://{s3.name}"):
                place.read("x")


def test_server_that_is_not_s3_is_named(s3: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (200, {"Content-Type": "text/html"}, b"<html>sign in</html>")
    with web_server(lambda path, headers: page) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(DataError, match=r"does not answer as S3 does.*AWS_ENDPOINT_URL"):
            remote_digest(f"s3://{s3.name}/set")


def test_endless_redirects_are_named(
    s3: S3Bucket, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy(s3_url, lambda method, path: 301) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(DataError, match="redirects in a circle; correct AWS_ENDPOINT_URL"):
            remote_digest(f"s3://{s3.name}/set")


def test_missing_permission_and_credentials_are_named(
    s3: S3Bucket, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy(s3_url, lambda method, path: 403) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(DataError, match="needs s3:ListBucket and s3:GetObject"):
            remote_digest(f"s3://{s3.name}/set")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        with pytest.raises(DataError, match="is not public, and there are no credentials"):
            remote_digest(f"s3://{s3.name}/set")


def test_public_bucket_needs_no_credentials(
    s3: S3Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    s3.client.put_bucket_acl(Bucket=s3.name, ACL="public-read")
    s3.client.put_object(
        Bucket=s3.name, Key="set/train.csv", Body=b"text,label\n", ACL="public-read"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    fetch(f"s3://{s3.name}/set", tmp_path / "fetched")
    assert (tmp_path / "fetched" / "train.csv").is_file()


def test_task_and_columns_are_detected(s3: S3Bucket) -> None:
    rows = "".join(f"turn it on {row},on\nturn it off {row},off\n" for row in range(20))
    s3.put("bot/train.csv", f"utterance,intent\n{rows}")
    config = TrainConfig.from_mapping({"input_path": f"s3://{s3.name}/bot"})
    assert with_task(config).task == "intent_classification"
    s3.put("bot/train.csv", "")
    with pytest.raises(DataError, match=rf"^s3://{s3.name}/bot/train\.csv: has no rows"):
        with_task(config)


def test_columns_are_detected_if_the_task_is_given(s3: S3Bucket, tmp_path: Path) -> None:
    rows = "".join(f"turn it on {row},on\nturn it off {row},off\n" for row in range(20))
    s3.put("bot/train.csv", f"phrase,kind\n{rows}")
    given = TrainConfig.from_mapping(
        {
            "input_path": f"s3://{s3.name}/bot",
            "task": "intent_classification",
            "teacher_name": "minilm",
            "augmentation_size": 0,
        }
    )
    steps.check_data(given, tmp_path / "check.html")
    steps.preprocess(given, tmp_path / "data")
    # Later steps and the bundle know the columns.
    config = steps.resolved(given, tmp_path / "data")
    assert (config.text_column, config.label_column) == ("phrase", "kind")
    named = TrainConfig.from_mapping({**given.given("run", "data"), "label_column": "colour"})
    with pytest.raises(DataError, match="colour"):
        steps.check_data(named, tmp_path / "check.html")


@pytest.mark.parametrize("name", ["test.csv", "readme.csv"])
def test_single_object_is_train_as_a_local_file_is(s3: S3Bucket, tmp_path: Path, name: str) -> None:
    rows = "".join(f"turn it on {row},on\nturn it off {row},off\n" for row in range(20))
    s3.put(f"bot/{name}", f"text,label\n{rows}")
    s3.put("bot/train.csv", "text,label\n")
    config = with_task(TrainConfig.from_mapping({"input_path": f"s3://{s3.name}/bot/{name}"}))
    with input_folder(config, tmp_path) as place:
        tables = gather(place, config).tables
    assert sum(map(len, tables.values())) == 40
    s3.put(f"bot/{name}", "text,label\n")
    with pytest.raises(DataError, match=rf"^s3://{s3.name}/bot/{name}: has no rows"):
        with_task(TrainConfig.from_mapping({"input_path": config.input_path}))


@pytest.mark.slow
def test_training_on_a_bucket_equals_training_on_a_folder(
    s3: S3Bucket, home_assistant: Path, fast: dict[str, Any], tmp_path: Path
) -> None:
    s3.put_folder(home_assistant, "bot")
    root = train({**fast, "input_path": f"s3://{s3.name}/bot"})
    local = train({**fast, "root_output_path": str(tmp_path / "local")})
    found = [json.loads((each / "metrics.json").read_text("utf-8")) for each in (root, local)]
    assert found[0]["student"]["final"]["main"] == found[1]["student"]["final"]["main"]
    record = (root / "run.json").read_text("utf-8")
    assert f"s3://{s3.name}/bot" in record and "testing" not in record


@pytest.mark.parametrize("size", [50_000, 3 * PART])
def test_more_bytes_than_listed_are_not_written(s3: S3Bucket, tmp_path: Path, size: int) -> None:
    s3.put("sets/bot.csv", "x" * size)
    bucket = bucket_at(f"s3://{s3.name}/sets")
    [stored] = bucket.objects()
    with pytest.raises(DamagedError, match="more than the 10 bytes of its list"):
        bucket.download(replace(stored, size=10), tmp_path / "bot.csv")
    assert (tmp_path / "bot.csv").stat().st_size < PART
    with pytest.raises(DamagedError):
        bucket.download(stored, tmp_path / "bot.csv", 100)
