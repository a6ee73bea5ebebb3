"""What a worker keeps of models that it unloads, so that they come back sooner.

Decision: loaders keep, and know how; here it is only known which content a model was of. A worker
without a directory of its own keeps nothing.
"""

from __future__ import annotations

from pathlib import Path

from loaders.contract import Keeping, Loader, Model


class Kept:
    """The loaders that keep, and the contents of the models that they have loaded.

    Args:
        directory: this worker's own, in which they may; None: they may not.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._loaders: dict[str, Keeping] = {}
        self._contents: dict[str, tuple[Keeping, str]] = {}  # by model

    def prepared(self, loader: Loader) -> None:
        """A framework was imported."""
        if self._directory is not None and isinstance(loader, Keeping):
            loader.keep_in(self._directory)
            self._loaders[loader.name] = loader

    def find(self, content: str) -> tuple[str, Model] | None:
        """The framework and the model that content was kept as, or None."""
        for name, loader in self._loaders.items():
            if (model := loader.load_kept(content)) is not None:
                return name, model
        return None

    def came(self, key: str, content: str, framework: str) -> None:
        """A model was loaded; content without a name is not kept."""
        loader = self._loaders.get(framework)
        if content and loader is not None:
            self._contents[key] = loader, content

    def can_keep(self, framework: str, model: Model) -> bool:
        """Whether a model is one that its loader keeps: what it holds is a few large blocks."""
        loader = self._loaders.get(framework)
        return loader is not None and loader.can_keep(model)

    def went(self, key: str, model: Model) -> bool:
        """Whether a model that is about to be closed is kept."""
        if key not in self._contents:
            return False
        loader, content = self._contents.pop(key)
        return loader.keep(content, model)
