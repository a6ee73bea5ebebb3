"""One content of requirements, one name; nothing is read from outside the archive."""

from __future__ import annotations

import pytest

from mme.workers.few_files import few_files
from mme.workers.requirements import find_requirements


def written(root, text, **others):
    code = root / "code"
    code.mkdir(parents=True)
    (code / "requirements.txt").write_text(text)
    for name, content in others.items():
        (code / f"{name}.txt").write_text(content)
    return root


def test_the_same_requirements_of_two_models_are_one_environment(tmp_path):
    first = find_requirements(written(tmp_path / "a", "six==1.16.0  # pinned\n\n"))
    second = find_requirements(written(tmp_path / "b", "six==1.16.0\n\n"))
    assert first.digest == second.digest
    assert first.lines == ("six==1.16.0",)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16-le", "utf-16-be"])
def test_what_windows_tools_write_reads_the_same(tmp_path, encoding):
    first = find_requirements(written(tmp_path / "a", "six==1.16.0\n"))
    root = written(tmp_path / "b", "")
    mark = "" if encoding == "utf-8-sig" else "\ufeff"
    (root / "code/requirements.txt").write_bytes(f"{mark}six==1.16.0\r\n".encode(encoding))
    second = find_requirements(root)
    assert (second.lines, second.digest) == (first.lines, first.digest)
    assert set(map(str, second.needs)) == {"code/requirements.txt"}


def test_another_version_is_another_environment(tmp_path):
    first = find_requirements(written(tmp_path / "a", "six==1.16.0"))
    second = find_requirements(written(tmp_path / "b", "six==1.17.0"))
    assert first.digest != second.digest


def test_what_a_file_includes_is_part_of_it(tmp_path):
    first = find_requirements(written(tmp_path / "a", "-r more.txt", more="six==1.16.0"))
    second = find_requirements(written(tmp_path / "b", "-r more.txt", more="six==1.17.0"))
    assert first.lines == ("six==1.16.0",)
    assert first.digest != second.digest


def test_a_wheel_of_the_archives_own_is_shared_with_nobody(tmp_path):
    digests = {
        find_requirements(written(tmp_path / name, "./wheels/own-1.0-py3-none-any.whl")).digest
        for name in "ab"
    }
    assert len(digests) == 2


NAMED = [
    "six", "six==1.16.0", "six >= 1, <2; python_version > '3'", "Six[a,b]~=1.0", "zope.interface",
    "six==1.16.0 \\\n    --hash=sha256:0123", "--extra-index-url https://example.org/simple\nsix",
    "--no-binary=numpy\nsix", "--pre\nsix # -e ./own", "-r more.txt", "-c more.txt\nsix",
]  # fmt: skip
WHEELS = ["./wheels/own-1.0-py3-none-any.whl", "own-1.0-py3-none-any.whl"]
NEITHER = [
    "./own", "own/", "own.tar.gz", "own-1.0.zip", "own.tgz[a]", "own @ ./own", "own@ file:own",
    "-e ./own", "-e own", "--editable=./own", "\ufeff-e ./own", "six \\\n@ ./own",
    "-f ./wheels\nsix", "--find-links=./wheels\nsix", "--index-url ./simple\nsix",
    "--index-url https://${HTTP_PROXY}\nsix", "git+https://example.org/own", "../own.whl",
    "/own.whl", "file:own.whl", "https://example.org/own.whl", "./$HOME/own.whl",
    "wheels/../own.whl", "--unknown\nsix",
]  # fmt: skip


@pytest.mark.parametrize("text", [*NAMED, *WHEELS, *NEITHER])
def test_what_is_known_to_run_no_code_is_told_from_the_rest(tmp_path, text):
    first = find_requirements(written(tmp_path / "a", text, more="six"))
    second = find_requirements(written(tmp_path / "b", text, more="six"))
    assert first.is_plain == (text not in NEITHER)
    assert (first.digest == second.digest) == (text in NAMED)


def test_what_names_packages_only_needs_no_other_file_of_the_archive(tmp_path):
    root = written(tmp_path / "a", "six\n-r more.txt\n-c none.txt", more="six", none="", other="x")
    names = {str(path) for path in find_requirements(root).needs}
    assert names == {f"code/{name}.txt" for name in ("requirements", "more", "none")}
    assert find_requirements(written(tmp_path / "b", "six\n./own")).needs is None


@pytest.mark.parametrize("name", ["a b.txt", "a\\", "http:b.txt", "${LANG}.txt"])
def test_an_include_that_may_be_read_otherwise_is_not_taken_for_harmless(tmp_path, name):
    root = written(tmp_path / "a", f"-r {name}\nsix")
    included = root / "code" / name.split(" ")[0]
    included.write_text("six")
    assert not find_requirements(root).is_plain


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing but a remark\n"])
def test_a_file_that_asks_for_nothing_is_none(tmp_path, text):
    assert find_requirements(written(tmp_path / "a", text)) is None


def test_an_archive_without_the_file_has_none(tmp_path):
    assert find_requirements(tmp_path) is None


def test_an_archive_without_directories_can_not_ask(tmp_path):
    (tmp_path / "requirements.txt").write_text("six==1.16.0")  # not where it counts
    assert few_files(tmp_path) is not None  # where nobody looks for any
    assert find_requirements(tmp_path) is None
    written(tmp_path, "six==1.16.0")
    assert few_files(tmp_path) is None
    assert find_requirements(tmp_path) is not None


def test_a_folder_packed_whole_is_looked_into(tmp_path):
    written(tmp_path / "model", "six==1.16.0")
    assert find_requirements(tmp_path).lines == ("six==1.16.0",)


@pytest.mark.parametrize("included", ["../../secret.txt", "/etc/hosts", "missing.txt"])
def test_an_include_that_leads_out_of_the_archive_is_refused(tmp_path, included):
    (tmp_path / "secret.txt").write_text("x")
    with pytest.raises(ValueError, match="is not a file of the archive"):
        find_requirements(written(tmp_path / "a", f"-r {included}"))


def test_a_file_that_includes_itself_is_refused(tmp_path):
    with pytest.raises(ValueError, match="requirements"):
        find_requirements(written(tmp_path / "a", "-r requirements.txt"))
