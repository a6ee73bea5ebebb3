"""Models that bring requirements: one environment per content, beside each other, off the path."""

from __future__ import annotations

import asyncio
import zipfile
from pathlib import Path

import pytest

from mme.errors import LoadFailed
from tests.engines import ask, drop, running_engine
from tests.eventually import eventually
from tests.models import booster

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def wheels(tmp_path) -> Path:
    """A directory with two versions of a package, so that no index is asked."""
    directory = tmp_path / "wheels"
    directory.mkdir()
    for version in ("1.0", "2.0"):
        info = f"mmeprobe-{version}.dist-info"
        with zipfile.ZipFile(directory / f"mmeprobe-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr("mmeprobe.py", f"VERSION = {version!r}\n")
            wheel.writestr(
                f"{info}/METADATA", f"Metadata-Version: 2.1\nName: mmeprobe\nVersion: {version}\n"
            )
            wheel.writestr(
                f"{info}/WHEEL",
                "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            )
            wheel.writestr(f"{info}/RECORD", "")
    return directory


def offline(wheels):
    return {"wheels": str(wheels), "package_index": "none"}


def with_requirements(seed, text):
    return {**booster(seed).members, "code/requirements.txt": text.encode()}


def groups(engine):
    return [worker["environment"] for worker in engine.state()["workers"]]


async def test_models_with_one_requirements_share_a_worker_and_others_have_their_own(
    tmp_path, wheels
):
    models = tmp_path / "models"
    drop(models, "plain.tar.gz", booster(0).members)
    drop(models, "a.tar.gz", with_requirements(1, "mmeprobe==1.0"))
    drop(models, "b.tar.gz", with_requirements(2, "mmeprobe==1.0"))
    drop(models, "c.tar.gz", with_requirements(3, "mmeprobe==2.0"))
    async with running_engine(tmp_path, **offline(wheels)) as engine:
        async with asyncio.TaskGroup() as group:
            answers = [
                group.create_task(ask(engine, f"{name}.tar.gz"))
                for name in ("plain", "a", "b", "c")
            ]
        for seed, answer in enumerate(answers):
            assert answer.result() == pytest.approx(booster(seed).prediction, rel=1e-6)
        workers = {model["model"]: model["worker"] for model in engine.state()["models"]}
        assert workers["a.tar.gz"] == workers["b.tar.gz"]
        assert len(set(workers.values())) == 3
        built = engine.state()["environments"]["built"]
        assert sorted(groups(engine), key=str) == sorted([None, *built], key=str)
        for digest in built:
            found = list((tmp_path / "cache" / "environments" / digest).glob("mmeprobe.py"))
            assert len(found) == 1


async def test_a_build_that_fails_is_remembered_with_its_output(tmp_path, wheels):
    models = tmp_path / "models"
    drop(models, "a.tar.gz", with_requirements(1, "mmeprobe==3.0"))
    drop(models, "b.tar.gz", with_requirements(2, "mmeprobe==3.0"))
    async with running_engine(tmp_path, **offline(wheels)) as engine:
        for name in ("a", "b", "a"):
            with pytest.raises(LoadFailed, match=r"(?s)not be installed: .*mmeprobe==3\.0") as no:
                await ask(engine, f"{name}.tar.gz")
            assert str(tmp_path) not in str(no.value)
        state = engine.state()["environments"]
        assert [failed["requirements"] for failed in state["failures"]] == [("mmeprobe==3.0",)]
        assert "mmeprobe" in state["failures"][0]["output"]
        assert groups(engine) == [None]
        assert not list((tmp_path / "cache" / "environments").glob("incoming-*"))


async def test_requirements_that_can_not_be_read_show_no_path_of_the_servers(tmp_path, wheels):
    drop(tmp_path / "models", "a.tar.gz", with_requirements(1, f"-r {'x' * 300}"))
    async with running_engine(tmp_path, **offline(wheels)) as engine:
        with pytest.raises(LoadFailed, match="can't be read: File name too long") as no:
            await ask(engine, "a.tar.gz")
        assert str(tmp_path) not in str(no.value)


async def test_a_build_that_fails_shows_no_directory_of_this_machine(tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "mmeprobe-1.0-py3-none-any.whl").write_bytes(b"no wheel")
    drop(tmp_path / "models", "a.tar.gz", with_requirements(1, "mmeprobe==1.0"))
    async with running_engine(tmp_path, **offline(wheels)) as engine:
        with pytest.raises(LoadFailed, match="mmeprobe") as no:
            await ask(engine, "a.tar.gz")
        assert str(tmp_path) not in str(no.value)


async def test_workers_of_an_environment_end_when_they_are_idle_and_come_back(tmp_path, wheels):
    drop(tmp_path / "models", "a.tar.gz", with_requirements(1, "mmeprobe==1.0"))
    settings = {**offline(wheels), "environment_idle_seconds": 0.2, "refresh_seconds": 0.1}
    async with running_engine(tmp_path, **settings) as engine:
        await ask(engine, "a.tar.gz")
        (tmp_path / "models" / "a.tar.gz").rename(tmp_path / "aside")
        await asyncio.sleep(0.1)
        with pytest.raises(Exception, match="Failed to download"):
            await ask(engine, "a.tar.gz")
        await eventually(lambda: groups(engine) == [None])
        (tmp_path / "aside").rename(tmp_path / "models" / "a.tar.gz")
        assert await ask(engine, "a.tar.gz") == pytest.approx(booster(1).prediction, rel=1e-6)


async def test_a_restart_finds_the_environment_built(tmp_path, wheels):
    drop(tmp_path / "models", "a.tar.gz", with_requirements(1, "mmeprobe==1.0"))
    async with running_engine(tmp_path, **offline(wheels)) as engine:
        await ask(engine, "a.tar.gz")
        built = engine.state()["environments"]["built"]
    async with running_engine(tmp_path, wheels=None, package_index="none") as engine:
        assert await ask(engine, "a.tar.gz") == pytest.approx(booster(1).prediction, rel=1e-6)
        assert engine.state()["environments"]["built"] == built


async def test_the_budget_on_disk_drops_what_was_asked_for_longest_ago(tmp_path, wheels):
    models = tmp_path / "models"
    drop(models, "a.tar.gz", with_requirements(1, "mmeprobe==1.0"))
    drop(models, "b.tar.gz", with_requirements(2, "mmeprobe==2.0"))
    settings = {**offline(wheels), "environment_idle_seconds": 300.0}
    async with running_engine(tmp_path, **settings) as engine:
        await ask(engine, "a.tar.gz")
        await ask(engine, "b.tar.gz")
        assert len(engine.state()["environments"]["built"]) == 2
        settings["environments_disk"] = engine.state()["environments"]["used_bytes"] * 3 // 2 - 1
    async with running_engine(tmp_path, **settings) as engine:
        await ask(engine, "b.tar.gz")
        drop(models, "c.tar.gz", with_requirements(3, "mmeprobe<2"))
        await ask(engine, "c.tar.gz")
        assert len(engine.state()["environments"]["built"]) == 2  # b's and c's


async def test_requirements_are_refused_where_nothing_may_be_installed(tmp_path, wheels):
    drop(tmp_path / "models", "a.tar.gz", with_requirements(1, "mmeprobe==1.0"))
    async with running_engine(tmp_path, trust="data", **offline(wheels)) as engine:
        with pytest.raises(LoadFailed, match="does not install any"):
            await ask(engine, "a.tar.gz")


async def test_a_worker_that_cannot_start_in_an_environment_fails_its_models_only(tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "msgspec-99.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("msgspec/__init__.py", "raise ImportError('not the real one')\n")
        info = "msgspec-99.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: msgspec\nVersion: 99.0\n")
        wheel.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{info}/RECORD", "")
    models = tmp_path / "models"
    drop(models, "plain.tar.gz", booster(0).members)
    drop(models, "a.tar.gz", with_requirements(1, "msgspec==99.0"))
    async with running_engine(tmp_path, **offline(wheels)) as engine:
        with pytest.raises(LoadFailed, match="No worker could start"):
            await ask(engine, "a.tar.gz")
        assert await ask(engine, "plain.tar.gz") == pytest.approx(booster(0).prediction, rel=1e-6)
