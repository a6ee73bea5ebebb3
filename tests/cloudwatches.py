"""A CloudWatch that speaks enough of its protocol: PutMetricData in JSON, signature and all."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

KEY_ID, SECRET = "AKIDEXAMPLE", "made up for a test"


@dataclass
class CloudWatch:
    """What came; `status` is what it answers with."""

    url: str = ""
    status: int = 200
    puts: list[tuple[str, list[dict[str, Any]]]] = field(default_factory=list)
    refused: int = 0

    def take(self, namespace: str) -> dict[tuple[str, str], dict[str, Any]]:
        """All datums of a namespace so far, by name and container."""
        return {
            (datum["MetricName"], dimensions(datum).get("ContainerName", "")): datum
            for name, datums in self.puts
            if name == namespace
            for datum in datums
        }


def dimensions(datum: dict[str, Any]) -> dict[str, str]:
    return {each["Name"]: each["Value"] for each in datum["Dimensions"]}


@contextmanager
def cloudwatch() -> Iterator[CloudWatch]:
    """One on a port of its own."""
    watch = CloudWatch()

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert signature_fits(self.headers, body)
            assert self.headers["X-Amz-Target"] == "GraniteServiceVersion20100801.PutMetricData"
            plain = gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body
            told = json.loads(plain)
            if watch.status == 200:
                watch.puts.append((told["Namespace"], told["MetricData"]))
            else:
                watch.refused += 1
            self.send_response(watch.status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.end_headers()
            fault = {"__type": "InvalidParameterValueException", "message": "not this namespace"}
            self.wfile.write(json.dumps({} if watch.status == 200 else fault).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    watch.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield watch
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def signature_fits(headers: Any, body: bytes) -> bool:
    """Whether SigV4 with SECRET gives the same: written from AWS's description, not botocore's."""
    _, _, fields = headers["Authorization"].partition(" ")
    given = dict(part.strip().split("=", 1) for part in fields.split(","))
    key_id, *scope = given["Credential"].split("/")
    names = given["SignedHeaders"].split(";")
    lines = [f"{name}:{' '.join(headers[name].split())}" for name in names]
    digest = hashlib.sha256(body).hexdigest()
    request = "\n".join(["POST", "/", "", *lines, "", ";".join(names), digest])
    hashed = hashlib.sha256(request.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", headers["X-Amz-Date"], "/".join(scope), hashed])
    key = f"AWS4{SECRET}".encode()
    for part in (*scope, text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key_id == KEY_ID and scope[2] == "monitoring" and key.hex() == given["Signature"]
