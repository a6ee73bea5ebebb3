"""What is scraped: bounded whatever is asked for, in the form that was asked for."""

from __future__ import annotations

import tracemalloc

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_plain

from mme.errors import ArtifactUnavailable
from mme.metrics import Metrics
from mme.usage.account import Usage
from mme.usage.accounts import Accounts
from mme.usage.top import TopModels

OPEN = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def samples(metrics, accept=""):
    text, form = metrics.render(accept)
    read = read_open if form.startswith("application/openmetrics") else read_plain
    return [sample for family in read(text.decode()) for sample in family.samples]


def test_a_bucket_names_its_latest_request_to_who_understands_it():
    metrics = Metrics("endpoint", "variant")
    for request_id, seconds in (("id-1", 0.002), ("id-2", 0.0021), ("id-3", 7.0)):
        metrics.request_seconds.observe(seconds, request_id)
    metrics.request_seconds.observe(0.0022)
    buckets = [each for each in samples(metrics, OPEN) if each.name == "mme_request_seconds_bucket"]
    named = {each.labels["le"]: each.exemplar for each in buckets if each.exemplar}
    assert {le: found.labels["request_id"] for le, found in named.items()} == {
        "0.0025": "id-2",
        "10.0": "id-3",
    }
    assert named["10.0"].value == 7.0
    assert buckets[-1].value == 4
    assert b"id-2" not in metrics.render("text/plain")[0]


def test_both_forms_say_the_same():
    metrics = Metrics("endpoint", "variant")
    metrics.invocations.inc(3)
    metrics.top_models.shown = [(shown('we"ird\nname', 2), 5)]
    plain, opened = (
        {(each.name, *each.labels.items()): each.value for each in samples(metrics, accept)}
        for accept in ("", OPEN)
    )
    told = ("Invocations_total", ("EndpointName", "endpoint"), ("VariantName", "variant"))
    assert plain[told] == opened[told] == 3
    assert plain["mme_model_requests_total", ("model", 'we"ird\nname')] == 2


def shown(model, requests):
    top = TopModels(1)
    top.add([Usage(model, requests=requests)], 1.0)
    return top.shown()[0]


def test_fifty_thousand_models_and_invented_names_leave_the_answer_small_and_memory_flat():
    metrics, accounts, top = Metrics("endpoint", "variant"), Accounts(), TopModels(20)
    absent = ArtifactUnavailable("bucket", "key", "missing")
    held, sizes = [], []
    for wave in range(4):  # of 12,500 models, and 25,000 names that nobody ever had
        for number in range(12_500):
            account = accounts.enter(f"tenants/{wave}-{number:05}/{'x' * 100}.tar.gz", 1, 0.1)
            account.answered(1, 1)
            accounts.leave(account, 1)
            accounts.failed(f"invented-{wave}-{number}", absent, 1)
            accounts.failed(f"also-{wave}-{number}/{'y' * 900}", absent, 1)
        top.add(accounts.take(accounts.noted_count), 5.0)
        metrics.top_models.shown = [(each, accounts.bytes_of(each.model)) for each in top.shown()]
        sizes.append(len(metrics.render()[0]))
        held.append(accounts.count + len(top._models))
    assert max(sizes) < 2_000_000
    assert max(sizes) - min(sizes) < 100
    assert max(held) <= 200


def test_memory_stays_flat_while_names_come_and_go():
    accounts, top = Accounts(), TopModels(20)

    def pass_by(wave):
        for number in range(3_000):
            account = accounts.enter(f"{wave}-{number}", 1, 0.1)
            account.answered(1, 1)
            accounts.leave(account, 1)
        top.add(accounts.take(accounts.noted_count), 5.0)

    pass_by(0)
    tracemalloc.start()
    try:
        for wave in range(1, 6):
            pass_by(wave)
        assert tracemalloc.get_traced_memory()[0] < 300_000  # a wave that stayed would be 900 kB
    finally:
        tracemalloc.stop()
