"""The peers, by the name that the command line knows: adding one touches one row."""

from __future__ import annotations

from load_tests.peers import in_process, java_servers, litserve, mlserver, ray_serve, triton
from load_tests.peers.base import Peer

PEERS: dict[str, Peer] = {
    "in-process": in_process.ONE,
    "in-process-2": in_process.TWO,
    "triton": triton.BATCHING,
    "triton-default": triton.DEFAULT,
    "mms": java_servers.MMS,
    "torchserve": java_servers.TORCHSERVE,
    "mlserver": mlserver.PEER,
    "litserve": litserve.PEER,
    "ray": ray_serve.PEER,
}
