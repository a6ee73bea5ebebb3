"""Objects under a prefix of an S3 bucket, through aiobotocore; its errors end at this door.

Decision: botocore's own retries (standard mode, few) until a body comes, and nothing above them; a
body that breaks off is ReadFailed, and begun again by the disk tier, or here where it is a range.
Checksums only `when_required`: other S3s don't have them, the length is counted here and gzip has
its CRC. `probe` is a GET of a key that can't exist, as HeadBucket needs rights on the bucket that a
policy for one prefix does not give, and an answer to HEAD does not say what is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from functools import partial
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from aiohttp import ClientError as BrokenOff  # what a body raises that ends too early
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)

from mme.config import StoreConfig
from mme.domain import ArtifactVersion, ModelKey
from mme.errors import ArtifactUnavailable, ObjectChanged, ReadFailed, StoreUnavailable
from mme.store.base import ArtifactStream, Chunk
from mme.store.etags import Etags
from mme.store.ranges import Span, in_order
from mme.store.s3_direct import DirectGet
from mme.store.s3_errors import (
    answer_error,
    broken_error,
    code_in,
    credentials_error,
    silence_error,
)
from mme.store.s3_wire import chunks_of

_CHUNK_BYTES = 256 * 1024
_ATTEMPTS = 3
_SENDING = "before-send.s3.GetObject"
_ANSWERED = ("304", "NoSuchKey")  # with no object, but by the place where it would be
_PROBE_KEY = ModelKey(".mme-probe")
_NO_CREDENTIALS = (
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)


class S3Store:
    """`config.models` is `s3://bucket` or `s3://bucket/prefix/`; credentials by the AWS chain."""

    def __init__(self, config: StoreConfig) -> None:
        self._config = config
        bucket, _, prefix = config.models.removeprefix("s3://").partition("/")
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.location = f"s3://{self._bucket}/{self._prefix}"
        self._etags = Etags()
        self._client: Any = None  # aiobotocore makes its clients' classes at run time
        self._direct: DirectGet | None = None
        self._opening = asyncio.Lock()
        self._resources = contextlib.AsyncExitStack()

    async def probe(self) -> None:
        """As in Store. Being denied passes: S3 says so of a missing key to who may not list."""
        try:
            reply = await self._get(_PROBE_KEY, {})
        except ArtifactUnavailable as error:
            if (
                isinstance(error.__cause__, ClientError)
                and _code(error.__cause__) == "NoSuchBucket"
            ):
                raise
        else:
            if reply is not None:
                reply["Body"].close()

    async def head(self, key: ModelKey) -> ArtifactVersion:
        """As in Store."""
        client = await self._connected()
        try:
            with self._translated(key):
                reply = await client.head_object(Bucket=self._bucket, Key=self._prefix + key)
        except ArtifactUnavailable as error:
            if error.reason == "denied":  # without a body, a wrong secret looks just like it
                await self.probe()
            raise
        return self._version(key, reply["ResponseMetadata"]["HTTPHeaders"])

    @contextlib.asynccontextmanager
    async def open(
        self, key: ModelKey, known: ArtifactVersion | None = None
    ) -> AsyncIterator[ArtifactStream | None]:
        """As in Store."""
        body = await self._ask(key, self._first_conditions(known))
        if body is None:
            yield None
            return
        async with body:  # which closes the connection if there is more to come
            version = self._version(key, body.headers)
            if known is not None and version.etag == known.etag:  # it ignored If-None-Match
                yield None
                return
            read = self._etags.compared(self._read_all(body, version), version, body.headers)
            async with contextlib.aclosing(read) as chunks:
                yield ArtifactStream(version, chunks)

    async def close(self) -> None:
        """As in Store."""
        await self._resources.aclose()

    async def _connected(self) -> Any:  # noqa: ANN401 - see _client
        async with self._opening:
            if self._client is None:
                with self._translated(_PROBE_KEY):
                    session = get_session()
                    opening = session.create_client("s3", **self._client_arguments())
                    self._client = await self._resources.enter_async_context(opening)
                    credentials = await session.get_credentials()
                if credentials is not None:
                    sender = self._client._endpoint.http_session  # noqa: SLF001 - its connections
                    self._direct = DirectGet(sender, credentials.get_frozen_credentials)
                    self._client.meta.events.register(_SENDING, self._direct.note)
        return self._client

    def _client_arguments(self) -> dict[str, Any]:
        config = AioConfig(
            connect_timeout=self._config.s3_connect_seconds,
            read_timeout=self._config.s3_read_seconds,
            max_pool_connections=self._config.s3_connections,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            warm_up_loader_caches=True,  # in a thread: the models of S3's API take 0.1 s to read
            response_checksum_validation="when_required",
            request_checksum_calculation="when_required",
            s3={"addressing_style": "path"} if self._config.s3_endpoint else None,
        )
        return {"config": config, "endpoint_url": self._config.s3_endpoint}

    def _first_conditions(self, known: ArtifactVersion | None) -> dict[str, str]:
        conditions = {"If-None-Match": f'"{known.etag}"'} if known else {}
        if self._config.s3_ranges > 1:
            conditions["Range"] = Span(0, self._config.s3_range_bytes).header
        return conditions

    async def _ask(self, key: ModelKey, conditions: Mapping[str, str]) -> Any | None:  # noqa: ANN401 - aiohttp's
        """The answer that holds the object, or a range of it; None: it still is what is known."""
        await self._connected()
        path = self._prefix + key
        with self._translated(key):
            body, is_known = await self._ask_directly(path, conditions)
        if body is not None or is_known:
            return body
        if (reply := await self._get(key, conditions)) is None:
            return None
        return reply["Body"].raw_stream

    async def _ask_directly(
        self, path: str, conditions: Mapping[str, str]
    ) -> tuple[Any | None, bool]:
        """As `_ask`, or None where botocore has to; the second part: it still is what is known."""
        if self._direct is None:
            return None, False
        if (answer := await self._direct.get(path, conditions)) is None:
            return None, False
        if answer.status in (200, 206):
            return answer, False
        async with answer:
            match answer.status:
                case 304:
                    return None, True
                case 404:
                    code = code_in(await answer.read())
                    raise answer_error(self._bucket, path, code, 404)
                case 412:
                    raise self._changed(ModelKey(path.removeprefix(self._prefix)))
        self._direct.forget()
        return None, False

    async def _get(self, key: ModelKey, conditions: Mapping[str, str]) -> dict[str, Any] | None:
        """GET; None where the object still is what is known. An empty one has no ranges."""
        client, path = await self._connected(), self._prefix + key
        given = {name.replace("-", ""): value for name, value in conditions.items()}
        with self._translated(key):
            try:
                reply: dict[str, Any] = await client.get_object(
                    Bucket=self._bucket, Key=path, **given
                )
            except ClientError as error:
                if self._direct is not None and _code(error) in _ANSWERED:
                    self._direct.learn(path)
                match _status(error):
                    case 304:
                        return None
                    case 412:
                        raise self._changed(key) from error
                    case 416 if given.pop("Range", None):
                        return await self._get(key, {})
                raise
        if self._direct is not None:
            self._direct.learn(path)
        return reply

    def _read_all(self, body: Any, version: ArtifactVersion) -> AsyncGenerator[Chunk, None]:  # noqa: ANN401 - aiohttp's
        span, total_bytes = Span.held(body.headers)
        if span.start:
            raise silence_error(self._bucket, self._prefix + version.key, "another range")
        first = self._read(body, version, span)
        if not (others := span.others(total_bytes)):  # all of it, or S3 has no ranges
            return first
        fetch = partial(self._fetch, version)
        return in_order(first, others, fetch, self._config.s3_ranges)

    async def _fetch(self, version: ArtifactVersion, span: Span) -> list[Chunk]:
        """A range of `version`, whole; one that breaks off is asked for again.

        Raises:
            ObjectChanged: it is another version by now.
            StoreUnavailable: it broke off each time: the whole is not to be read anew for it.
        """
        conditions = {"If-Match": f'"{version.etag}"', "Range": span.header}
        for left in reversed(range(_ATTEMPTS)):
            body = await self._ask(version.key, conditions)
            if body is None:
                break
            async with body:
                told = self._version(version.key, body.headers)
                if told != version or Span.held(body.headers)[0] != span:
                    break
                try:
                    return [chunk async for chunk in self._read(body, version, span)]
                except ReadFailed as error:
                    if not left:
                        raise StoreUnavailable(str(error)) from error
        raise self._changed(version.key)

    def _changed(self, key: ModelKey) -> ObjectChanged:
        return ObjectChanged(f"{self._bucket}/{self._prefix}{key} changed while it was read.")

    async def _read(
        self,
        body: Any,  # noqa: ANN401 - ours, or aiohttp's
        version: ArtifactVersion,
        span: Span,
    ) -> AsyncGenerator[Chunk, None]:
        path, received_bytes = self._prefix + version.key, 0
        try:
            async for chunk in chunks_of(body, _CHUNK_BYTES):
                received_bytes += len(chunk)
                yield chunk
        except (BrokenOff, TimeoutError, OSError) as error:
            raise broken_error(self._bucket, path, type(error).__name__) from error
        if received_bytes != span.size_bytes:
            cause = f"{received_bytes} of {span.size_bytes} bytes came"
            raise broken_error(self._bucket, path, cause)

    def _version(self, key: ModelKey, headers: Mapping[str, str]) -> ArtifactVersion:
        try:
            etag, (_, size_bytes) = headers["etag"].strip('"'), Span.held(headers)
        except (KeyError, ValueError) as error:
            cause = f"an answer without {error}"
            raise silence_error(self._bucket, self._prefix + key, cause) from error
        return ArtifactVersion(location=self.location, key=key, etag=etag, size_bytes=size_bytes)

    @contextlib.contextmanager
    def _translated(self, key: ModelKey) -> Iterator[None]:
        path = self._prefix + key
        try:
            yield
        except ClientError as error:
            raise answer_error(self._bucket, path, _code(error), _status(error)) from error
        except _NO_CREDENTIALS as error:
            raise credentials_error(self._bucket, type(error).__name__) from error
        except (BotoCoreError, BrokenOff, TimeoutError, OSError) as error:
            raise silence_error(self._bucket, path, type(error).__name__) from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "") or _status(error))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
