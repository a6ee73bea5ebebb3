"""The parts of an answer, each alone and without this server: what it can't be faster than.

Decisions: frameworks are asked as directly as they allow in this process, beside the way we ask
them; a lone row as numbers, where it goes another way than a table, as it does with us. Objects
come over loopback from a bare server, so that no store's own time is in it.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
from isal import igzip

from load_tests.tenants import Tenant
from loaders.contract import Loader, ModelFault, Payload, Trust
from loaders.find import find_loader

_ROWS = (1, 16, 64)
_open_gzip: Any = igzip.IGzipFile  # untyped


class WrongPart(Exception):
    """A part did not give what it should."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Something to be done over and over."""

    subject: str  # e.g. a framework
    figure: str
    act: Callable[[], object]
    rows: int = 1  # that it answers each time


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One way to ask a framework."""

    many: Callable[[Any], Any]  # a table
    one: Callable[[list[float]], Any] | None = None  # a lone row, where it goes another way

    def bind(self, row: list[float], rows: int) -> Callable[[], Any]:
        """Asks for as many of `row`."""
        if rows == 1 and self.one is not None:
            return partial(self.one, row)
        return partial(self.many, np.array([row] * rows, dtype=np.float32))


def model_parts(tenant: Tenant, directory: Path) -> Iterator[Part]:
    """Predicting and loading one unpacked model."""
    loader = find_loader(directory).loader
    asked = _asks_of[tenant.framework](loader, directory)
    model = loader.load(directory, Trust())
    row = [float(word) for word in tenant.question.body.split(",")]
    for rows in _ROWS:
        for name, ask in asked.items():
            act = ask.bind(row, rows)
            _check(np.ravel(act())[: len(tenant.question.expected)], tenant)
            yield Part(
                subject=tenant.framework, figure=f"{name}, {_rows(rows)}", act=act, rows=rows
            )
        payloads = [Payload(tenant.question.body.encode(), "text/csv", "text/csv")] * rows
        for answer in model.predict(payloads):
            if isinstance(answer, ModelFault):
                raise WrongPart(str(answer))
            _check(np.array(answer.body.decode().split(","), dtype=np.float64), tenant)
        yield Part(
            subject=tenant.framework,
            figure=f"csv to csv, {_rows(rows)}",
            act=partial(model.predict, payloads),
            rows=rows,
        )
    yield Part(
        subject=tenant.framework,
        figure="load",
        act=lambda: loader.load(directory, Trust()).close(),
    )


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows, each"


def _check(found: Any, tenant: Tenant) -> None:  # noqa: ANN401 - an array
    if not np.allclose(found, tenant.question.expected, rtol=1e-5, atol=1e-6):
        raise WrongPart(f"{tenant.question.target} gave {found}, not {tenant.question.expected}")


Asks = dict[str, Ask]


def _ask_xgboost(loader: Any, directory: Path) -> Asks:  # noqa: ANN401 - see load_native
    from loaders.xgboost_call import DirectCall  # noqa: PLC0415 - needs xgboost

    booster = loader.load_native(directory, Trust())
    direct = DirectCall(booster, (0, 0), np.nan)
    scorer = loader.load(directory, Trust()).members[0].scorer
    return {
        "inplace_predict": Ask(many=booster.inplace_predict),
        "C call": Ask(many=direct, one=direct.one),
        "as loaded": Ask(many=scorer.predict, one=scorer.one),
    }


def _ask_torch(loader: Any, directory: Path) -> Asks:  # noqa: ANN401 - see load_native
    import torch  # noqa: PLC0415 - may not be installed

    torch.set_num_threads(1)
    module = loader.load_native(directory, Trust())

    def ask(rows: Any) -> Any:  # noqa: ANN401 - arrays
        with torch.inference_mode():
            return module(torch.from_numpy(rows)).numpy()

    return {"module": Ask(many=ask)}


_asks_of: dict[str, Callable[[Loader, Path], Asks]] = {
    "xgboost": _ask_xgboost,
    "torch": _ask_torch,
}


def object_parts(tenant: Tenant, tarball: Path, port: int) -> Iterator[Part]:
    """Getting one object, and decompressing and unpacking it."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    size_bytes = tarball.stat().st_size

    def get() -> None:
        connection.request("GET", f"/{tarball.name}")
        if len(connection.getresponse().read()) != size_bytes:
            raise WrongPart(f"{tarball.name} did not come whole")

    def unpack() -> None:
        with (
            tempfile.TemporaryDirectory(prefix="mme-load-") as target,
            _open_gzip(tarball) as plain,
            tarfile.open(fileobj=plain) as archive,
        ):
            archive.extractall(target, filter="data")

    yield Part(subject=tenant.framework, figure="GET over loopback by http.client", act=get)
    yield Part(subject=tenant.framework, figure="decompress and unpack", act=unpack)
