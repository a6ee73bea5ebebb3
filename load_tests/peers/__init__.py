"""Other servers, each in an environment of its own, asked for the same models by the same client.

One file a peer, all of one shape, behind the table in `all_peers.py`. Production settings: what
each project's documentation says for throughput on two cores. Nothing here is imported by mme.
"""
