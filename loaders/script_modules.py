"""Private modules: any number of scripts with modules of the same names, in one interpreter.

Decisions: each script's modules live in `sys.modules` under a package of their own
(`mme_script_7.inference`, `mme_script_7.helper`), loaded by Python's own import system; so whatever
looks a class up by its `__module__` (dataclasses, typing, pickle, inspect) finds it. The script
says `helper`; what resolves a plain name asks whose code it is: `import`, by an `__import__` in the
`__builtins__` of these modules alone, whatever thread they run in, and the two doors of
`script_doors.py`. A sibling shadows what is installed, for its own script only.
Rejected: modules outside `sys.modules` (dataclasses fail), swapping `sys.modules` while a script
runs (a worker loads and predicts at the same time). Subinterpreters, once the frameworks can be
imported into them, would change our mind.
"""

from __future__ import annotations

import builtins
import itertools
import linecache
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from loaders.script_files import SAGEMAKER_MODEL_DIR

_numbers = itertools.count(1)
_spaces: dict[str, ScriptSpace] = {}
_active: ContextVar[ScriptSpace | None] = ContextVar("active_script", default=None)
_MOUNTED = f"{SAGEMAKER_MODEL_DIR}/"
_NEVER_PRIVATE = frozenset({*sys.builtin_module_names, "__future__", "__main__"})


class ScriptSpace:
    """The modules of one script.

    Args:
        directory: of the whole model; what the script adds to `sys.path` inside it becomes private.
        search: the folders in which the script's modules are looked for, in order.
        entry: the name of its first module, which also stands in for `__main__` in pickles.
    """

    def __init__(self, directory: Path, search: Sequence[Path], entry: str) -> None:
        self._directory = f"{directory}/"
        self.name = f"mme_script_{next(_numbers)}"  # the package in which its modules live
        self._path = [str(folder) for folder in search]
        package = ModuleType(self.name)
        package.__path__ = self._path
        package.__spec__ = ModuleSpec(self.name, None, is_package=True)
        self._entry = entry
        self._owned: dict[str, bool] = {}
        self.builtins = {**vars(builtins), "__import__": self._import}
        sys.modules[self.name] = package
        _spaces[self.name] = self
        if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
            sys.meta_path.insert(0, _Finder())

    def run_entry(self) -> ModuleType:
        """Imports the script; raises whatever it raises."""
        return import_module(f"{self.name}.{self._entry}")

    @contextmanager
    def active(self) -> Iterator[None]:
        """Makes names looked up by libraries in this thread, as by pickle, this script's."""
        token = _active.set(self)
        try:
            yield
        finally:
            _active.reset(token)
            self._adopt_paths()

    def private_name(self, module: str, attribute: str | None = None) -> str:
        """The full name of one of this script's modules; of any other, the name as it is."""
        if module == "__main__" and attribute is not None:
            entry = sys.modules.get(f"{self.name}.{self._entry}")
            return module if entry is None or not hasattr(entry, attribute) else entry.__name__
        return f"{self.name}.{module}" if self._owns(module) else module

    def is_called_by(self, names: Mapping[str, object]) -> bool:
        """Whether these are the globals of one of its modules."""
        return names.get("__builtins__") is self.builtins

    def plain(self, text: str) -> str:
        """A message as it would read had the script been alone, in SageMaker's container."""
        return text.replace(f"{self.name}.", "").replace(self._directory, _MOUNTED)

    def close(self) -> None:
        """Forgets the modules, so that nothing but what still runs holds them."""
        self._adopt_paths()
        _spaces.pop(self.name, None)
        for name in [name for name in list(sys.modules) if name.partition(".")[0] == self.name]:
            del sys.modules[name]
        for cache in (sys.path_importer_cache, linecache.cache):
            for path in [path for path in list(cache) if self._is_inside(path)]:
                cache.pop(path, None)

    def _owns(self, name: str) -> bool:
        first = name.partition(".")[0]
        if first in _NEVER_PRIVATE:
            return False
        owned = self._owned.get(first)
        if owned is None:
            spec = PathFinder.find_spec(f"{self.name}.{first}", self._path)
            # a folder without __init__.py yields to what is installed, as it does in Python
            yields = spec is not None and spec.loader is None and is_installed(first)
            owned = self._owned[first] = spec is not None and not yields
        return owned

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - named as Python names them
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """What `import` means in this script's modules."""
        self._adopt_paths()
        if level or not self._owns(name):
            return __import__(name, globals, locals, fromlist or (), level)
        whole = f"{self.name}.{name}"
        if fromlist:
            return __import__(whole, globals, locals, fromlist, 0)
        import_module(whole)
        return sys.modules[f"{self.name}.{name.partition('.')[0]}"]

    def _adopt_paths(self) -> None:
        """Takes over what the script added to `sys.path`, which would be everyone's."""
        own = [entry for entry in sys.path if self._is_inside(entry)]
        if not own:
            return
        first = sys.path[0] in own
        # a new list, as another thread may be walking the old one
        sys.path = [entry for entry in sys.path if entry not in own]
        found = (f"{entry}/".replace(_MOUNTED, self._directory, 1).rstrip("/") for entry in own)
        new = [entry for entry in dict.fromkeys(found) if entry not in self._path]
        self._path[:] = [*new, *self._path] if first else [*self._path, *new]
        self._owned.clear()

    def _is_inside(self, path: object) -> bool:
        return isinstance(path, str) and f"{path}/".startswith((self._directory, _MOUNTED))


class _Finder(MetaPathFinder):
    """Finds modules in the packages of scripts, and nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        space = _spaces.get(fullname.partition(".")[0])
        if space is None or path is None:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Source(fullname, spec.loader.path, space)
        return spec


class _Source(SourceFileLoader):
    """Runs a module's source with its script's own `__import__`; writes nothing to the disk."""

    def __init__(self, fullname: str, path: str, space: ScriptSpace) -> None:
        super().__init__(fullname, path)
        self._space = space

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = self._space.builtins
        super().exec_module(module)

    def set_data(self, path: str, data: object, *, _mode: int = 0) -> None:
        """Keeps no bytecode: the model's folder is measured, and may be read-only."""


def is_installed(name: str) -> bool:
    """Whether a top-level module is there for everyone."""
    return name in sys.modules or find_spec(name) is not None


def calling_space() -> ScriptSpace | None:
    """The script on whose behalf this thread runs: the one made active, else the nearest caller."""
    space = _active.get()
    if space is not None or not _spaces:
        return space
    frame = sys._getframe(1)  # noqa: SLF001 - there is no other way to a caller
    while frame is not None:
        space = _spaces.get(str(frame.f_globals.get("__name__")).partition(".")[0])
        if space is not None:
            return space
        frame = frame.f_back  # type: ignore[assignment]  # None at the end
    return None
