"""What models leave behind is counted once, and forgotten when others fill it."""

from __future__ import annotations

from mme.workers.losses import Losses


def loaded(**grown_bytes):
    losses = Losses()
    for model, grown in grown_bytes.items():
        losses.came(model, charged_bytes=100, grown_bytes=grown)
    return losses


def test_models_that_return_all_they_took_leave_nothing():
    losses = loaded(a=100, b=100)
    losses.went(["a", "b"], returned_bytes=200)
    assert losses.lost_bytes == 0


def test_what_is_not_returned_is_lost_and_adds_up():
    losses = loaded(a=100, b=100, c=100)
    losses.went(["a"], returned_bytes=10)
    losses.went(["b", "c"], returned_bytes=150)
    assert losses.lost_bytes == 90 + 50


def test_a_model_that_fills_what_was_left_makes_it_less():
    losses = loaded(a=100)
    losses.went(["a"], returned_bytes=0)
    losses.came("b", charged_bytes=100, grown_bytes=20)
    assert losses.lost_bytes == 20
    losses.went(["b"], returned_bytes=20)
    assert losses.lost_bytes == 100


def test_more_returned_than_was_charged_is_no_credit_for_later_losses():
    losses = loaded(a=100, b=100)
    losses.went(["a"], returned_bytes=300)
    losses.went(["b"], returned_bytes=40)
    assert losses.lost_bytes == 60


def test_what_is_lost_is_much_by_itself_and_beside_what_is_charged():
    losses = Losses()
    losses.came("a", charged_bytes=1_000_000, grown_bytes=1_600_000)
    assert losses.is_much
    losses.came("b", charged_bytes=9_000_000, grown_bytes=9_000_000)
    assert not losses.is_much
    losses.went(["b"], returned_bytes=None)
    assert losses.is_much
    losses.went([], returned_bytes=9_100_000)
    assert losses.lost_bytes == 500_000
    assert not losses.is_much


def test_who_was_to_be_recalled_and_had_been_lost_took_nothing():
    losses = loaded(a=100)
    assert not losses.expected_bytes(["lost"])
    losses.went(["lost", "a"], returned_bytes=100)
    assert losses.lost_bytes == 0


def test_small_models_are_not_worth_trimming_for_until_together_they_are():
    losses, names = Losses(), [f"m{number}" for number in range(20)]
    for name in names:
        losses.came(name, charged_bytes=10_000, grown_bytes=10_000)
    for number, name in enumerate(names):
        expected_bytes = losses.expected_bytes([name])
        if expected_bytes:
            assert expected_bytes == 10_000 * (number + 1) >= 128 * 1024
            losses.went([name], returned_bytes=expected_bytes)
            break
        losses.went([name], returned_bytes=None)
        assert losses.lost_bytes == 10_000 * (number + 1)
    assert number == 13
    assert losses.lost_bytes == 0


def test_where_each_fills_what_another_left_nothing_is_trimmed():
    losses = loaded(m0=100)
    for number in range(5_000):
        assert not losses.expected_bytes([f"m{number}"])
        losses.went([f"m{number}"], returned_bytes=None)
        losses.came(f"m{number + 1}", charged_bytes=100, grown_bytes=0)
    assert losses.lost_bytes == 0


def test_what_trimming_did_not_give_back_is_not_expected_of_it_again():
    losses = Losses()
    losses.came("a", charged_bytes=500_000, grown_bytes=500_000)
    losses.went(["a"], returned_bytes=100_000)
    losses.came("b", charged_bytes=100_000, grown_bytes=100_000)
    assert losses.lost_bytes == 400_000
    assert not losses.expected_bytes(["b"])
