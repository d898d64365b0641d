from phoenix_orch.workload.readiness import Readiness


def after(*answers: bool, limit: int = 3) -> Readiness:
    readiness = Readiness()
    for answer in answers:
        readiness = readiness.after(answer, limit)
    return readiness


def test_the_first_good_answer_makes_ready() -> None:
    assert not after(False, False).ready
    assert after(False, False, True).ready


def test_failures_in_a_row_make_unready_and_others_do_not() -> None:
    assert after(True, False, False).ready
    assert after(True, False, False, True, False, False).ready
    assert not after(True, False, False, False).ready


def test_one_that_never_was_ready_is_slow_and_not_unhealthy() -> None:
    assert not after(*[False] * 100).unhealthy(3)


def test_three_times_the_failures_make_unhealthy() -> None:
    assert not after(True, *[False] * 8).unhealthy(3)
    assert after(True, *[False] * 9).unhealthy(3)
    assert not after(True, *[False] * 9, True).unhealthy(3)
