import pytest

from loaders.checked import Checked


def test_a_content_is_checked_once_a_bad_one_each_time_and_the_oldest_again():
    seen = []

    def check(data):
        seen.append(data)
        if data == b"bad":
            raise ValueError("bad")

    checked = Checked(check, kept=2)
    for data in (b"a", b"b", b"a", b"b"):
        checked(data)
    assert seen == [b"a", b"b"]
    for _ in range(2):
        with pytest.raises(ValueError, match="bad"):
            checked(b"bad")
    checked(b"c")
    checked(b"b")
    checked(b"a")
    assert seen == [b"a", b"b", b"bad", b"bad", b"c", b"a"]
