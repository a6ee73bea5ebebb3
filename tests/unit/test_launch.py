"""What a container is given, how it is read and when it is started again."""

from __future__ import annotations

import socket

from hypothesis import given
from hypothesis import strategies as st

from mme.config_containers import ContainerConfig
from mme.containers.launch import container_environment, next_pause_seconds
from mme.containers.ports import PortBlocks
from mme.output import Lines


def test_pauses_double_up_to_the_limit_and_begin_anew_after_a_steady_minute():
    pause, pauses = 0.0, []
    for ran_seconds in (0, 1, 1, 59, 0, 0, 0, 0, 60, 0):
        pause = next_pause_seconds(pause, ran_seconds)
        pauses.append(pause)
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 0.5, 1]


def test_a_container_may_set_what_is_not_ours_to_say():
    config = ContainerConfig(hostname="a", command=("x",), environment={"HOME": "/own", "A": "b"})
    base = {"HOME": "/root", "PATH": "/bin", "AWS_PROFILE": "x", "MME_PORT": "1", "SHELL": "sh"}
    assert container_environment(base, config, range(12000, 12004)) == {
        "HOME": "/own",
        "PATH": "/bin",
        "A": "b",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "SAGEMAKER_BIND_TO_PORT": "12000",
        "SAGEMAKER_SAFE_PORT_RANGE": "12001-12003",
    }


def test_blocks_of_ports_do_not_overlap_and_are_free():
    ports = PortBlocks()
    blocks = [ports.take() for _ in range(15)]
    taken = [port for block in blocks for port in block]
    assert len(set(taken)) == len(taken)
    ports.give_back(blocks[0])
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", blocks[0][7]))
        listening.listen()
        left = []
        try:
            while True:
                left.append(ports.take())
        except OSError:
            assert blocks[0] not in left
    assert len(left) > 15


@given(st.lists(st.binary(max_size=30)), st.integers(1, 8))
def test_however_bytes_are_split_the_lines_are_the_same_and_bounded(parts, limit):
    whole = Lines(limit)
    told, _ = whole.feed(b"".join(parts), -1)
    expected = [*told, *whole.rest()]
    split = Lines(limit)
    lines = [line for part in parts for line in split.feed(part, -1)[0]]
    assert [*lines, *split.rest()] == expected
    assert all(len(line) <= limit + 3 for line in lines)
    assert len(split._begun) == 0


def test_of_many_lines_so_many_are_told_and_the_others_counted():
    lines = Lines(4)
    assert lines.feed(b"a\nb", 5) == (["a"], 0)
    assert lines.feed(b"c\nd\ne\nf", 1) == (["bc"], 2)
    assert lines.feed(b"g\nh", 0) == ([], 1)
    assert lines.feed(b"ijklm\n", 1) == (["hijk..."], 0)
    assert lines.rest() == []
