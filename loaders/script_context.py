"""What a handler may ask about its request and set for its answer: MMS's and TorchServe's context.

Decision: the methods that handlers call, with the position of the request in a batch (always 0)
where those have it; headers by name without case. The whole of MMS's context is its server's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from loaders.contract import Payload

CONTENT_TYPE, ACCEPT = "Content-Type", "Accept"
CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
_OK = 200


class Context:
    """One request, or none while the model is loaded.

    Args:
        model_dir: what `model_fn` is given.
        payload: the request, with the headers as the client sent them.
    """

    def __init__(self, model_dir: Path, payload: Payload | None = None) -> None:
        self.model_name = "model"
        self.manifest: dict[str, object] = {}
        self.system_properties: dict[str, object] = {
            "model_dir": str(model_dir),
            "gpu_id": None,
            "batch_size": 1,
            "server_name": "mme",
        }
        self.custom_attributes = payload.custom_attributes if payload else None
        self.request_content_type = payload.content_type if payload else None
        self.accept_header = payload.accept if payload else None
        self.status = _OK
        self._asked = {
            CONTENT_TYPE: self.request_content_type,
            ACCEPT: self.accept_header,
            CUSTOM_ATTRIBUTES: self.custom_attributes,
        }
        self._answered: dict[str, str] = {}

    @property
    def request_processor(self) -> list[Context]:
        """MMS's list of one per request; each knows the request's properties."""
        return [self]

    def get_request_properties(self) -> dict[str, str]:
        """All headers that there are."""
        return {key: value for key, value in self._asked.items() if value is not None}

    def get_request_property(self, key: str) -> str | None:
        """One header, or None."""
        return _look_up(self._asked, key)

    def get_all_request_header(self, idx: int = 0) -> dict[str, str]:
        """All headers that there are."""
        return self.get_request_properties()

    def get_request_header(self, idx: int | str, key: str | None = None) -> str | None:
        """One header, or None; `idx` may be left out."""
        return self.get_request_property(str(idx) if key is None else key)

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Says what the answer is; counts before what the request accepted."""
        self.set_response_header(idx, CONTENT_TYPE, value)

    def get_response_content_type(self, idx: int = 0) -> str | None:
        """What the script has said the answer is."""
        return _look_up(self._answered, CONTENT_TYPE)

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """Sets a header of the answer; only its type and its custom attributes reach a client."""
        self._answered[key] = str(value)

    def get_response_headers(self, idx: int = 0) -> dict[str, str]:
        """What the script has set."""
        return dict(self._answered)

    def get_response_header(self, key: str) -> str | None:
        """One header that the script has set, or None."""
        return _look_up(self._answered, key)

    def set_response_status(self, code: int = _OK, phrase: str = "", idx: int = 0) -> None:
        """Makes the answer an error where the code is one."""
        self.status = code

    def set_all_response_status(self, code: int = _OK, phrase: str = "") -> None:
        """The same, for the one request that there is."""
        self.set_response_status(code, phrase)


def _look_up(headers: Mapping[str, str | None], key: str) -> str | None:
    wanted = key.lower()
    return next((value for name, value in headers.items() if name.lower() == wanted), None)
