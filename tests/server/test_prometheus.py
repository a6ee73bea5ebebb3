"""What deploy/ ships for Prometheus and Grafana, held against a real Prometheus."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.engines import drop
from tests.eventually import eventually
from tests.prometheuses import needs_prometheus, scraping
from tests.servers import predict, runtime_client, serving

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "mme.rules.yml"
DASHBOARD = DEPLOY / "grafana" / "mme.json"
MODEL = b"""
def model_fn(directory): return None
def transform_fn(model, data, kind, accept):
    return str(float(data.split(",")[0]))
"""
NOT_EVERYWHERE = {"mme_container_up"}  # where other containers are


def dashboard_expressions():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    values = {"$job": "mme", "$instance": ".*", "$__rate_interval": "20s"}
    for panel in panels:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for name, value in values.items():
                expression = expression.replace(name, value)
            yield expression


def config(target, rules):
    return {
        "global": {"scrape_interval": "300ms", "evaluation_interval": "300ms"},
        "rule_files": [str(rules)],
        "scrape_configs": [
            {
                "job_name": "mme",
                "scrape_timeout": "300ms",
                "static_configs": [{"targets": [target]}],
            }
        ],
    }


@needs_prometheus
def test_the_rules_and_the_configuration_that_are_shipped_hold_up():
    for command in (("rules", RULES), ("config", RULES.with_name("prometheus.yml"))):
        done = subprocess.run(
            ["promtool", "check", *command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "SUCCESS" in done.stdout


@needs_prometheus
@pytest.mark.timeout(60)  # a server's start, a Prometheus' start, two scrapes
async def test_a_prometheus_reads_all_that_the_dashboard_and_the_rules_ask_for(tmp_path):
    models = tmp_path / "models"
    drop(models, "acme.tar.gz", {"code/inference.py": MODEL})
    rules = tmp_path / "rules.yml"  # the shipped ones, without the patience
    rules.write_text(re.sub(r"for: \S+", "for: 0s", RULES.read_text()))
    with serving(tmp_path, models) as served, runtime_client(served.url) as client:
        target = served.url.removeprefix("http://")
        with scraping(tmp_path / "prometheus", config(target, rules)) as prometheus:
            await eventually(prometheus.is_up, 0.1)
            await eventually(lambda: prometheus.query("up == 1"), 0.1)
            for _ in range(3):
                predict(client, "acme.tar.gz")
            with pytest.raises(client.exceptions.ClientError):
                predict(client, "acme.tar.gz", b"no,row")
            named = 'mme_model_requests_total{model="acme.tar.gz"} == 4'
            await eventually(lambda: prometheus.query(named), 0.2)

            assert {group["health"] for group in health(prometheus)} == {"ok"}
            known = set(prometheus.get("label/__name__/values"))
            for expression in dashboard_expressions():
                prometheus.query(expression)  # is valid, or this raises
                assert metrics_of(expression) <= known, expression
            for rule in health(prometheus):
                assert metrics_of(rule["query"]) <= known | NOT_EVERYWHERE, rule["query"]
            assert exemplars(prometheus)
            assert "MmeModelErrors" in prometheus.firing()  # one of four failed
            assert not {"MmeDown", "MmeNoWorker", "MmeLedgerNotWritten"} & prometheus.firing()

            assert served.stop() == 0
            await eventually(lambda: "MmeDown" in prometheus.firing(), 0.2)


def health(prometheus):
    return [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]


def metrics_of(expression):
    """The names in it: what is followed by a selector, a range or an operator, and no function."""
    return set(re.findall(r"\b((?:mme_|process_|[A-Z][a-z]+[A-Z])\w*|up)\b(?!\()", expression))


def exemplars(prometheus):
    found = prometheus.get(
        "query_exemplars", query="mme_request_seconds_bucket", start="0", end="99999999999"
    )
    return [each["labels"]["request_id"] for series in found for each in series["exemplars"]]


def test_every_panel_of_the_dashboard_fits_beside_the_others():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)
