"""Measure the plain alternative to our images: `pip install torch transformers fastapi`.

python benchmarks/images.py [--rounds N]    # as root, with docker.io and debootstrap

Builds two images on Debian with Python: with PyTorch from the package index, which includes CUDA,
and with the build for CPUs that pip's settings on this machine select. The time is from `docker
run` to the end of the imports that a service needs. Several GB are downloaded.
"""

import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

from common import ROOT, begin, parser_of, print_table

sys.path.insert(0, str(ROOT))

from tests.docker.base import BUILD, install_base, make_bases
from tests.docker.engine import Engine, why_not

PLAIN = """
FROM {base}
ENV PATH=/venv/bin:$PATH
RUN python3 -m venv /venv
RUN pip install {torch} transformers fastapi uvicorn
"""
BUILDS = {
    "from the index": "torch",
    "for CPUs": f"torch=={version('torch').split('+')[0]}",  # the version that is tested here
}
IMPORTS = "import fastapi, torch, uvicorn; from transformers import AutoModel"


def main() -> None:
    """Build, measure and print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    rounds = begin(parser).rounds
    if reason := why_not():
        parser.error(reason)
    rows = []
    with tempfile.TemporaryDirectory() as scratch, Engine() as engine:
        make_bases(engine, Path(scratch))
        with install_base(engine, Path(scratch)):
            for name, torch in BUILDS.items():
                context = Path(scratch) / name.replace(" ", "-")
                context.mkdir()
                text = PLAIN.format(base=BUILD, torch=torch)
                (context / "Dockerfile").write_text(text, encoding="utf-8")
                engine.docker("build", "--network", "host", "--tag", "plain", context)
                size = int(engine.docker("image", "inspect", "--format", "{{.Size}}", "plain"))
                seconds = []
                for _ in range(rounds + 1):  # the first fills the disk cache
                    start = time.monotonic()
                    engine.docker("run", "--rm", "plain", "python3", "-c", IMPORTS)
                    seconds.append(time.monotonic() - start)
                rows.append([name, f"{size / 1e6:,.0f}", f"{median(seconds[1:]):.1f}"])
    title = "pip install torch transformers fastapi uvicorn, in one image"
    print_table(title, ["PyTorch", "MB", "run to imported, s"], rows)


if __name__ == "__main__":
    main()
