"""Claims on cells: one runner has each, also between machines whose locks or clocks tell nothing of each other."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from pathlib import Path

import pytest

from mmfuse.records.locks import DEAD_AFTER, Claim, Claims, read_locks


class Watch:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Claims:
    """Another machine on the same folder, whose locks are not seen here, as ours are not there."""
    monkeypatch.setattr(fcntl, "flock", lambda handle, kind: None)
    return Claims(tmp_path, boot="there")


def held(folder: Path) -> dict[str, bool]:
    return {state.key: state.held for state in read_locks(folder)}


def test_on_one_machine_the_lock_tells_at_once_who_lives(tmp_path: Path) -> None:
    claim = Claims(tmp_path).take("a")
    assert claim is not None
    other = Claims(tmp_path)
    assert other.take("a") is None
    assert not other.is_watched("a")
    assert held(tmp_path) == {"a": True}
    os.close(claim._handle)  # type: ignore[arg-type]  # as the system does when a process ends
    claim._handle = None
    assert held(tmp_path) == {"a": False}
    taken = other.take("a")
    assert taken is not None
    assert Claims(tmp_path).take("a") is None
    taken.release()
    assert not list(tmp_path.iterdir())


def test_another_machines_claim_holds_while_it_beats_and_is_taken_when_it_does_not(
    tmp_path: Path, there: Claims
) -> None:
    theirs = there.take("a")
    assert theirs is not None
    watch = Watch()
    here = Claims(tmp_path, boot="here", clock=watch)
    assert here.take("a") is None
    assert here.is_watched("a")
    watch.now += 10 * DEAD_AFTER  # however long it took: it was alive when it was looked at again
    theirs.beat()
    assert here.take("a") is None
    assert not here.is_watched("a")
    assert here.take("a") is None
    watch.now += DEAD_AFTER - 1
    assert here.take("a") is None
    watch.now += 1
    ours = here.take("a")
    assert ours is not None
    # It was not dead after all: it must neither remove our claim nor write into it.
    theirs.beat()
    theirs.release()
    assert json.loads((tmp_path / "a.lock").read_bytes())["boot"] == "here"
    ours.release()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("skew", [-86400.0, -3600.0, 3600.0, 86400.0])
def test_no_clock_of_another_machine_keeps_a_dead_claim_or_gives_a_live_one_away(
    tmp_path: Path, there: Claims, skew: float
) -> None:
    theirs = there.take("a")
    assert theirs is not None
    file = tmp_path / "a.lock"
    changed = file.stat().st_mtime
    os.utime(file, (changed + skew, changed + skew))
    watch = Watch()
    here = Claims(tmp_path, boot="here", clock=watch)
    assert here.take("a") is None
    watch.now += DEAD_AFTER - 1
    assert here.take("a") is None
    watch.now += 1
    assert here.take("a") is not None


def test_of_several_that_see_a_dead_claim_one_takes_it(tmp_path: Path, there: Claims) -> None:
    there.take("a")
    watch = Watch()
    others = [Claims(tmp_path, boot=f"here {number}", clock=watch) for number in range(3)]
    assert [claims.take("a") for claims in others] == [None] * 3
    watch.now += DEAD_AFTER
    # The first of them died in the middle of taking it over: the others wait for it as for any claim.
    dead = (tmp_path / "a.lock").read_bytes()
    assert others[0]._take_over(tmp_path / "a.lock", b"not what is there") is None
    handle = os.open(tmp_path / f".a.lock.{hashlib.sha256(dead).hexdigest()[:16]}.taking", os.O_CREAT | os.O_EXCL)
    os.close(handle)
    assert [claims.take("a") for claims in others[1:]] == [None] * 2
    watch.now += DEAD_AFTER
    found = [claims.take("a") for claims in others[1:]]  # the one clears it away, the other takes what is free then
    assert [claim is not None for claim in found] == [False, True]
    assert others[1].take("a") is None
    assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(handle: int, kind: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    claim = Claims(tmp_path).take("a")
    assert claim is not None
    watch = Watch()
    other = Claims(tmp_path, clock=watch)
    assert other.take("a") is None
    assert held(tmp_path) == {"a": True}
    claim.release()
    assert other.take("a") is not None


def test_status_tells_a_dead_runner_of_another_machine_by_its_last_sign_of_life(tmp_path: Path, there: Claims) -> None:
    claim = there.take("a")
    assert isinstance(claim, Claim)
    claim.write({"phase": "training"})
    assert [(state.held, state.content["phase"]) for state in read_locks(tmp_path)] == [(True, "training")]
    changed = (tmp_path / "a.lock").stat().st_mtime
    for age, alive in ((DEAD_AFTER / 2, True), (DEAD_AFTER + 1, False), (-DEAD_AFTER - 60, False)):
        os.utime(tmp_path / "a.lock", (changed - age, changed - age))
        assert held(tmp_path) == {"a": alive}
    assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]
