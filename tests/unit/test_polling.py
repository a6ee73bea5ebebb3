"""The setting `poll_seconds` on its way to a worker's channel: none of its stations loses it."""

from __future__ import annotations

import socket

import msgspec
import pytest

from mme.app.builtin import _filled
from mme.config import load_config
from mme.workers.child import Worker
from mme.workers.child_options import ChildOptions
from mme.workers.spec import WorkerSpec


@pytest.mark.parametrize(("may_poll", "expected_seconds"), [(True, 0.007), (False, 0.0)])
def test_a_worker_polls_for_as_long_as_is_set_where_a_core_is_left(may_poll, expected_seconds):
    config = load_config({"poll_seconds": "0.007"}, {})
    workers = _filled(config, by_platform=False, may_poll=may_poll)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        told = WorkerSpec.of(0, workers, 1, None).options(
            (ours.detach(), theirs.detach()), None, None
        )
        worker = Worker(msgspec.json.decode(told.encode(), type=ChildOptions), None)
        with worker._predictions._socket, worker._control._socket:
            assert worker._predictions._poll_seconds == expected_seconds
