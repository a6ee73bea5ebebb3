"""What there is to route to: immutable; a change swaps the whole snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mme.containers.base import Container


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """A production variant: containers in pipeline order, and its share of the traffic.

    With `direct`, a request names the one of them that answers it.
    """

    name: str
    containers: tuple[Container, ...]
    direct: bool = False
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """An endpoint: one variant or several."""

    name: str
    variants: tuple[Variant, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalog:
    """All endpoints, by name."""

    account_id: str
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
