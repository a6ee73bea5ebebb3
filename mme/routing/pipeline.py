"""The walk of one invocation: choose, then container after container, under one deadline.

What one container answers is the next one's body, its content type handed on verbatim; the client's
Accept is for the last one only (contract: runtime 3).
"""

from __future__ import annotations

import random
from dataclasses import replace

from mme.domain import Invocation, Reply
from mme.routing.catalog import Catalog
from mme.routing.choose import choose


class Pipeline:
    """Invokes what the catalog has now; `catalog` may be swapped at any time."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    async def invoke(self, invocation: Invocation) -> Reply:
        """Answers an invocation.

        Raises:
            InvalidRequest: nothing fits its headers; otherwise what a container raises.
        Cancellation: the container at work is cancelled; later ones are not called.
        """
        route = choose(self.catalog, invocation, random.random())  # noqa: S311 - a traffic split
        *earlier, last = route.containers
        step = invocation
        for container in earlier:
            reply = await container.invoke(replace(step, accept=None))
            step = replace(step, body=reply.body, content_type=reply.content_type)
        return replace(await last.invoke(step), variant=route.variant)
