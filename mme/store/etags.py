"""Are the bytes that came those that the ETag names, for what carries no checksum of its own.

Decision: a gzip has its CRC, a plain tar nothing. An ETag of 32 hex digits is the MD5, but not
where the key that it is encrypted with is the customer's or a KMS's (which the answer says), in
directory buckets, and in stores with ways of their own. So a mismatch is damage, and the same bytes
under the same ETag again prove that this store's ETags are no MD5s: then nothing is compared any
more. Rejected: `x-amz-checksum-*`, which few stores have, and which for AWS's default, CRC-64/NVME,
takes another library.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import structlog

from mme.domain import ArtifactVersion
from mme.errors import ReadFailed
from mme.store.base import Chunk

_log = structlog.get_logger()
_MD5 = re.compile(r"[0-9a-f]{32}")
_GZIP = b"\x1f\x8b"
_ENCRYPTION = "x-amz-server-side-encryption"
_BY_CUSTOMER = "x-amz-server-side-encryption-customer-algorithm"
_REMEMBERED_LIMIT = 1_000


class Etags:
    """What one store's ETags say of its bodies."""

    def __init__(self) -> None:
        self._are_md5 = True
        self._mismatches: dict[str, str] = {}  # ETag -> the MD5 of what came under it

    async def compared(
        self,
        chunks: AsyncGenerator[Chunk, None],
        version: ArtifactVersion,
        headers: Mapping[str, str],
    ) -> AsyncGenerator[Chunk, None]:
        """Passes a body on; raises ReadFailed at its end where it is not what it should be.

        Args:
            chunks: the body; closed with this.
            version: what it should be.
            headers: of the answer; names in small letters, or found in any.
        """
        digest: Any = None  # hashlib's own, which has no public name
        counting: asyncio.Future[None] | None = None  # the last chunk, while the next one comes
        loop = asyncio.get_running_loop()
        async with contextlib.aclosing(chunks):
            is_first = True
            async for chunk in chunks:
                if is_first and not chunk.startswith(_GZIP) and self._is_md5(version.etag, headers):
                    digest = hashlib.md5(usedforsecurity=False)
                is_first = False
                if counting is not None:
                    await counting
                if digest is not None:
                    counting = loop.run_in_executor(None, digest.update, chunk)  # without the GIL
                yield chunk
        if counting is not None:
            await counting
        if digest is not None and self._is_damaged(version.etag, digest.hexdigest()):
            raise ReadFailed(
                f"The bytes that came of {version.key} are not those that its ETag names."
            )

    def _is_md5(self, etag: str, headers: Mapping[str, str]) -> bool:
        told = _BY_CUSTOMER in headers or headers.get(_ENCRYPTION, "").startswith("aws:kms")
        return self._are_md5 and not told and _MD5.fullmatch(etag) is not None

    def _is_damaged(self, etag: str, md5: str) -> bool:
        if etag == md5:
            return False
        if self._mismatches.get(etag) == md5:
            self._are_md5 = False
            _log.warning("etags_are_no_md5", etag=etag, md5=md5)
            return False
        if len(self._mismatches) >= _REMEMBERED_LIMIT:
            self._mismatches.clear()
        self._mismatches[etag] = md5
        return True
