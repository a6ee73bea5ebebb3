"""Archives with a script, as users pack them, loaded as a worker loads them."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

from loaders.contract import Answer, Model, ModelFault, Payload, Trust
from loaders.find import find_loader

ECHO = """
def model_fn(model_dir):
    return "the model"

def transform_fn(model, data, content_type, accept):
    return answer()
"""


def write_script(root: Path, source: str, **others: str) -> Path:
    """Writes code/inference.py, and others beside it; `__` stands for a folder's slash."""
    write_files(root / "code", inference=source, **others)
    return root


def write_files(folder: Path, **sources: str) -> None:
    """Writes NAME.py for each; `a__b` is a/b.py."""
    for name, source in sources.items():
        path = folder / f"{name.replace('__', '/', 1) if not name.startswith('__') else name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(source))


def load(root: Path, trust: Trust | None = None) -> Model:
    found = find_loader(root)
    found.loader.prepare()
    return found.loader.load(found.root, trust or Trust())


def ask(model: Model, body: bytes = b"", *headers: str | None) -> Answer | ModelFault:
    """One payload; headers are its type, what it accepts, its custom attributes."""
    [answer] = model.predict([Payload(body, *headers)])
    return answer


def told(model: Model, body: bytes = b"", *headers: str | None) -> object:
    """The JSON that a script answered."""
    answer = ask(model, body, *headers)
    assert isinstance(answer, Answer), answer
    return json.loads(answer.body)
