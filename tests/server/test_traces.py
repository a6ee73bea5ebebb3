"""One trace a request, over all that it went through, in a receiver that speaks OTLP."""

from __future__ import annotations

import contextlib
import socket
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from tritonclient.grpc import service_pb2 as pb

from tests.engines import drop
from tests.servers import runtime_client, serving

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SCRIPT = {
    "code/inference.py": b"""
def model_fn(model_dir):
    return 7

def transform_fn(model, data, content_type, accept):
    if "fail" in str(data) and "here" not in str(data):
        raise ValueError("as it was told")
    return "7.0", accept
"""
}


class Listening(ThreadingHTTPServer):
    """Takes spans at /v1/traces; answers everything else as a container does, and notes it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.spans: list[Span] = []
        self.parents: list[str | None] = []  # what containers were told
        self.states: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Listening

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    self.server.spans.extend(scope.spans)
        else:
            self.server.parents.append(self.headers["traceparent"])
            self.server.states.append(self.headers["tracestate"])
        self.answer(body, 500 if body == b"fail here" else 200)

    def do_GET(self) -> None:
        self.answer(b"")

    def answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/csv")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def listening() -> Iterator[Listening]:
    with Listening() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


FAILED = Status.STATUS_CODE_ERROR


def ask(url: str, parent: str | None, **more: str) -> None:
    headers = {"Content-Type": "text/csv", "X-Amzn-SageMaker-Target-Model": "m.tar.gz", **more}
    if parent is not None:
        headers["traceparent"] = parent
    request = urllib.request.Request(f"{url}/invocations", b"1,2", headers)
    with urllib.request.urlopen(request, timeout=20) as reply:
        assert reply.read() == b"7.0"


def children(spans: list[Span], of: Span) -> dict[str, Span]:
    return {span.name: span for span in spans if span.parent_span_id == of.span_id}


def test_a_cold_request_is_one_trace_over_all_that_it_waited_for(tmp_path):
    (tmp_path / "models").mkdir()
    drop(tmp_path / "models", "m.tar.gz", SCRIPT)
    with listening() as receiver:
        flags = ("--traces", f"{receiver.url}/v1/traces", "--trace-share", "0")
        with serving(tmp_path, tmp_path / "models", *flags) as served:
            ask(served.url, f"00-{TRACE}-{PARENT}-01")
            ask(served.url, f"00-{TRACE}-{PARENT}-00")  # who asks does not want it traced
            ask(served.url, None)  # and of the others none are
        spans = receiver.spans
    (root,) = (span for span in spans if span.parent_span_id.hex() == PARENT)
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    said = {item.key: item.value for item in root.attributes}
    assert said["mme.model"].string_value == "m.tar.gz"
    assert said["mme.cache"].string_value == "miss"
    assert said["http.response.status_code"].int_value == 200
    parts = children(spans, root)
    assert {"load", "queue", "predict"} <= parts.keys()
    assert {"fetch and unpack", "load in a worker"} <= children(spans, parts["load"]).keys()
    assert all(
        root.start_time_unix_nano <= part.start_time_unix_nano <= part.end_time_unix_nano
        and part.end_time_unix_nano <= root.end_time_unix_nano
        for part in parts.values()
    )
    assert parts["load"].end_time_unix_nano <= parts["predict"].start_time_unix_nano


def test_a_pipelines_hops_are_spans_and_siblings_are_told_theirs(tmp_path):
    (tmp_path / "models").mkdir()
    drop(tmp_path / "models", "m.tar.gz", SCRIPT)
    with listening() as other:
        config = tmp_path / "mme.toml"
        config.write_text(
            f'traces = "{other.url}/v1/traces"\ntrace_share = 1.0\nmode = "Serial"\n'
            f'[[containers]]\nhostname = "first"\nurl = "{other.url}"\n'
            f'[[containers]]\nhostname = "scored"\nmodels = "{tmp_path / "models"}"\n'
        )
        with (
            serving(tmp_path, None, "--config", str(config)) as served,
            runtime_client(served.url) as client,
        ):
            client.invoke_endpoint(EndpointName="mme", Body=b"1,2", TargetModel="m.tar.gz")
    (root,) = (span for span in other.spans if not span.parent_span_id)
    hops = children(other.spans, root)
    first = hops["first"]
    assert hops.keys() == {"first", "scored"}
    for hop in hops.values():
        assert {"queue", "predict"} <= children(other.spans, hop).keys()
    assert [told[:-3] for told in other.parents] == [
        f"00-{root.trace_id.hex()}-{first.span_id.hex()}"
    ]


def test_what_failed_and_where_is_seen_in_its_trace(tmp_path):
    (tmp_path / "models").mkdir()
    drop(tmp_path / "models", "m.tar.gz", SCRIPT)
    with listening() as other:
        config = tmp_path / "mme.toml"
        config.write_text(
            f'traces = "{other.url}/v1/traces"\ntrace_share = 1.0\nmode = "Serial"\n'
            f'[[containers]]\nhostname = "scored"\nmodels = "{tmp_path / "models"}"\n'
            f'[[containers]]\nhostname = "last"\nurl = "{other.url}"\n'
        )
        with (
            serving(tmp_path, None, "--config", str(config)) as served,
            runtime_client(served.url) as client,
        ):
            for body in (b"1,2", b"fail", b"fail here"):
                with contextlib.suppress(client.exceptions.ModelError):
                    client.invoke_endpoint(EndpointName="mme", Body=body, TargetModel="m.tar.gz")
            ask(served.url, f"00-{TRACE}-{PARENT}-01", tracestate="rojo=1")
    assert other.states[-1] == "rojo=1"
    roots = [span for span in other.spans if not span.parent_span_id and span.name == "POST"]
    good, failed = sorted(roots, key=lambda span: span.start_time_unix_nano)[:2]
    hops = children(other.spans, good)
    assert hops.keys() == {"scored", "last"}
    for hop in hops.values():
        assert {"queue", "predict"} <= children(other.spans, hop).keys()
        assert hop.status.code != FAILED
    (hop,) = children(other.spans, failed).values()
    predicted = children(other.spans, hop)["predict"]
    assert [span.status.code for span in (failed, hop, predicted)] == 3 * [FAILED]
    assert predicted.status.message == "PredictionFailed"
    assert hop.start_time_unix_nano <= predicted.start_time_unix_nano


def test_a_call_over_grpc_is_a_trace_a_line_and_has_an_id_as_requests_over_http_have(tmp_path):
    (tmp_path / "models").mkdir()
    drop(tmp_path / "models", "m.tar.gz", SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with listening() as receiver:
        flags = ("--traces", f"{receiver.url}/v1/traces", "--trace-share", "0")
        flags += ("--grpc-port", str(port))
        with serving(tmp_path, tmp_path / "models", *flags) as served:
            ids = [call(port, parent=PARENT), call(port, parent=PARENT, model="none.tar.gz")]
            call(port, parent=None)
            with urllib.request.urlopen(f"{served.url}/metrics", timeout=10) as page:
                told = page.read().decode()
        lines = {line["request_id"]: line for line in served.log() if "request_id" in line}
    assert 'mme_requests_total{route="grpc_ModelInfer",status="404"} 1.0' in told
    failed, missing = (
        next(span for span in receiver.spans if said(span).get("aws.request_id") == request_id)
        for request_id in ids
    )
    assert {span.trace_id.hex() for span in receiver.spans} == {TRACE}
    assert {"load", "queue", "predict"} <= children(receiver.spans, failed).keys()
    assert children(receiver.spans, failed)["predict"].status.code == FAILED
    for span, code, outcome in (
        (failed, 13, "PredictionFailed"),
        (missing, 5, "ArtifactUnavailable"),
    ):
        assert span.name == "inference.GRPCInferenceService/ModelInfer"
        assert span.parent_span_id.hex() == PARENT
        assert span.status.code == FAILED
        assert said(span)["rpc.grpc.status_code"] == code
        line = lines[said(span)["aws.request_id"]]
        assert (line["route"], line["outcome"]) == ("grpc_ModelInfer", outcome)
        assert line["model"] == said(span)["mme.model"]


def said(span: Span) -> dict[str, object]:
    return {
        item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes
    }


def call(port: int, *, parent: str | None, model: str = "m.tar.gz") -> str:
    """Asks what a script can't answer; gives the id of the request."""
    request = pb.ModelInferRequest(model_name=model)
    part = request.inputs.add(name="x", datatype="BYTES", shape=[1])
    part.contents.bytes_contents.append(b"fail")
    metadata = () if parent is None else (("traceparent", f"00-{TRACE}-{parent}-01"),)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as failed:
            infer(request.SerializeToString(), metadata=metadata, timeout=20)
    return dict(failed.value.trailing_metadata())["x-amzn-requestid"]


def test_without_traces_a_sibling_is_told_what_the_request_came_with(tmp_path):
    parent = f"00-{TRACE}-{PARENT}-01"
    with listening() as other:
        config = tmp_path / "mme.toml"
        config.write_text(f'[[containers]]\nhostname = "only"\nurl = "{other.url}"\n')
        with serving(tmp_path, None, "--config", str(config)) as served:
            request = urllib.request.Request(f"{served.url}/invocations", b"1", {
                "traceparent": parent, "tracestate": "rojo=1,congo=2"
            })  # fmt: skip
            with urllib.request.urlopen(request, timeout=20) as reply:
                assert reply.read() == b"1"
    assert other.parents == [parent]
    assert other.states == ["rojo=1,congo=2"]
