"""What our server is held against, each a process: `other_services.py KIND PORT BUNDLE CLASSIC`.

- `plain`: what one writes in an afternoon: FastAPI and uvicorn around the classic student
- `kserve`: the same student as a KServe model with a synchronous `predict`
- `kserve-constant`, `fastapi-constant`, `uvicorn-constant`: floors, which answer without thought

The classic student is a large one in TorchScript float32 that reads all 26 pieces each time. It has
the bundle's tokenizer and labels, and, unlike what it stands for, our tokenizer and decoder.
"""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

from saarthi_lib.inference.engine import Ids, Logits, TorchScriptEngine
from saarthi_lib.inference.predictor import Predictor

CONSTANT = {
    "label": "HassTurnOn",
    "probability": 0.93,
    "abstained": False,
    "lang": None,
    "model": "constant",
    "version": "1",
}


class Padded:
    """An engine whose network reads the padding as well, as one traced at a fixed length does."""

    def __init__(self, model: Path, longest: int) -> None:
        self._engine = TorchScriptEngine(model)
        self._longest = longest

    def run(self, ids: Ids, lengths: Ids) -> tuple[Logits | None, Logits | None]:
        """Run the network; see `Engine.run`."""
        padded = np.pad(ids, ((0, 0), (0, self._longest - ids.shape[1])))
        return self._engine.run(padded, np.full_like(lengths, self._longest))


def classic(bundle: str, model: str) -> Predictor:
    """The classic student."""
    predictor = Predictor.load(bundle)
    predictor.engine = Padded(Path(model), predictor.manifest.max_seq_len)
    predictor.warm_up()
    return predictor


def serve_fastapi(port: int, answer: Callable[[str], dict[str, Any]]) -> None:
    """FastAPI and uvicorn as their tutorials have them, but for the access log."""
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    app = FastAPI()

    class Question(BaseModel):
        text: str

    @app.post("/predict")
    def predict(question: Question) -> dict[str, Any]:
        return answer(question.text)

    uvicorn.run(app, port=port, access_log=False, log_level="error")


def serve_kserve(port: int, answer: Callable[[list[str]], list[dict[str, Any]]]) -> None:
    """KServe's model server, without its line for each request."""
    import kserve

    class Served(kserve.Model):
        def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
            return {"predictions": answer(payload["instances"])}

    model = Served("model")
    model.ready = True
    server = kserve.ModelServer(
        http_port=port, grpc_port=port + 1, workers=1, enable_latency_logging=False
    )
    server.start([model])


def serve_constant(port: int) -> None:
    """uvicorn alone, as our server sets it up, answering the least an ASGI application can."""
    import orjson
    import uvicorn

    body = orjson.dumps(CONSTANT)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]

    async def application(
        scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    uvicorn.run(
        application,
        port=port,
        access_log=False,
        log_level="error",
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        interface="asgi3",
    )


def main() -> None:
    """Serve until ended."""
    kind, port, bundle, model = sys.argv[1], int(sys.argv[2]), *sys.argv[3:5]
    sys.argv = sys.argv[:1]  # KServe reads them too
    match kind:
        case "plain":
            predictor = classic(bundle, model)
            serve_fastapi(port, lambda text: predictor.predict([text])[0].to_dict())
        case "kserve":
            predictor = classic(bundle, model)
            serve_kserve(port, lambda texts: [p.to_dict() for p in predictor.predict(texts)])
        case "fastapi-constant":
            serve_fastapi(port, lambda _: CONSTANT)
        case "kserve-constant":
            serve_kserve(port, lambda texts: [CONSTANT] * len(texts))
        case "uvicorn-constant":
            serve_constant(port)


if __name__ == "__main__":
    main()
