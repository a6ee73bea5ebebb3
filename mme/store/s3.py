"""Objects under a prefix of an S3 bucket, through aiobotocore; its errors end at this door.

Decision: botocore's own retries (standard mode, few) and nothing above them: the cache remembers a
failure and backs off. Checksums only `when_required`: other S3s don't have them, the length is
counted here and gzip has its CRC. `probe` is a GET of a key that can't exist, as HeadBucket needs
rights on the bucket that a policy for one prefix does not give, and an answer to HEAD does not say
what is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
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
from mme.errors import ArtifactUnavailable
from mme.store.base import ArtifactStream
from mme.store.etags import Etags
from mme.store.s3_direct import DirectGet
from mme.store.s3_errors import answer_error, code_in, credentials_error, silence_error

_CHUNK_BYTES = 256 * 1024
_ATTEMPTS = 3
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
            reply = await self._get(_PROBE_KEY, None)
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
        body = await self._ask(key, known)
        if body is None:
            yield None
            return
        async with body:  # which closes the connection if there is more to come
            version = self._version(key, body.headers)
            if known is not None and version.etag == known.etag:  # it ignored If-None-Match
                yield None
                return
            read = self._etags.compared(self._read(body.content, version), version, body.headers)
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
                    self._direct = DirectGet(sender.send, credentials.get_frozen_credentials)
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

    async def _ask(self, key: ModelKey, known: ArtifactVersion | None) -> Any | None:  # noqa: ANN401 - aiohttp's
        """The answer that holds the object; None where it still is `known`."""
        await self._connected()
        path = self._prefix + key
        with self._translated(key):
            body, is_known = await self._ask_directly(path, known.etag if known else None)
        if body is not None or is_known:
            return body
        if (reply := await self._get(key, known)) is None:
            return None
        body = reply["Body"].raw_stream
        if self._direct is not None:
            self._direct.learn(str(body.url), path, body.request_info.headers)
        return body

    async def _ask_directly(self, path: str, etag: str | None) -> tuple[Any | None, bool]:
        """As `_ask`, or None where botocore has to; the second part: it still is `etag`."""
        if self._direct is None:
            return None, False
        try:
            reply = await self._direct.get(path, etag)
        except BotoCoreError:  # a kept connection that S3 had closed, mostly
            self._direct.forget()
            return None, False
        if reply is None:
            return None, False
        match reply.status_code:
            case 200:
                return reply.raw, False
            case 304:
                reply.raw.release()
                return None, True
            case 404:
                raise answer_error(self._bucket, path, code_in(await reply.content), 404)
        self._direct.forget()
        reply.raw.close()
        return None, False

    async def _get(self, key: ModelKey, known: ArtifactVersion | None) -> dict[str, Any] | None:
        """GET; None where the object still is `known`."""
        client = await self._connected()
        condition = {"IfNoneMatch": f'"{known.etag}"'} if known else {}
        with self._translated(key):
            try:
                reply: dict[str, Any] = await client.get_object(
                    Bucket=self._bucket, Key=self._prefix + key, **condition
                )
            except ClientError as error:
                if _status(error) == 304:  # noqa: PLR2004 - Not Modified
                    return None
                raise
        return reply

    async def _read(self, content: Any, version: ArtifactVersion) -> AsyncGenerator[bytes, None]:  # noqa: ANN401 - untyped
        received_bytes = 0
        with self._translated(version.key):
            async for chunk in content.iter_chunked(_CHUNK_BYTES):
                received_bytes += len(chunk)
                yield chunk
        if received_bytes != version.size_bytes:
            raise silence_error(
                self._bucket,
                self._prefix + version.key,
                f"{received_bytes} of {version.size_bytes} bytes came",
            )

    def _version(self, key: ModelKey, headers: Mapping[str, str]) -> ArtifactVersion:
        try:
            etag, size_bytes = headers["etag"].strip('"'), int(headers["content-length"])
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
