"""Fuzzing led by coverage, with atheris (libFuzzer): python -m tests.fuzz.coverage RUNS SEED

The first byte chooses the target that reads the rest. The run stops with an error at the first
finding, and keeps its input in `crash-…`.
"""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["predictors", "saarthi_lib"]):
    from predictors import codecs, v2
    from predictors.codecs import Limits
    from predictors.errors import RequestError
    from saarthi_lib.bundle.manifest import parse_manifest
    from saarthi_lib.errors import SaarthiError
    from saarthi_lib.tasks import Labels
    from saarthi_lib.text.normalize import Normalizer
    from saarthi_lib.text.words import split_words

LIMITS = Limits(instances=50, characters=5000)
STANDARD, ROMANIZED = Normalizer("standard"), Normalizer("romanized")


def one_input(data: bytes) -> None:
    """Give an input to the target that its first byte chooses."""
    kind, rest = data[:1], data[1:]
    with contextlib.suppress(RequestError, SaarthiError):
        match kind[0] % 6 if kind else 0:
            case 0:
                v2.read_v2(rest, None, LIMITS)
            case 1:
                size = min(rest[0], len(rest)) if rest else 0
                v2.read_v2(rest[1:], size, LIMITS)
            case 2:
                codecs.read_v1(codecs.read_json(rest), LIMITS)
            case 3:
                parse_manifest(rest, Path("bundle.json"))
            case 4:
                Labels.parse(rest, "labels.json")
            case _:
                given = rest.decode("utf-8", "ignore")
                normalizer = ROMANIZED if kind[0] & 64 else STANDARD
                made = normalizer(given)
                assert normalizer.align(given).text == made == normalizer(made)
                assert all(0 <= a < b <= len(made) for a, b in split_words(made))


def main() -> None:
    """Fuzz, starting from a few valid inputs."""
    import orjson

    from tests.fuzz.targets import PACKED, PREDICT, V1, V2
    from tests.fuzz.targets import bundle as a_bundle
    from tests.tiny_bundle import SENTENCES

    runs, seed = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as name:
        corpus = Path(name)
        made = a_bundle("joint", "onnxruntime")
        seeds = [
            *(b"\x00" + orjson.dumps(V2), b"\x01\x20" + orjson.dumps(V2) + PACKED),
            *(b"\x02" + orjson.dumps(V1), b"\x02" + orjson.dumps(PREDICT)),
            b"\x03" + (made / "bundle.json").read_bytes(),
            b"\x04" + (made / "labels.json").read_bytes(),
            *(bytes([5 + 64 * (n % 2)]) + s.encode() for n, s in enumerate(SENTENCES)),
        ]
        for number, content in enumerate(seeds):
            (corpus / str(number)).write_bytes(content)
        os.chdir(name)
        options = [f"-runs={runs}", f"-seed={seed}", "-max_len=2048", "-timeout=20"]
        options += ["-rss_limit_mb=4000", "-verbosity=1"]
        atheris.Setup([sys.argv[0], *options, str(corpus)], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
