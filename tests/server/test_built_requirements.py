"""A model whose requirements are a source package with C in it, built by setuptools, answers.

setuptools comes from the package index, as it would for a user.
"""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

import pytest

from tests.engines import drop
from tests.servers import predict, runtime_client, serving

pytestmark = pytest.mark.timeout(300)
PACKAGE = {
    "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\n'
    'build-backend = "setuptools.build_meta"\n',
    "setup.py": """
from setuptools import Extension, setup
setup(name="twice", version="1.0", py_modules=["doubling"],
      ext_modules=[Extension("_twice", ["twice.c"])])
""",
    "doubling.py": "from _twice import twice\n",
    "twice.c": """
#include <Python.h>
static PyObject *twice(PyObject *self, PyObject *number) { return PyNumber_Add(number, number); }
static PyMethodDef methods[] = {{"twice", twice, METH_O, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_twice", "", -1, methods};
PyMODINIT_FUNC PyInit__twice(void) { return PyModule_Create(&module); }
""",
}
SCRIPT = b"""
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    from doubling import twice
    return str(twice(float(data))), "text/csv"
"""


@pytest.mark.skipif(
    shutil.which("gcc") is None or not Path(sysconfig.get_path("include"), "Python.h").exists(),
    reason="there is no compiler, or no header of Python's",
)
def test_a_package_with_c_in_it_is_built_and_its_model_answers(tmp_path: Path) -> None:
    members = {f"code/twice/{name}": text.encode() for name, text in PACKAGE.items()}
    asked = {"code/requirements.txt": b"./twice\n", "code/inference.py": SCRIPT}
    drop(tmp_path / "models", "a", {**members, **asked})
    with (
        serving(tmp_path, tmp_path / "models") as server,
        runtime_client(server.url, read_timeout=180) as client,
    ):
        assert predict(client, "a", b"21.5") == 43.0
        [digest] = server.state()["environments"]["built"]
        bytecode = (tmp_path / "cache/environments" / digest).rglob("doubling.*.pyc")
        assert len([*bytecode]) == 1
