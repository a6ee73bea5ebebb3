"""A directory that somebody hostile writes to is looked through and removed, and nothing else."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mme.workers import hostile_tree


def deep(directory: Path, levels: int) -> None:
    """Directories in each other, by more than a path may be long; some can't be listed."""
    here = os.open(directory, os.O_RDONLY)
    for level in range(levels):
        os.mkdir("d", 0o300 if level % 2 else 0o700, dir_fd=here)
        below = os.open("d", os.O_PATH, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def test_what_is_in_it_is_found_and_links_are_not_followed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "below/more").mkdir(parents=True)
    (tree / "below/file").write_bytes(b"x" * 5000)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_bytes(b"x" * 7000)
    (tree / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(tree / "fifo")
    sizes = [found.st_size for found in hostile_tree.walk(tree)]
    assert len(sizes) == 5
    assert 5000 in sizes
    assert 7000 not in sizes


def test_a_directory_that_can_not_be_listed_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir(mode=0o300)
    (tmp_path / "hidden/file").write_bytes(b"x" * 5000)
    assert 5000 in [found.st_size for found in hostile_tree.walk(tmp_path)]


def test_too_many_directories_in_each_other_are_told(tmp_path: Path) -> None:
    deep(tmp_path, 60)
    assert len([*hostile_tree.walk(tmp_path)]) == 60
    deep(tmp_path / "d", 0)
    hostile_tree.remove(tmp_path / "d")
    deep(tmp_path, 70)
    with pytest.raises(hostile_tree.TooDeep):
        [*hostile_tree.walk(tmp_path)]


def test_it_is_removed_however_deep_and_what_links_name_stays(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    deep(tree, 2000)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").touch()
    (tree / "link").symlink_to(tmp_path / "outside")
    hostile_tree.remove(tree)
    assert not tree.exists()
    assert (tmp_path / "outside/file").exists()


def test_what_is_not_there_or_no_directory_is_let_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link", "nothing"):
        hostile_tree.remove(tmp_path / name)
    assert (tmp_path / "file").exists()
    assert (tmp_path / "link").is_symlink()


def test_what_somebody_else_removes_meanwhile_does_not_end_the_removal(tmp_path: Path) -> None:
    lent = tmp_path / "tree/lent"
    lent.mkdir(parents=True)
    for number in range(5_000):
        (lent / f"{number}").touch()
    files = list(lent.iterdir())  # in the order in which they are removed
    with ThreadPoolExecutor(1) as threads:
        removal = threads.submit(hostile_tree.remove, tmp_path / "tree")
        while files[0].exists():
            pass
        for file in reversed(files):
            file.unlink(missing_ok=True)
        removal.result()
    assert not (tmp_path / "tree").exists()
