"""A real S3 server for the tests: OpenStack Swift with its s3api, one of each server, on loopback.

`python -m tests.swift_s3 ROOT PROXY_PORT ACCOUNT_PORT CONTAINER_PORT OBJECT_PORT` serves until its
standard input ends, so that it never outlives the run that started it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HOST = "127.0.0.1"
OWNER = ("test:tester", "SECRET")
STRANGER = ("test:stranger", "SECRET2")  # a sound login without rights to any bucket
_STORAGE = ("account", "container", "object")
_FILTERS = {
    "catch_errors": "",
    "gatekeeper": "",
    "healthcheck": "",
    "listing_formats": "",
    "s3api": "location=us-east-1\ns3_acl=false\ndns_compliant_bucket_names=true",
    "tempauth": f"user_test_tester={OWNER[1]} .admin\nuser_test_stranger={STRANGER[1]}",
    "copy": "",
    "slo": "",
    "dlo": "",
    "versioned_writes": "allow_versioned_writes=true\nallow_object_versioning=true",
    "symlink": "",
}


def main() -> None:
    root = Path(sys.argv[1])
    ports = dict(zip(("proxy", *_STORAGE), map(int, sys.argv[2:]), strict=True))
    _write_rings(root, ports)
    _write_configuration(root, ports)
    scripts = Path(sys.executable).parent
    servers = [
        subprocess.Popen(
            [scripts / f"swift-{kind}-server", root / f"{kind}.conf"],
            cwd=root,
            stdin=subprocess.DEVNULL,
        )
        for kind in ports
    ]
    try:
        sys.stdin.read()
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait()


def _write_rings(root: Path, ports: dict[str, int]) -> None:
    from swift.common.ring import RingBuilder  # noqa: PLC0415 - for the server process only

    for kind in _STORAGE:
        place = {"ip": HOST, "port": ports[kind], "device": "disk", "region": 1, "zone": 1}
        replication = {"replication_ip": HOST, "replication_port": ports[kind]}
        builder = RingBuilder(part_power=2, replicas=1, min_part_hours=1)
        builder.add_dev({"id": 0, "weight": 1.0, "meta": "", **place, **replication})
        builder.rebalance()
        builder.get_ring().save(str(root / f"{kind}.ring.gz"))


def _write_configuration(root: Path, ports: dict[str, int]) -> None:
    (root / "devices" / "disk").mkdir(parents=True)
    (root / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix=mme\n[storage-policy:0]\nname=only\ndefault=yes\n"
    )
    for kind in _STORAGE:
        (root / f"{kind}.conf").write_text(
            f"{_defaults(root, ports[kind])}[pipeline:main]\npipeline={kind}-server\n"
            f"[app:{kind}-server]\nuse=egg:swift#{kind}\n"
        )
    filters = "".join(
        f"[filter:{name}]\nuse=egg:swift#{name}\n{text}\n" for name, text in _FILTERS.items()
    )
    pipeline = " ".join([*_FILTERS, "proxy-server"])
    (root / "proxy.conf").write_text(
        f"{_defaults(root, ports['proxy'])}[pipeline:main]\npipeline={pipeline}\n"
        f"[app:proxy-server]\nuse=egg:swift#proxy\naccount_autocreate=true\n{filters}"
    )


def _defaults(root: Path, port: int) -> str:
    user = os.environ.get("USER") or subprocess.check_output(["id", "-un"], text=True).strip()
    settings = {
        "swift_dir": root,
        "devices": root / "devices",
        "recon_cache_path": root,
        "bind_ip": HOST,
        "bind_port": port,
        "user": user,
        "workers": 0,
        "mount_check": "false",
        "disable_fallocate": "true",
        "log_level": "ERROR",
        "log_address": "/dev/null",
    }
    return "[DEFAULT]\n" + "".join(f"{name}={value}\n" for name, value in settings.items())


if __name__ == "__main__":
    main()
