"""Which containers answer: headers, weights and a number drawn in, containers out. Pure."""

from __future__ import annotations

from msgspec import Struct

from mme.containers.base import Container
from mme.domain import Invocation
from mme.errors import InvalidRequest
from mme.routing.catalog import Catalog, Endpoint, Variant


class Route(Struct, frozen=True):
    """What was chosen."""

    variant: str
    containers: tuple[Container, ...]


def choose(catalog: Catalog, invocation: Invocation, draw: float) -> Route:
    """Chooses by the invocation's headers.

    Args:
        catalog: what there is.
        invocation: what is asked.
        draw: uniform in [0, 1): picks among variants by weight.

    Raises:
        InvalidRequest: with AWS's own texts (contract: runtime 1.5.3, 3) where there is one.
    """
    endpoint = catalog.endpoints.get(invocation.endpoint)
    if endpoint is None:
        raise InvalidRequest(
            f"Endpoint {invocation.endpoint} of account {catalog.account_id} not found."
        )
    variant = _variant(endpoint, invocation.target_variant, draw)
    containers = _containers(endpoint, variant, invocation)
    if invocation.target_model is not None:
        _need_multi_model(endpoint, containers)
    return Route(variant.name, containers)


def _containers(
    endpoint: Endpoint, variant: Variant, invocation: Invocation
) -> tuple[Container, ...]:
    wanted = invocation.target_container
    if not variant.direct:
        if wanted is None:
            return variant.containers
        raise InvalidRequest(
            f"Endpoint {endpoint.name} is not a multi-container endpoint with direct invocation "
            "and does not support target container hostname header."
        )
    hostnames = ", ".join(container.hostname for container in variant.containers)
    if wanted is None:
        raise InvalidRequest(
            f"Request {invocation.request_id} is missing a target container hostname header, which "
            f"endpoint {endpoint.name} needs. Its containers are: {hostnames}."
        )
    for container in variant.containers:
        if container.hostname == wanted:
            return (container,)
    raise InvalidRequest(
        f"Container {wanted} of endpoint {endpoint.name} not found. Its containers are: "
        f"{hostnames}."
    )


def _variant(endpoint: Endpoint, wanted: str | None, draw: float) -> Variant:
    if wanted is not None:
        for variant in endpoint.variants:
            if variant.name == wanted:
                return variant
        raise InvalidRequest(f"Variant {wanted} of endpoint {endpoint.name} not found.")
    if len(endpoint.variants) == 1:
        return endpoint.variants[0]
    left = draw * sum(variant.weight for variant in endpoint.variants)
    for variant in endpoint.variants:
        left -= variant.weight
        if left < 0:
            return variant
    return endpoint.variants[-1]


def _need_multi_model(endpoint: Endpoint, containers: tuple[Container, ...]) -> None:
    for container in containers:  # for every request, nearly: no generator
        if container.multi_model:
            return
    raise InvalidRequest(
        f"Endpoint {endpoint.name} is not a multi-model endpoint and does not support "
        "target model header.",
        "TARGET_MODEL_HEADER_NOT_SUPPORTED",
    )
