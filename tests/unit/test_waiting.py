"""Places for who waits for loads: never more than there are, and no tenant fills them all."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as some

from mme.cache.waiting import Waiting
from mme.errors import Overloaded


class Room:
    """Requests that come, leave and are given up, as the cache has them."""

    def __init__(self, model_limit, total_limit):
        self.waiting = Waiting(model_limit, total_limit)
        self.here = {}  # by number: (its stack, model, tenant)
        self.given_up = []
        self.numbers = 0

    def come(self, model, tenant):
        number = self.numbers = self.numbers + 1
        stack = ExitStack()
        try:
            stack.enter_context(
                self.waiting.place(model, tenant, lambda: self.given_up.append(number))
            )
        except Overloaded:
            return None
        for gone in self.given_up:
            if gone in self.here:
                self.leave(gone)
        self.here[number] = stack, model, tenant
        return number

    def leave(self, number):
        self.here.pop(number)[0].close()


def test_more_than_a_model_s_places_are_refused_until_one_leaves():
    room = Room(2, 100)
    first, _second = room.come("a", "a"), room.come("a", "a")
    assert room.come("a", "a") is None
    assert room.come("b", "b")
    room.leave(first)
    assert room.come("a", "a")


def test_where_all_places_are_taken_the_newest_of_who_has_most_goes_for_another():
    room = Room(100, 4)
    many = [room.come(f"m{number}", "many") for number in range(4)]
    assert room.come("m9", "many") is None
    assert room.come("x", "few")
    assert room.given_up == [many[3]]
    assert room.come("y", "few") is not None
    assert room.given_up == [many[3], many[2]]
    assert room.come("z", "few") is None  # as many as the other
    assert room.waiting.count == 4


@given(
    some.lists(
        some.tuples(some.integers(0, 3), some.sampled_from("abcde"), some.sampled_from("xyz")),
        max_size=60,
    ),
    some.integers(1, 4),
    some.integers(1, 8),
)
def test_never_more_than_the_limits_wait_and_in_the_end_nobody_does(steps, model_limit, total):
    room = Room(model_limit, total)
    for what, model, tenant in steps:
        if what == 0 and room.here:
            room.leave(next(iter(room.here)))
        elif what == 1 and room.here:
            room.leave(next(reversed(room.here)))
        else:
            before = {gone: room.here.get(gone) for gone in room.here}
            known = len(room.given_up)
            counts = [one[2] for one in before.values()]
            came = room.come(model, tenant)
            for gone in room.given_up[known:]:
                assert counts.count(before[gone][2]) == max(map(counts.count, counts))
                assert before[gone][2] != tenant
            full = len(before) >= total
            mine = counts.count(tenant)
            if came is None:
                models = [one[1] for one in before.values()]
                most = max(map(counts.count, counts))
                assert models.count(model) >= model_limit or (full and mine + 1 >= most)
        models = [one[1] for one in room.here.values()]
        assert room.waiting.count == len(room.here) <= total
        assert all(models.count(each) <= model_limit for each in models)
    for number in list(room.here):
        room.leave(number)
    assert room.waiting.count == room.waiting._most == 0
    assert not room.waiting._models
    assert not room.waiting._tenants
    assert not room.waiting._by_count


def test_a_place_is_free_again_whatever_ends_the_wait():
    room = Waiting(1, 1)
    with pytest.raises(ValueError, match="load"), room.place("a", "a", lambda: None):
        raise ValueError("load")
    assert room.count == 0
