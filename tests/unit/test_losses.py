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
