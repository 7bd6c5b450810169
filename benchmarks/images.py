"""What the images stand beside: `pip install torch transformers fastapi` in one image.

python benchmarks/images.py      as root, with docker.io and debootstrap; several GB are fetched

Two such images are made on Debian with Python: with PyTorch as the package index gives it, which
brings CUDA, and with the build for CPUs that pip's settings here lead to. Each is timed from
`docker run` to the end of the imports that a service does before it can load anything.
"""

import argparse
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from common import print_table

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.docker.base import BUILD, install_base, make_bases  # noqa: E402
from tests.docker.engine import Engine, why_not  # noqa: E402

PLAIN = """
FROM {base}
ENV PATH=/venv/bin:$PATH
RUN python3 -m venv /venv
RUN pip install {torch} transformers fastapi uvicorn
"""
# The version that is tested here, of which pip's settings may know a build for CPUs.
OURS = f"torch=={version('torch').split('+')[0]}"
BUILDS = {"as the index gives it": "torch", "for CPUs": OURS}
IMPORTS = "import fastapi, torch, uvicorn; from transformers import AutoModel"


def main() -> None:
    """Build, measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
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
                start = time.monotonic()
                engine.docker("build", "--network", "host", "--tag", "plain", context)
                built = time.monotonic() - start
                size = int(engine.docker("image", "inspect", "--format", "{{.Size}}", "plain"))
                seconds = []
                for _ in range(rounds + 1):  # the first fills the disk cache
                    start = time.monotonic()
                    engine.docker("run", "--rm", "plain", "python3", "-c", IMPORTS)
                    seconds.append(time.monotonic() - start)
                median = f"{statistics.median(seconds[1:]):.1f}"
                rows.append([name, f"{size / 1e6:,.0f}", median, f"{built:.0f}"])
    title = "pip install torch transformers fastapi uvicorn, in one image"
    print_table(title, ["PyTorch", "MB", "run to imported, s", "build, s"], rows)


if __name__ == "__main__":
    main()
