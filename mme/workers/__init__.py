"""Run it, elsewhere: fresh interpreters that load and predict, and the pool that feeds them.

What never bends: queues are here in the server, per model, never in a pipe; a worker has one batch
and at most the next; its death loses only what ran in it. `child.py` is the inside of a worker:
nobody imports it, and it alone sees `loaders`. It calls no other room.
"""
