"""The two places where libraries look a script's modules up by name: `import_module` and pickle.

Decision: `importlib.import_module` and unpickling are replaced once, in a process that has loaded a
script, by ones that first ask whose code is running. A pickle that names `helper.Scaler` or
`__main__.Scaler` so finds the class of the script that loads it, even beside another script's. For
everyone else nothing changes. Names that other modules have already taken from `pickle` and
`importlib` (as cloudpickle has) are replaced with them.
"""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Callable
from importlib.util import resolve_name
from io import BytesIO
from types import ModuleType
from typing import Any

from loaders.script_modules import calling_space, is_installed

_import_module = importlib.import_module
_load, _loads = pickle.load, pickle.loads
_find_class: Callable[..., object] = pickle._Unpickler.find_class  # noqa: SLF001 - joblib's base class


def _whose(module: str, name: str) -> str:
    space = calling_space()
    return module if space is None else space.private_name(module, name.partition(".")[0])


class ScriptUnpickler(pickle.Unpickler):
    """Finds the classes of the running script."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:  # noqa: ANN401 - whatever is named
        """Looks `global_name` up in the script's own module, where it has one."""
        return super().find_class(_whose(module_name, global_name), global_name)


def _find_class_in_python(self: object, module: str, name: str) -> object:
    return _find_class(self, _whose(module, name), name)


def _load_for_scripts(file: Any, **options: Any) -> object:  # noqa: ANN401 - as pickle.load
    if calling_space() is None:
        return _load(file, **options)
    return _unpickled(file, options)


def _loads_for_scripts(data: Any, /, **options: Any) -> object:  # noqa: ANN401 - as pickle.loads
    if calling_space() is None:
        return _loads(data, **options)
    return _unpickled(BytesIO(data), options)


def _unpickled(file: Any, options: dict[str, Any]) -> object:  # noqa: ANN401 - as pickle.load
    return ScriptUnpickler(file, **options).load()


def _import_module_for_scripts(name: str, package: str | None = None) -> ModuleType:
    space = calling_space()
    if space is None:
        return _import_module(name, package)
    whole = resolve_name(name, package)
    caller = sys._getframe(1).f_globals  # noqa: SLF001 - there is no other way to a caller
    if not space.is_called_by(caller) and is_installed(whole.partition(".")[0]):
        return _import_module(whole)  # a library asks: what is installed comes first
    return _import_module(space.private_name(whole))


def open_doors() -> None:
    """Replaces the functions, here and wherever they have been imported to; once is enough."""
    if importlib.import_module is _import_module_for_scripts:
        return
    pickle._Unpickler.find_class = _find_class_in_python  # type: ignore[method-assign]  # noqa: SLF001
    replaced: dict[str, tuple[object, object]] = {
        "Unpickler": (pickle.Unpickler, ScriptUnpickler),
        "load": (_load, _load_for_scripts),
        "loads": (_loads, _loads_for_scripts),
        "import_module": (_import_module, _import_module_for_scripts),
    }
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", {})
        if str(names.get("__name__")).startswith(("_pickle", "loaders.")):
            continue
        for name, (old, new) in replaced.items():
            if names.get(name) is old:
                setattr(module, name, new)
