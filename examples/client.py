"""Send many texts to a running server, with the standard library only.

    saarthi serve runs/intents/bundle-int8
    python examples/client.py http://127.0.0.1:8080 intent-classification < texts.txt

A full server answers 503 at once, with the time to wait; this client then retries.
"""

import json
import sys
import time
import urllib.error
import urllib.request
from typing import Any

BATCH = 100
ATTEMPTS = 5


def ask(server: str, model: str, texts: list[str]) -> list[dict[str, Any]]:
    """Get the answers, in the order of the texts."""
    url = f"{server}/v1/models/{model}:predict"
    body = json.dumps({"instances": texts}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    for attempt in range(ATTEMPTS):
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return list(json.load(reply)["predictions"])
        except urllib.error.HTTPError as error:
            if error.code != 503 or attempt == ATTEMPTS - 1:
                raise SystemExit(f"{error.code}: {json.load(error)['error']}") from error
            time.sleep(int(error.headers["retry-after"]))
    raise AssertionError("the last attempt returns or exits")


def main(server: str, model: str) -> None:
    texts = [line.strip() for line in sys.stdin if line.strip()]
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        for text, answer in zip(batch, ask(server, model, batch), strict=True):
            found = answer.get("entities") or answer.get("tokens") or []
            shown = [answer["label"]] if "label" in answer else []
            shown += [f"{span['text']} ({span['label']})" for span in found]
            print(text, ", ".join(shown) or "–", sep="\t")


if __name__ == "__main__":
    main(*sys.argv[1:])
