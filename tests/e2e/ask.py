"""Send texts to a predictor over V1, V2 and gRPC, and compare the answers.

python -m tests.e2e.ask nlu "turn on the lights" --url http://localhost:8080

Prints one answer for each text. Exits with 1 if protocols answer differently, or with `--version`
if another version answers.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import grpc
import httpx

Answer = dict[str, Any]

# Two predictions of one text may differ in their last digits.
CLOSE = 0.02
SECONDS = 30.0


def ask_v1(address: str, model: str, texts: Sequence[str]) -> list[Answer]:
    """Answers over KServe's V1."""
    url = f"{address}/v1/models/{model}:predict"
    answer = httpx.post(url, json={"instances": list(texts)}, timeout=SECONDS).raise_for_status()
    return list(answer.json()["predictions"])


def ask_v2(address: str, model: str, texts: Sequence[str]) -> list[Answer]:
    """Answers over the Open Inference Protocol, by REST."""
    column = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": list(texts)}
    body = {"inputs": [column], "outputs": [{"name": "predictions"}]}
    url = f"{address}/v2/models/{model}/infer"
    [output] = httpx.post(url, json=body, timeout=SECONDS).raise_for_status().json()["outputs"]
    return [json.loads(value) for value in output["data"]]


def ask_grpc(address: str, model: str, texts: Sequence[str]) -> list[Answer]:
    """Answers over the Open Inference Protocol, by gRPC."""
    # KServe parses the command line when it is imported.
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

    values = pb.InferTensorContents(bytes_contents=[text.encode() for text in texts])
    request = pb.ModelInferRequest(
        model_name=model,
        inputs=[
            pb.ModelInferRequest.InferInputTensor(
                name="text", datatype="BYTES", shape=[len(texts)], contents=values
            )
        ],
        outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="predictions")],
    )
    with grpc.insecure_channel(address) as channel:
        answer = GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=SECONDS)
    [output] = answer.outputs
    return [json.loads(value) for value in output.contents.bytes_contents]


def differences(answers: dict[str, list[Answer]], version: str | None) -> list[str]:
    """Describe answers that differ from V1's, or come from another version."""
    found = []
    first = answers["V1"]
    for protocol, given in answers.items():
        for one, other in zip(first, given, strict=True):
            near = abs(one.get("probability", 1) - other.get("probability", 1)) <= CLOSE
            if one.get("label") != other.get("label") or not near:
                found.append(f"{protocol}: {other}, but V1: {one}")
            if version not in (None, other["version"]):
                found.append(f"{protocol}: version {other['version']} answers, not {version}")
    return found


def main() -> None:
    """Parse the command line, ask, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--url", default="http://localhost:8080")
    parser.add_argument("--address", default="localhost:8081", help="empty: no gRPC (Knative)")
    parser.add_argument("--version", help="version that must answer")
    given = parser.parse_args()
    try:
        answers = {
            "V1": ask_v1(given.url, given.model, given.texts),
            "V2": ask_v2(given.url, given.model, given.texts),
        }
        if given.address:
            answers["gRPC"] = ask_grpc(given.address, given.model, given.texts)
    except (httpx.HTTPError, grpc.RpcError) as error:
        sys.exit(f"{given.url}, {given.address}: {error}")
    for answer in answers["V1"]:
        print(json.dumps(answer, ensure_ascii=False))
    if found := differences(answers, given.version):
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
