"""Scripts with modules of the same names live in one interpreter without touching each other."""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest

from loaders.contract import LoadRefused
from loaders.script_modules import ScriptSpace
from tests.scripts import ECHO, ask, load, told, write_files, write_script

# ways to get at `marker` of a module `helper` that lies beside the script
IMPORTS = {
    "statement": "from helper import marker\ndef answer(): return [marker]",
    "plain": "import helper\ndef answer(): return [helper.marker]",
    "renamed": "import helper as it\ndef answer(): return [it.marker]",
    "lazy": "def answer():\n    import helper\n    return [helper.marker]",
    "lazy-from": "def answer():\n    from helper import marker\n    return [marker]",
    "star": "from helper import *\ndef answer(): return [marker]",
    "relative": "from . import helper\ndef answer(): return [helper.marker]",
    "package": "import kit.inner\ndef answer(): return [kit.inner.marker]",
    "package-from": "from kit import inner\ndef answer(): return [inner.marker]",
    "package-renamed": "import kit.inner as it\ndef answer(): return [it.marker]",
    "package-relative": "from kit.near import marker\ndef answer(): return [marker]",
    "package-absolute": "from kit.far import marker\ndef answer(): return [marker]",
    "folder": "from bare.inner import marker\ndef answer(): return [marker]",
    "library-folder": "import vendored\ndef answer(): return [vendored.marker]",
    "import_module": """
from importlib import import_module
def answer(): return [import_module("helper").marker]
""",
    "import_module-lazy": """
def answer():
    import importlib
    return [importlib.import_module("kit.inner").marker]
""",
    "import_module-relative": """
import importlib, kit
def answer(): return [importlib.import_module(".inner", "kit").marker]
""",
    "dunder": "def answer(): return [__import__('helper').marker]",
    "dunder-from": "def answer(): return [__import__('kit.inner', fromlist=['marker']).marker]",
    "exec": """
def answer():
    names = {}
    exec("from helper import marker", names)
    return [names["marker"]]
""",
    "thread": """
import threading
def answer():
    found = []
    def look():
        import helper, importlib
        found.extend({helper.marker, importlib.import_module("kit.inner").marker})
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found
""",
    "path": """
import os, sys
sys.path.append(os.path.join(os.path.dirname(__file__), "deep"))
import deeper
def answer(): return [deeper.marker]
""",
    "path-in-front": """
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "deep"))
from helper import marker
def answer(): return [marker[5:]]
""",
    "path-of-sagemaker": """
import sys
sys.path.append("/opt/ml/model/code/deep")
def answer():
    import deeper
    return [deeper.marker]
""",
    "dataclass": """
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar, get_type_hints
import helper
@dataclass
class Kept:
    marker: str = helper.marker
    other: ClassVar[int] = 0
def answer():
    assert get_type_hints(Kept)["marker"] is str
    return [Kept().marker]
""",
    "pickle": """
import pickle, helper
def answer():
    return [pickle.loads(pickle.dumps(helper.Box(helper.marker))).value]
""",
    "reload": """
import importlib, helper
def answer():
    return [importlib.reload(helper).marker]
""",
}


def siblings(marker: str) -> dict[str, str]:
    line = f"marker = {marker!r}\n"
    box = "class Box:\n    def __init__(self, value): self.value = value\n"
    return {
        "helper": line + box,
        "kit____init__": "",
        "kit__inner": line,
        "kit__near": "from .inner import marker",
        "kit__far": "from helper import marker",
        "bare__inner": line,
        "lib__vendored": line,
        "deep__deeper": line,
        "deep__helper": f"marker = {'deep ' + marker!r}",
    }


@pytest.fixture(autouse=True)
def nothing_is_shared():
    """Nothing that a script imports or adds to the path is seen by anyone else."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    gc.collect()
    shared = {name for name in set(sys.modules) - modules if "mme_script" not in name}
    names = {name.partition(".")[0] for name in shared}
    assert not names & {"helper", "kit", "bare", "vendored", "deeper", "inference", "lib"}
    assert sys.path == path


@pytest.mark.parametrize("way", IMPORTS)
def test_each_script_imports_its_own_siblings_whatever_the_way(tmp_path, way):
    source = IMPORTS[way] + ECHO
    models = {}
    for marker in ("red", "blue"):
        root = write_script(tmp_path / marker, source, **siblings(marker))
        models[marker] = load(root)
    for _ in range(2):
        for marker, model in models.items():
            assert told(model) == [marker]
    models.pop("red").close()
    assert told(models["blue"]) == ["blue"]
    models["blue"].close()


def test_scripts_that_load_and_predict_in_threads_at_once_keep_to_themselves(tmp_path):
    source = """
import helper
def answer():
    from kit import near
    import importlib
    return [helper.marker, near.marker, importlib.import_module("bare.inner").marker]
"""
    roots = [write_script(tmp_path / str(n), source + ECHO, **siblings(f"m{n}")) for n in range(8)]
    start, wrong = threading.Barrier(4, timeout=10), []

    def work(mine):
        start.wait()
        for _ in range(5):
            models = [(number, load(roots[number])) for number in mine]
            for number, model in models * 5:
                if (found := told(model)) != [f"m{number}"] * 3:
                    wrong.append((number, found))
            for _, model in models:
                model.close()

    threads = [threading.Thread(target=work, args=(range(n, 8, 4),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_sibling_shadows_what_is_installed_for_its_own_script_only(tmp_path):
    source = "import msgspec, importlib\ndef answer(): return [msgspec.__name__, {}]" + ECHO
    dynamic = "importlib.import_module('msgspec').__name__"
    plain = load(write_script(tmp_path / "a", source.format(dynamic)))
    own = load(write_script(tmp_path / "b", source.format(dynamic), msgspec=""))
    assert told(plain) == ["msgspec", "msgspec"]
    ours, again = told(own)
    assert ours == again != "msgspec"
    plain.close()
    own.close()


def test_a_folder_of_data_shadows_nothing_that_is_installed(tmp_path):
    (tmp_path / "code" / "msgspec").mkdir(parents=True)
    model = load(write_script(tmp_path, "import msgspec\ndef answer(): return 1" + ECHO))
    assert "mme_script" not in told_name(model, "msgspec")
    model.close()


def told_name(model, name):
    return model._handlers.transform_fn.__closure__[0].cell_contents.__globals__[name].__name__


def test_libraries_get_what_is_installed_even_where_a_script_has_the_name(tmp_path):
    """As when xgboost imports numpy by name while a script that has its own numpy.py runs."""
    library = tmp_path / "library"
    write_files(
        library, a_library="import importlib\ndef get(n): return importlib.import_module(n)"
    )
    sys.path.append(str(library))
    try:
        source = """
import a_library
def answer():
    return ["mme_script" in a_library.get(name).__name__ for name in ("msgspec", "helper")]
"""
        root = write_script(tmp_path / "m", source + ECHO, msgspec="", helper="")
        model = load(root)
        assert told(model) == [False, True]
        model.close()
    finally:
        sys.path.remove(str(library))
        del sys.modules["a_library"]


@pytest.mark.parametrize("named", ["helper", "__main__"])
@pytest.mark.parametrize("reader", ["pickle.load", "pickle.loads", "joblib", "_pickle"])
def test_a_pickle_finds_the_classes_of_the_script_that_reads_it(tmp_path, named, reader):
    """Trained elsewhere, where the module was called `helper` or was the program itself."""
    pickled = b"\x80\x04c" + named.encode() + b"\nBox\n)\x81}\x8c\x05value\x8c\x01vsb."
    read = {
        "pickle.load": "import pickle\ndef read(path): return pickle.load(open_(path))",
        "pickle.loads": "import pickle\ndef read(path): return pickle.loads(open_(path).read())",
        "joblib": "import joblib\ndef read(path): return joblib.load(path)",
        "_pickle": "import pickle\ndef read(path): return pickle._Unpickler(open_(path)).load()",
    }
    source = """
import helper, io, os
def open_(path):
    with open(path, "rb") as file: return io.BytesIO(file.read())
class Box(helper.Box): pass
def model_fn(model_dir):
    return read(os.path.join(model_dir, "model.bin"))
def transform_fn(model, data, content_type, accept):
    import helper
    assert isinstance(model, helper.Box)
    return [model.value, helper.marker]
"""
    models = []
    for marker in ("red", "blue"):
        root = write_script(tmp_path / marker, source + read[reader], **siblings(marker))
        (root / "model.bin").write_bytes(pickled)
        models.append(load(root))
    assert [told(model) for model in models] == [["v", "red"], ["v", "blue"]]
    for model in models:
        model.close()


def test_functions_that_a_library_has_taken_from_pickle_are_replaced_too(tmp_path):
    write_files(tmp_path / "library", early="from pickle import loads")
    source = """
import early
def answer(): return [early.loads(b"chelper\\nmarker\\n.")]
"""
    root = write_script(tmp_path / "m", source + ECHO, helper="marker = 7")
    program = f"""
import early
from pathlib import Path
from loaders.contract import Payload, Trust
from loaders.find import find_loader
found = find_loader(Path({str(root)!r}))
print(found.loader.load(found.root, Trust()).predict([Payload(b"")])[0].body)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "library")},
    )
    assert (done.stdout, done.stderr) == ("b'[7]'\n", "")


def test_for_everyone_else_pickle_and_import_module_are_as_before(tmp_path):
    model = load(write_script(tmp_path, "def answer(): return 1" + ECHO, helper=""))
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'helper'$"):
        importlib.import_module("helper")
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'helper'$"):
        pickle.loads(b"chelper\nBox\n.")
    data = pickle.dumps([Path("x"), {1: 2}])
    assert pickle.loads(data) == pickle._loads(data) == [Path("x"), {1: 2}]
    with pytest.raises(TypeError):
        importlib.import_module(".relative")
    model.close()


def test_a_missing_module_is_named_as_the_script_names_it(tmp_path):
    for source in ("import nowhere", "import kit.nowhere", "from helper import nowhere"):
        root = write_script(tmp_path / source.replace(" ", "-"), source, **siblings("x"))
        with pytest.raises(LoadRefused) as caught:
            load(root)
        assert "Error: " in str(caught.value)
        assert "nowhere" in str(caught.value)
        assert "mme_script" not in str(caught.value)
        assert str(tmp_path) not in str(caught.value)


def test_what_runs_only_as_a_program_is_not_run(tmp_path):
    source = "def answer(): return [1]\nif __name__ == '__main__':\n    raise SystemExit('ran')"
    model = load(write_script(tmp_path, source + ECHO))
    assert told(model) == [1]
    model.close()


def test_a_path_that_a_script_adds_last_is_not_everyones_while_it_lives(tmp_path):
    source = """
import sys
def answer():
    import deeper
    return [deeper.marker]
sys.path.append(__file__.rpartition("/")[0] + "/deep")
"""
    path = list(sys.path)
    model = load(write_script(tmp_path, source + ECHO, **siblings("red")))
    assert sys.path == path
    assert told(model) == ["red"]
    model.close()


def test_no_bytecode_is_written_beside_the_model(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    root = write_script(tmp_path, "import helper\ndef answer(): return 1" + ECHO, **siblings("x"))
    files = sorted(root.rglob("*"))
    load(root).close()
    assert sorted(root.rglob("*")) == files


WEIGHTY = """
import helper, kit.near, functools
class Model:
    def __init__(self): self.weights = bytearray(1 << 20)
@functools.lru_cache
def cached(x): return Model()
def model_fn(model_dir):
    cached(1)
    return Model()
def transform_fn(model, data, content_type, accept):
    import helper
    return 1 if data != "fail" else 1 / 0
"""


def test_a_closed_model_leaves_no_module_and_no_object_behind(tmp_path):
    root = write_script(tmp_path, WEIGHTY, **siblings("x"))
    before = set(sys.modules)
    model = load(root)
    told(model)
    ask(model, b"fail")
    own = {name: module for name, module in sys.modules.items() if name not in before}
    assert {name.partition(".")[2] for name in own} >= {"inference", "helper", "kit.near"}
    left = [weakref.ref(module) for module in own.values()] + [weakref.ref(model._model)]
    model.close()
    own.clear()
    gc.collect()
    assert [reference() for reference in left if reference() is not None] == []
    assert set(sys.modules) == before
    assert not [path for path in sys.path_importer_cache if path.startswith(str(root))]


def test_a_failed_load_leaves_nothing_behind(tmp_path):
    before = set(sys.modules)
    with pytest.raises(LoadRefused):
        load(write_script(tmp_path, "import helper\n1 / 0", **siblings("x")))
    assert set(sys.modules) == before


def test_a_space_names_only_what_is_its_own(tmp_path):
    write_files(tmp_path / "code", inference="class Net: pass", helper="")
    space = ScriptSpace(tmp_path, [tmp_path / "code"], "inference")
    assert space.private_name("helper") == f"{space.name}.helper"
    assert space.private_name("helper.deep") == f"{space.name}.helper.deep"
    assert space.private_name("__main__", "Net") == "__main__"  # not imported yet
    space.run_entry()
    assert space.private_name("__main__", "Net") == f"{space.name}.inference"
    for name in ("__main__", "sys", "json", "pathlib", "nowhere"):
        assert space.private_name(name, "Other") == name
    space.close()
