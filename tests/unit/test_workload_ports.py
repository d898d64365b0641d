import socket
from collections.abc import Iterator

import pytest
from tests.workload.kit import ports

from phoenix_orch.kernel.errors import Invalid, Retryable
from phoenix_orch.workload.ports import PortRange, Ports, is_free


@pytest.fixture
def three() -> PortRange:
    first = ports().last - 5
    return PortRange(first, first + 2)


@pytest.fixture
def listener(three: PortRange) -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", three.first + 1)) as server:
        yield server


def test_each_port_is_given_once_and_the_freed_one_comes_last(three: PortRange) -> None:
    given = Ports(three)
    assert [given.take(), given.take()] == [three.first, three.first + 1]
    given.give_back(three.first)
    assert [given.take(), given.take()] == [three.first + 2, three.first]
    with pytest.raises(Retryable, match="no port"):
        given.take()


def test_ports_somebody_listens_on_or_an_instance_has_are_passed_over(
    three: PortRange, listener: socket.socket
) -> None:
    given = Ports(three)
    given.keep(three.first)
    assert not is_free(listener.getsockname()[1])
    assert given.take() == three.first + 2


def test_another_start_tries_other_ports_first(three: PortRange) -> None:
    assert Ports(three, start=4).take() == three.first + 1


@pytest.mark.parametrize(("first", "last"), [(80, 90), (3000, 2999), (60000, 70000)])
def test_ranges_that_cannot_be(first: int, last: int) -> None:
    with pytest.raises(Invalid, match="not a range of ports"):
        PortRange(first, last)
