"""Cancels and watches by request id."""

import uuid
from dataclasses import dataclass

import pytest

from builder.runtime.models.language import watch
from builder.runtime.models.language.watch import Watches


class Triton:
    """The one constant that is used."""

    TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1


@dataclass
class Sender:
    """A response sender that may be cancelled."""

    cancelled: bool = False
    ended: int = 0

    def is_cancelled(self) -> bool:
        return self.cancelled

    def send(self, flags: int) -> None:
        self.ended += flags


@pytest.fixture
def watches() -> Watches:
    return Watches(Triton)


def new_id() -> str:
    return uuid.uuid4().hex


def test_a_cancel_holds_until_its_answer_is_complete(watches: Watches) -> None:
    one, other = new_id(), new_id()
    watches.cancel(one)
    assert watches.is_cancelled(one)
    assert not watches.is_cancelled(other)
    watches.close(one)
    assert not watches.is_cancelled(one)


@pytest.mark.parametrize("name", ["", "1", "request-7", "x" * 31])
def test_ids_that_others_may_have_are_refused(watches: Watches, name: str) -> None:
    with pytest.raises(ValueError, match="CANCEL needs a request id of 32"):
        watches.cancel(name)
    with pytest.raises(ValueError, match="WATCH needs a request id of 32"):
        watches.open(name, Sender())
    assert not watches.is_cancelled(name)


def test_cancels_whose_question_never_comes_are_forgotten(
    watches: Watches, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: now[0])
    old, new = new_id(), new_id()
    watches.cancel(old)
    now[0] += 599
    watches.cancel(new)
    assert watches.is_cancelled(old)
    now[0] += 2
    watches.cancel(new_id())
    assert not watches.is_cancelled(old)
    assert watches.is_cancelled(new)


def test_a_flood_of_cancels_drops_the_oldest(
    watches: Watches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_MOST_CANCELS", 5)
    names = [new_id() for _ in range(8)]
    for name in names:
        watches.cancel(name)
    watches.cancel(names[3])  # again: it is the newest now
    watches.cancel(new_id())
    kept = [watches.is_cancelled(name) for name in names]
    assert kept == [False, False, False, True, False, True, True, True]


def test_a_watch_carries_the_cancel_of_its_stream(watches: Watches) -> None:
    name, sender = new_id(), Sender()
    watches.open(name, sender)
    assert not watches.is_cancelled(name)
    sender.cancelled = True
    assert watches.is_cancelled(name)
    watches.close(name)
    watches.close(name)
    assert sender.ended == 1


def test_two_watches_over_one_answer_are_refused(watches: Watches) -> None:
    name = new_id()
    watches.open(name, Sender())
    with pytest.raises(ValueError, match="no other request has"):
        watches.open(name, Sender())


def test_a_cancelled_watch_whose_question_never_came_is_closed(watches: Watches) -> None:
    gone, kept = Sender(), Sender()
    watches.open(new_id(), gone)
    watches.open(new_id(), kept)
    gone.cancelled = True
    watches.open(new_id(), Sender())
    assert (gone.ended, kept.ended) == (1, 0)
    watches.close_all()
    assert (gone.ended, kept.ended) == (1, 1)
