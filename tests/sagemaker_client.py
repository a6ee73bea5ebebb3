"""A user of the SageMaker Python SDK: `python sagemaker_client.py URL`, a job as JSON on its input.

Runs in a process of its own, as the SDK takes seconds to import and warns while it does. The job
names the endpoint, the rows and the models; out come, as JSON, the predictions of every model by
serializer and deserializer, and what a request raises that the server refuses.
"""

from __future__ import annotations

import json
import sys
from itertools import product
from typing import Any

import boto3
import numpy as np
from sagemaker import Session
from sagemaker.amazon.common import RecordDeserializer, RecordSerializer
from sagemaker.deserializers import (
    CSVDeserializer,
    JSONDeserializer,
    JSONLinesDeserializer,
    NumpyDeserializer,
    StringDeserializer,
)
from sagemaker.predictor import Predictor
from sagemaker.serializers import (
    CSVSerializer,
    JSONLinesSerializer,
    JSONSerializer,
    LibSVMSerializer,
    NumpySerializer,
)


def libsvm(rows: np.ndarray) -> str:
    return "\n".join(
        " ".join(f"{at}:{float(cell)!r}" for at, cell in enumerate(row)) for row in rows
    )


# Serializer -> how its user holds the rows, deserializer -> how its user gets at the numbers.
SENT = {
    CSVSerializer(): np.asarray,
    JSONSerializer(): np.ndarray.tolist,
    JSONLinesSerializer(): np.ndarray.tolist,
    NumpySerializer(): np.asarray,
    LibSVMSerializer(): libsvm,
    RecordSerializer(): np.asarray,
}
RECEIVED = {
    CSVDeserializer(): lambda rows: [float(cell) for row in rows for cell in row],
    JSONDeserializer(): lambda numbers: numbers,
    JSONLinesDeserializer(): lambda numbers: numbers,
    NumpyDeserializer(): np.ndarray.tolist,
    StringDeserializer(accept=("image/png", "text/csv")): lambda text: json.loads(f"[{text}]"),
    RecordDeserializer(): lambda records: [
        number for record in records for number in record.label["score"].float32_tensor.values
    ],
}


def open_session(url: str) -> Session:
    """The SDK's session: everything stands on this machine, so that nothing else is asked."""
    boto_session = boto3.Session("any", "any", region_name="us-east-1")
    return Session(
        boto_session,
        sagemaker_client=boto_session.client("sagemaker", endpoint_url=url),
        sagemaker_runtime_client=boto_session.client("sagemaker-runtime", endpoint_url=url),
        default_bucket="none",
    )


def predictions(session: Session, job: dict[str, Any]) -> dict[str, Any]:
    rows = np.array(job["rows"], dtype=np.float32)
    found: dict[str, Any] = {}
    for model, (serializer, hold), (deserializer, read) in product(
        job["models"], SENT.items(), RECEIVED.items()
    ):
        predictor = Predictor(job["endpoint"], session, serializer, deserializer)
        answer = predictor.predict(hold(rows), target_model=model)
        pair = f"{type(serializer).__name__} {type(deserializer).__name__}"
        found.setdefault(model, {})[pair] = read(answer)
    return found


def refusal(session: Session, job: dict[str, Any]) -> str:
    runtime = session.sagemaker_runtime_client
    try:
        Predictor(job["endpoint"], session).predict(b"any", target_model=job["models"][0])
    except runtime.exceptions.ModelError as error:
        return error.response["OriginalMessage"]
    return ""


if __name__ == "__main__":
    work = json.load(sys.stdin)
    sdk = open_session(sys.argv[1])
    json.dump({"predictions": predictions(sdk, work), "refusal": refusal(sdk, work)}, sys.stdout)
