"""The guides do what they say: every command of theirs is run, and every output compared."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import psutil
import pytest
from typer.main import get_command

from mme.cli.main import app
from tests.eventually import eventually
from tests.guides import GuideFailed, blocks_of, follow

ROOT = Path(__file__).parents[2]
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
PAGES = sorted((ROOT / "docs").glob("*.md"))  # of reference: too costly to run, so only read


def read(tmp_path, guide):
    for name in ("here", "notes"):
        (tmp_path / name).mkdir()
    follow(guide, tmp_path / "here", tmp_path / "notes")


@pytest.mark.timeout(300)  # on a busy machine: trains, packs and serves, as a reader would
@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_a_guide_does_what_it_says(tmp_path, guide):
    read(tmp_path, guide.read_text())


def test_there_is_a_guide_for_every_task_and_the_readme_leads_to_each():
    linked = re.findall(r"\(docs/guides/([\w-]+)\.md\)", (ROOT / "README.md").read_text())
    assert sorted(linked) == [guide.stem for guide in GUIDES]
    assert len(GUIDES) == 9


def test_every_mme_command_of_the_reference_pages_parses():
    text = "".join(
        block.text
        for page in PAGES
        for block in blocks_of(page.read_text())
        if block.language == "sh"
    )
    lines = re.findall(r"^(?:\.venv/bin/)?mme (.*)$", text.replace("\\\n", " "), re.MULTILINE)
    assert len(lines) >= 10
    for line in lines:
        name, *arguments = shlex.split(line.partition(" > ")[0], comments=True)
        get_command(app).commands[name].make_context(name, arguments).close()


@pytest.mark.parametrize(
    "page",
    [*GUIDES, *PAGES, ROOT / "README.md"],
    ids=lambda page: f"{page.parent.name}-{page.stem}",
)
def test_every_link_of_the_docs_leads_somewhere(page):
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize(
    "wrong",
    [
        "```sh\nfalse\ntrue\n```\n",
        "```sh\nfalse | true\n```\n",
        "```sh\necho $UNSET\n```\n",
        "```sh\necho one\n```\n```text\ntwo\n```\n",
        "```sh\necho one two\n```\n```text\none ... three\n```\n",
        "```text\nout of nowhere\n```\n",
        "```python\nprint('nameless')\n```\n",
    ],
)
def test_a_guide_that_is_wrong_is_found_out(tmp_path, wrong):
    with pytest.raises(GuideFailed):
        read(tmp_path, wrong)


def test_one_shell_reads_a_whole_guide_and_ports_are_those_it_names(tmp_path):
    read(
        tmp_path,
        "```python\n# here.py\nprint('at', 8080)\n```\n```sh\nexport WORD='one  two'\n```\n"
        '```sh\necho "$WORD"; python here.py; python -m http.server 8081 2>said >&2 &\n```\n'
        "```text\none two\n...8080\n```\n```sh\nkill %1; wait; echo $?\n```\n```text\n0\n```\n",
    )


async def test_servers_of_a_guide_that_fails_are_ended(tmp_path):
    server = "python -m http.server 8081 2>said >&2 &\necho $! > pid\n"
    with pytest.raises(GuideFailed):
        read(tmp_path, f"```sh\n{server}```\n```sh\nfalse\n```\n")
    pid = int((tmp_path / "here" / "pid").read_text())
    await eventually(lambda: not runs(pid))


def runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
