"""The ledger of a real server: what is billed, over a kill, to whom it is shown and how."""

from __future__ import annotations

import csv
import io
import json
import urllib.error
import urllib.request

import pytest
from typer.testing import CliRunner

from mme.cli.main import app
from tests.engines import drop
from tests.models import CSV, booster
from tests.servers import predict, runtime_client, serving


def read(url, path="/ledger", **headers):
    request = urllib.request.Request(url + path, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as reply:
        return reply.headers["Content-Type"], reply.read().decode()


def by_name(url, query=""):
    told = json.loads(read(url, f"/ledger{query}")[1])
    return {usage["model"]: usage for usage in told["models"]}, told


def mme(*arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.timeout(60)  # a server's start, and a client that asks of it what fails
def test_every_model_is_billed_for_what_it_used_to_whoever_asks_and_however(tmp_path):
    models = tmp_path / "models"
    for seed, name in enumerate(("a/model.tar.gz", "b/model.tar.gz"), 1):
        drop(models, name, booster(seed).members)
    drop(models, "broken.tar.gz", b"no tarball")
    with serving(tmp_path, models) as served, runtime_client(served.url) as client:
        for _ in range(5):
            predict(client, "a/model.tar.gz")
        predict(client, "b/model.tar.gz")
        for model in ("broken.tar.gz", "invented-1", "invented-2"):
            with pytest.raises(client.exceptions.ClientError):
                predict(client, model)
        with pytest.raises(client.exceptions.ClientError):
            predict(client, "a/model.tar.gz", b"not,a,row")

        usages, told = by_name(served.url, "?by=requests")
        assert list(usages) == ["a/model.tar.gz", None, "b/model.tar.gz", "broken.tar.gz"]
        a = usages["a/model.tar.gz"]
        assert (a["requests"], a["model_errors"], a["loads"]) == (6, 1, 1)
        assert a["bytes_in"] == 5 * len(CSV) + len(b"not,a,row")
        assert a["bytes_out"] > 5
        assert min(a["compute_seconds"], a["load_seconds"], a["memory_byte_seconds"]) > 0
        assert usages[None]["client_errors"] == usages[None]["requests"] == 2
        assert usages["broken.tar.gz"]["model_errors"] == 1
        assert told["total"]["requests"] == 10
        later = by_name(served.url)[0]["a/model.tar.gz"]["memory_byte_seconds"]
        assert later > a["memory_byte_seconds"]  # it still lies there

        kind, text = read(served.url, "/ledger?top=1&by=requests", Accept="text/csv")
        assert kind == "text/csv; charset=utf-8"
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        assert [(row["model"], row["requests"]) for row in rows] == [("a/model.tar.gz", "6")]
        with pytest.raises(urllib.error.HTTPError, match="400"):
            read(served.url, "/ledger?since=yesterday")

        at = ("--endpoint-url", served.url)
        assert "2 of 4 models" in mme("ledger", "--since", "1d", "--top", "2", *at).stdout
        assert mme("ledger", "--csv", *at).stdout.startswith("model,requests,client_errors")
        assert json.loads(mme("ledger", "--json", *at).stdout)["model_count"] == 4
        assert "by must be one of" in str(mme("ledger", "--by", "luck", *at).exception)
