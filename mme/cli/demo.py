"""`mme demo`: the whole thing on one's own machine, every answer compared with the framework's own.

Decision: nothing is staged. Models are trained here, packed by `mme pack`'s code, dropped into a
directory store, and served by the real server in its own process to an unmodified boto3 client;
cold, hot and evicted are what `/state` says.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from mme.cli.client import runtime_client
from mme.cli.demo_report import print_heading, print_summary, print_visit
from mme.cli.demo_tenants import Tenant, read_tenants, train
from mme.cli.demo_visit import Visit, visit
from mme.cli.models import read_state
from mme.cli.pack import pack_model
from mme.cli.served import server
from mme.cli.words import in_bytes

TENANTS = 8  # and one more, dropped in while the server runs
_ROOM_BYTES = {"xgboost": 90 * 1024, "torch": 250 * 1024}  # so that some fit beside a load


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Go on serving until Ctrl-C, with lines to try.")
    ] = False,
) -> None:
    """Train, pack and serve models of nine tenants in memory for a few, and check every answer."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends with us
    console = Console(highlight=False, soft_wrap=True)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mme-demo-")))
        os.environ["TMPDIR"] = str(work)  # of those we start: torch leaves a folder behind there
        store = work / "models"
        store.mkdir()
        tenants = _train(console, work / "trained")
        _pack(console, tenants[:TENANTS], store)
        url = stack.enter_context(_serve(console, work, store, tenants))
        visits = _tour(console, url, tenants, store)
        print_summary(console, visits, read_state(url))
        if keep:
            _keep(console, url, tenants[0], work)
    raise typer.Exit(verdict(visits))


def verdict(visits: list[Visit]) -> int:
    """The exit code: 0 where every answer was the framework's own."""
    return 0 if visits and all(visit.equal for visit in visits) else 1


def _train(console: Console, target: Path) -> list[Tenant]:
    target.mkdir()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("training", total=TENANTS + 1)
        for name in train(target, TENANTS + 1):
            progress.update(task, advance=1, description=f"trained {name}")
    tenants = read_tenants(target)
    kinds = sorted({tenant.framework for tenant in tenants})
    console.print(f"[green]✓[/green] trained {len(tenants)} models ({', '.join(kinds)})")
    return tenants


def _pack(console: Console, tenants: list[Tenant], store: Path) -> None:
    with console.status("packing"):
        for tenant in tenants:
            pack_model(tenant.directory, store / tenant.key)
    console.print(f"[green]✓[/green] packed {len(tenants)} of them into {store}")


@contextmanager
def _serve(console: Console, work: Path, store: Path, tenants: list[Tenant]) -> Iterator[str]:
    room_bytes = sum(_ROOM_BYTES[tenant.framework] for tenant in tenants)
    served = server(
        work / "server.log",
        models=store,
        port=0,
        memory=room_bytes,
        cache_dir=work / "cache",
        preload=",".join({tenant.framework for tenant in tenants}),
    )
    with ExitStack() as stack:
        with console.status("starting the server"):
            url = stack.enter_context(served)
        memory = in_bytes(room_bytes)
        console.print(f"[green]✓[/green] serving at {url}, memory for models: {memory}")
        yield url


def _tour(console: Console, url: str, tenants: list[Tenant], store: Path) -> list[Visit]:
    client = runtime_client(url)
    visits: list[Visit] = []

    def call(tenant: Tenant) -> None:
        visits.append(visit(client, url, tenant))
        print_visit(console, visits[-1])

    print_heading(console)
    for tenant in tenants[:TENANTS]:
        call(tenant)
        call(tenant)
    call(tenants[0])
    newcomer = tenants[TENANTS]
    console.print(f"[dim]dropping {newcomer.key} into the store, and invoking it at once[/dim]")
    pack_model(newcomer.directory, store / newcomer.key)
    call(newcomer)
    return visits


def _keep(console: Console, url: str, tenant: Tenant, work: Path) -> None:
    payload = work / "payload.csv"
    payload.write_text(tenant.payload)
    file = shlex.quote(str(payload))
    console.print(f"""
[bold]Still serving; Ctrl-C ends it. Try in another terminal:[/bold]

curl {url}/endpoints/mme/invocations \\
     -H 'Content-Type: {tenant.content_type}' \\
     -H 'X-Amzn-SageMaker-Target-Model: {tenant.key}' \\
     --data-binary @{file}

{sys.executable} - <<'END'
import boto3
client = boto3.client(
    "sagemaker-runtime", endpoint_url="{url}", region_name="us-east-1",
    aws_access_key_id="any", aws_secret_access_key="any")
reply = client.invoke_endpoint(
    EndpointName="mme", TargetModel="{tenant.key}",
    ContentType="{tenant.content_type}", Body=open("{payload}", "rb"))
print(reply["Body"].read().decode())
END

{sys.executable} -m mme.cli.main models --watch --endpoint-url {url}
""")
    try:
        signal.pause()
    except KeyboardInterrupt:
        console.print("stopping")
