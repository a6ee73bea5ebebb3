"""Which store a setting `models` means: a table by scheme."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from mme.config import StoreConfig
from mme.errors import ConfigError
from mme.store.base import Store
from mme.store.files import FilesStore


def open_store(config: StoreConfig) -> Store:
    """Makes the store that `config.models` names; connects to nothing yet.

    Raises:
        ConfigError: `models` is empty, names no directory, or has an unknown scheme or no bucket.
    """
    if not config.models.strip():
        raise ConfigError("models: must be set to s3://bucket/prefix/ or a directory")
    scheme, separator, _ = config.models.partition("://")
    if not separator:
        return _open_files(config)
    if scheme not in _SCHEMES:
        raise ConfigError(
            f"models: unknown scheme {scheme}:// in {config.models!r}; use s3:// or a directory"
        )
    return _SCHEMES[scheme](config)


def _open_files(config: StoreConfig) -> Store:
    directory = Path(config.models).expanduser()
    if not directory.is_dir():
        raise ConfigError(f"models: {config.models!r} is no directory")
    return FilesStore(directory)


def _open_s3(config: StoreConfig) -> Store:
    if not config.models.removeprefix("s3://").partition("/")[0]:
        raise ConfigError(f"models: {config.models!r} names no bucket; use s3://bucket/prefix/")
    from mme.store.s3 import S3Store  # noqa: PLC0415 - botocore is a quarter of a start's time

    return S3Store(config)


_SCHEMES: Mapping[str, Callable[[StoreConfig], Store]] = {"s3": _open_s3}
