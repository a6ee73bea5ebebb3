import random
import tracemalloc

import numpy as np
import pytest
import xgboost

from loaders import ubjson, ubjson_alike
from loaders.ubjson_alike import Alike, Differs, Pattern
from loaders.xgboost_document import read_document

INDICES = ("left_children", "right_children", "split_indices", "parents")


@pytest.fixture(scope="module")
def document():
    rows = np.random.default_rng(0).normal(size=(200, 4))
    table = xgboost.DMatrix(rows, rows[:, 0] * rows[:, 1])
    return bytes(xgboost.train({"max_depth": 4}, table, 150).save_raw("ubj"))


def trees_of(document):
    return document["learner"]["gradient_booster"]["model"]["trees"]


def test_trees_read_by_a_pattern_are_those_read_one_by_one(document):
    known, found = trees_of(ubjson.decode(document)), trees_of(ubjson.decode(document, INDICES))
    assert isinstance(found, Alike)
    assert len(known) == len(found.lengths) == 150
    assert found.values["id",] == [tree["id"] for tree in known]
    for name in ("num_nodes", "size_leaf_vector"):
        assert found.values["tree_param", name] == [tree["tree_param"][name] for tree in known]
    for name in INDICES:
        assert found.lengths == [len(tree[name]) for tree in known]
        np.testing.assert_array_equal(
            found.columns[name], np.concatenate([tree[name] for tree in known])
        )


def test_one_tree_that_differs_has_all_of_them_read_one_by_one(document):
    at = document.rindex(b"num_deleted")
    other = document[:at] + b"num_delited" + document[at + len("num_deleted") :]
    found = trees_of(ubjson.decode(other, INDICES))
    assert isinstance(found, list)
    assert "num_delited" in found[-1]["tree_param"]


def test_what_one_way_refuses_the_other_refuses_too(document):
    choice = random.Random(0)
    start = document.rindex(b"split_indices")
    for _ in range(300):
        flipped = bytearray(document)
        flipped[choice.randrange(start - 6000, len(document))] = choice.randrange(256)
        outcomes = []
        for alike in ((), INDICES):
            try:
                ubjson.decode(bytes(flipped), alike)
                outcomes.append(None)
            except ValueError as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]


def test_a_tree_of_a_pattern_that_leads_nowhere_is_found(document):
    at = document.rindex(b"right_children[$l#L") + len(b"right_children[$l#L") + 8
    with pytest.raises(ValueError, match="outside"):
        read_document(document[:at] + b"\x00\xff\xff\xff" + document[at + 4 :])


def test_a_name_within_that_hides_one_outside_makes_no_pattern():
    array = np.zeros(3, ">i4")
    with pytest.raises(Differs):
        Pattern({"parents": array, "tree_param": {"parents": array}}, INDICES)


@pytest.mark.parametrize(
    ("document", "found"),
    [
        (b"[#i\x03i\x01i\x02i\xff", [1, 2, -1]),
        (b"[#i\x02i\x01I\x01\x00", [1, 256]),
        (b"[#i\x02d\x3f\x80\x00\x00d\x40\x00\x00\x00", [1.0, 2.0]),
        (b"[#i\x00", []),
        (b"[#i\x02i\x01Z", [1, None]),
    ],
)
def test_counted_numbers_are_read_whatever_their_types(document, found):
    assert ubjson.decode(document) == found
    for cut in range(1, len(document)):
        with pytest.raises(ValueError, match=r"cut short|length"):
            ubjson.decode(document[:cut])


def _tree(identity, note):
    """An object of one array, a number and a text, as XGBoost writes such."""
    return (
        b"{L" + (7).to_bytes(8, "big") + b"parents[$l#L" + (2).to_bytes(8, "big") + bytes(8)
        + b"L" + (2).to_bytes(8, "big") + b"id" + identity
        + b"L" + (4).to_bytes(8, "big") + b"noteSL" + len(note).to_bytes(8, "big") + note + b"}"
    )  # fmt: skip


@pytest.mark.parametrize(
    "identities",
    [
        [b"i\x01", b"i\x02", b"i\x03"],
        [b"i\x7f", b"I\x00\x80", b"i\x05"],  # of another length
        [b"i\x01", b"U\x02", b"i\x03"],  # of another type
        [b"i\x01", b"Z", b"i\x03"],  # no number
        [b"i\x01", b"Zi", b"i\x03"],
        [b"i\x01", b"Ii", b"I\x03\x03"],  # cut short
    ],
)
@pytest.mark.parametrize("notes", [[b"1", b"2", b"3"], [b"9", b"10", b""], [b"a", b"\xff", b"b"]])
def test_whatever_values_are_like_both_ways_agree(identities, notes):
    objects = b"".join(map(_tree, identities, notes))
    listed = b"[#L" + (3).to_bytes(8, "big") + objects
    outcomes = []
    for alike in ((), INDICES, INDICES):  # the third one knows the pattern
        try:
            found = ubjson.decode(listed, alike)
        except ValueError as error:
            outcomes.append(str(error))
            continue
        if isinstance(found, Alike):
            values = [found.values[name,] for name in ("id", "note")]
        else:
            values = [[tree[name] for tree in found] for name in ("id", "note")]
        outcomes.append(str(values))
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_a_text_of_many_lengths_keeps_few_ways_to_read_it():
    objects = b"".join(_tree(b"i\x01", b"x" * number) for number in range(200))
    found = ubjson.decode(b"[#L" + (200).to_bytes(8, "big") + objects, ("parents", "other"))
    assert found.values["note",] == ["x" * number for number in range(200)]
    pattern = Pattern({"parents": np.zeros(2, ">i4"), "id": 1, "note": ""}, ("parents", "other"))
    pattern.read(objects, 0, 200)
    assert all(len(kept) <= 4 for kept in pattern._layouts.values())


def _listed(objects):
    return b"[#L" + len(objects).to_bytes(8, "big") + b"".join(objects)


def _wide(fields, length):
    """An object of one array, and so many numbers."""
    array = b"L" + (7).to_bytes(8, "big") + b"parents[$l#L" + length.to_bytes(8, "big")
    numbers = b"".join(
        b"L" + (5).to_bytes(8, "big") + b"%05dU\x01" % number for number in range(fields)
    )
    return b"{" + array + bytes(4 * length) + numbers + b"}"


@pytest.mark.parametrize("fields", [10, 31, 60, 5_000])
def test_what_hostile_documents_leave_behind_is_small(fields):
    wanted = ("parents", f"of {fields} fields")
    document = _listed([_wide(fields, length) for length in range(1, 200)])
    tracemalloc.start()
    try:
        found = ubjson.decode(document, wanted)
        assert isinstance(found, Alike) == (fields < 60)
        del found
        assert tracemalloc.get_traced_memory()[0] < 3 * 1024**2
    finally:
        tracemalloc.stop()


def test_a_name_of_many_bytes_makes_no_pattern():
    with pytest.raises(Differs):
        Pattern({"parents": np.zeros(3, ">i4"), "k" * 2_000: 1}, INDICES)


def test_trees_of_many_lengths_keep_few_ways_to_read_them():
    objects = [_wide(1, length) for length in range(1, 1500)]
    pattern = Pattern({"parents": np.zeros(2, ">i4"), "00000": 1}, ("parents",))
    pattern.read(b"".join(objects), 0, len(objects))
    assert sum(map(len, pattern._layouts.values())) <= 512


@pytest.mark.parametrize(
    ("whole", "other"),
    [
        (b"tree_param{", b"tree_parax{"),
        (b"gradient_booster{", b"gradient_bo0ster{"),
        (b"learner_model_param{", b"learner_model_parax{"),
        (b"tree_info", b"tree_inf0"),
        (b"num_nodesS", b"num_nodezS"),
        (b"size_leaf_vector", b"size_leaf_vectoz"),
    ],
)
def test_a_refusal_is_the_plain_readers_whatever_was_read_before(document, whole, other):
    refusals = []
    for before in ([], [document]):
        ubjson_alike._known.clear()
        for known in before:
            read_document(known)
        with pytest.raises(ValueError, match="not a saved XGBoost model") as refusal:
            read_document(document.replace(whole, other))
        refusals.append(str(refusal.value))
    assert refusals[0] == refusals[1]
    assert "Alike" not in refusals[0]


def test_a_list_in_an_objects_place_is_refused_in_words():
    listed = _listed([_wide(1, 3), _wide(1, 3)])
    with pytest.raises(ValueError, match="list indices"):
        read_document(b"{L" + (7).to_bytes(8, "big") + b"learner" + listed + b"}")
