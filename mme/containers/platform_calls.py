"""What SageMaker's platform asks of a multi-model container: load, unload, is it there.

Statuses decide; bodies are free-form, and the list of models is advisory, for each container has a
form of its own for it (contract: runtime 2.5, 2.6). The target model is told on load, invoke and
unload alike: Triton takes it for the model's name.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Final

from mme.containers.registry import Entry
from mme.containers.sibling_client import Answer, SiblingClient
from mme.errors import ModelError

UNLOAD_SECONDS: Final = 360.0
_LOOK_SECONDS: Final = 10.0  # one that is busy loading may take its time
_PAGES_LIMIT: Final = 100
_PAGE_LIMIT_BYTES: Final = 1024**2  # to read more would hold up all others
_TEXT_LIMIT: Final = 2048
_OUR_NAME = re.compile(r"[0-9a-f]{64}")
_OK: Final = 200


def invoke_path(entry: Entry) -> str:
    """Where invocations of a model go."""
    return f"/models/{entry.name}/invoke"


def text_of(answer: Answer) -> str:
    """What a container said, for the client."""
    return answer.body[:_TEXT_LIMIT].decode(errors="replace")


class PlatformCalls:
    """The calls to one container."""

    def __init__(self, client: SiblingClient) -> None:
        self._client = client

    async def reach(self) -> None:
        """Returns if it answers at all, however it is.

        Raises:
            ModelError: it does not.
        """
        await self._client.call("GET", "/ping", deadline=_in(_LOOK_SECONDS))

    async def load(self, entry: Entry, directory: Path, deadline: float) -> Answer:
        """Loads `directory` as `entry`; any status is an answer. Raises as `SiblingClient.call`."""
        body = json.dumps({"model_name": entry.name, "url": str(directory)}).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        headers |= _target(entry.target)
        return await self._client.call(
            "POST", "/models", deadline=deadline, headers=headers, body=body
        )

    async def unload(self, name: str, target: str) -> Answer:
        """Its memory is free when this returns. Raises as `SiblingClient.call`."""
        return await self._client.call(
            "DELETE", f"/models/{name}", deadline=_in(UNLOAD_SECONDS), headers=_target(target)
        )

    async def has(self, entry: Entry) -> bool:
        """Whether it says that it has the model; False where it says nothing of the kind."""
        try:
            answer = await self._client.call(
                "GET",
                f"/models/{entry.name}",
                deadline=_in(_LOOK_SECONDS),
                headers=_target(entry.target),
            )
        except ModelError:
            return False
        return answer.status == _OK

    async def names(self) -> list[str] | None:
        """The models that it lists, page by page; None where that can't be understood."""
        names: list[str] = []
        token: object = ""
        for _ in range(_PAGES_LIMIT):
            page = await self._page(str(token))
            if page is None:
                return None
            listed = page.get("models", page)  # TensorFlow's container: a map by name, without this
            if isinstance(listed, dict):
                names += listed
            elif isinstance(listed, list):
                names += [str(item.get("modelName")) for item in listed if isinstance(item, dict)]
            token = page.get("nextPageToken")
            if not token:
                break
        return names

    async def strays(self, known: set[str]) -> list[str]:
        """Models named as we name them that we do not know: of an earlier life of this server."""
        names = await self.names() or []
        return [name for name in names if _OUR_NAME.fullmatch(name) and name not in known]

    async def _page(self, token: str) -> dict[str, object] | None:
        query = f"?next_page_token={token}" if re.fullmatch(r"[\w.-]+", token) else ""
        try:
            answer = await self._client.call("GET", f"/models{query}", deadline=_in(_LOOK_SECONDS))
            page = json.loads(answer.body) if len(answer.body) <= _PAGE_LIMIT_BYTES else None
        except (ModelError, ValueError, RecursionError):
            return None
        return page if answer.status == _OK and isinstance(page, dict) else None


def _target(target: str) -> dict[str, str]:
    return {"X-Amzn-SageMaker-Target-Model": target}


def _in(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds
