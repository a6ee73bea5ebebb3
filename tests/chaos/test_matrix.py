"""The matrix of faults names tests that exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import MATRIX

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("fault", MATRIX)
def test_a_fault_of_the_matrix_has_its_test(fault: str) -> None:
    path, _, name = MATRIX[fault].partition("::")
    assert f"def {name}(" in (TESTS / path).read_text()
