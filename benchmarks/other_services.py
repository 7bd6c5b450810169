"""Services that ours is compared with: `other_services.py KIND PORT BUNDLE CLASSIC`.

- `plain`: FastAPI and uvicorn around the classic student, as in their tutorials
- `kserve-constant`: KServe's model server with a constant answer

The classic student is a large network in TorchScript float32 that always reads 26 tokens. BUNDLE
has its tokenizer and labels. The decoder is ours.
"""

import sys
from pathlib import Path
from typing import Any

ANSWER = {"label": "HassTurnOn", "probability": 0.93, "abstained": False, "model": "constant"}


def serve_plain(port: int, bundle: str, classic: str) -> None:
    """Serve the classic student, without an access log."""
    import uvicorn
    from fastapi import FastAPI
    from networks import PaddedEngine
    from pydantic import BaseModel

    from saarthi_lib.inference.predictor import Predictor

    predictor = Predictor.load(bundle)
    predictor.engine = PaddedEngine(Path(classic))
    predictor.warm_up()
    app = FastAPI()

    class Question(BaseModel):
        text: str

    @app.post("/predict")
    def predict(question: Question) -> dict[str, Any]:
        return dict(predictor.predict([question.text])[0].to_dict())

    uvicorn.run(app, port=port, access_log=False, log_level="error")


def serve_constant(port: int) -> None:
    """KServe's model server, without its log line for each request."""
    import kserve

    class Constant(kserve.Model):
        def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
            return {"predictions": [ANSWER] * len(payload["instances"])}

    model = Constant("model")
    model.ready = True
    sys.argv = sys.argv[:1]  # KServe parses them too
    settings = {"workers": 1, "enable_latency_logging": False}
    kserve.ModelServer(http_port=port, grpc_port=port + 1, **settings).start([model])


if __name__ == "__main__":
    if sys.argv[1] == "plain":
        serve_plain(int(sys.argv[2]), *sys.argv[3:5])
    else:
        serve_constant(int(sys.argv[2]))
