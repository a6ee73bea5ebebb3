"""What no other test would miss: docs that tell all, a README that runs, files that stay small."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

from typer.main import get_command

from mme.cli.main import app
from mme.cli.options import UNITS, describe_default
from mme.config import SETTINGS
from mme.metrics import Metrics

ROOT = Path(__file__).parents[2]
FRAMEWORKS = ("loaders", "numpy", "torch", "xgboost", "botocore")  # none is needed at every start
FILE_LINES, FUNCTION_LINES = 300, 40
PRODUCT = [
    path for room in ("mme", "loaders", "load_tests") for path in (ROOT / room).rglob("*.py")
]


def rows_of(document):
    return {
        line
        for line in (ROOT / "docs" / document).read_text().splitlines()
        if line.startswith("| `")
    }


def fenced(language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def commands():
    lines = "".join(fenced("sh")).replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in re.split(r"&&|\|", line)]
    words = [shlex.split(part, comments=True) for part in parts]
    return [command for command in words if command]


def test_importing_the_server_loads_no_framework():
    code = f"import mme.app.engine, sys; print([n for n in {FRAMEWORKS} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_every_setting_stands_in_the_docs_with_its_unit_and_default():
    expected = {
        f"| `{item.flag}` | `{item.variable}` | {UNITS[item.kind]} | {describe_default(item)} "
        f"| {item.help} |"
        for item in SETTINGS
    }
    assert rows_of("settings.md") == expected


def test_every_metric_stands_in_the_docs_with_its_type_and_help():
    families = Metrics("endpoint", "variant").registry.collect()
    expected = {
        (
            f"`{item.name}_total`" if item.type == "counter" else f"`{item.name}`",
            item.type,
            item.documentation,
        )
        for item in families
    }
    told = {
        tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows_of("metrics.md")
    }
    assert {(name, kind, text) for name, kind, _labels, text in told} == expected


def test_every_mme_command_of_the_readme_parses():
    ours = [command[1:] for command in commands() if Path(command[0]).name == "mme"]
    assert {command[0] for command in ours} >= {
        "serve",
        "demo",
        "pack",
        "check",
        "invoke",
        "models",
    }
    for name, *arguments in ours:
        get_command(app).commands[name].make_context(name, arguments).close()


def test_every_python_example_of_the_readme_compiles():
    examples = fenced("python")
    assert len(examples) >= 2
    for example in examples:
        ast.parse(example)


def test_the_first_screen_of_the_readme_holds_both_commands():
    first_screen = (ROOT / "README.md").read_text().splitlines()[:30]
    one_liners = [line for line in first_screen if line.startswith("python3.11 -m venv")]
    assert [line.rsplit("/", 1)[-1] for line in one_liners] == ["mme demo", "python -m pytest"]


def test_the_ci_script_runs_the_readmes_test_command():
    script = (ROOT / ".ci" / "run").read_text()
    take = next(line for line in script.splitlines() if line.startswith("test_command="))
    shown = subprocess.run(
        ["bash", "-euc", f'{take}; printf %s "$test_command"'],
        capture_output=True, text=True, check=True, cwd=ROOT,
    ).stdout  # fmt: skip
    assert shown in (ROOT / "README.md").read_text().splitlines()
    assert shown.endswith("-m pytest")
    assert script.count('"$test_command"') == 1


def test_the_image_can_be_one_of_sagemakers_hosts_and_is_not_root():
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    labels = next(line for line in lines if line.startswith("LABEL "))
    for capability in ("multi-models", "accept-bind-to-port"):
        assert f"com.amazonaws.sagemaker.capabilities.{capability}=true" in labels
    assert 'ENTRYPOINT ["mme"]' in lines  # exec form: `docker run IMAGE serve` and SIGTERM reach it
    assert "USER mme" in lines


def test_files_and_functions_stay_small():
    too_long = {}
    for path in PRODUCT:
        text = path.read_text()
        if text.count("\n") > FILE_LINES:
            too_long[path] = text.count("\n")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    too_long[path, node.name] = lines
    assert PRODUCT
    assert too_long == {}
