"""Signals: however many come while nobody looks, none of the kinds is lost."""

import os
import select
import signal

from clusterd.kernel.signals import Wakeup

KINDS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGWINCH)


def rings(wakeup: Wakeup) -> bool:
    return bool(select.select([wakeup], [], [], 0)[0])


def test_a_signal_rings_and_is_told_once() -> None:
    with Wakeup(KINDS) as wakeup:
        os.kill(os.getpid(), signal.SIGHUP)
        assert rings(wakeup)
        assert wakeup.drain() == {signal.SIGHUP: 1}
        assert not rings(wakeup)
        assert wakeup.drain() == {}


def test_a_storm_loses_no_kind_though_the_bell_is_full() -> None:
    """A socketpair holds 278 bytes: the last signal's byte does not go in any more."""
    with Wakeup(KINDS) as wakeup:
        for _ in range(1000):
            os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGUSR1)
        told = wakeup.drain()
        assert told == {signal.SIGHUP: 1000, signal.SIGUSR1: 1}
        assert not rings(wakeup)


def test_signals_are_told_in_the_order_in_which_they_came() -> None:
    with Wakeup(KINDS) as wakeup:
        for number in reversed(KINDS):
            os.kill(os.getpid(), number)
        assert list(wakeup.drain()) == list(reversed(KINDS))


def test_one_that_comes_while_we_look_rings_again_or_is_told() -> None:
    with Wakeup(KINDS) as wakeup:
        for _ in range(200):
            os.kill(os.getpid(), signal.SIGHUP)
            told = wakeup.drain()
            os.kill(os.getpid(), signal.SIGTTIN)
            assert signal.SIGTTIN in told or rings(wakeup)
            wakeup.drain()


def test_what_was_there_before_is_put_back() -> None:
    before = [signal.getsignal(number) for number in KINDS]
    with Wakeup(KINDS):
        assert [signal.getsignal(number) for number in KINDS] != before
    assert [signal.getsignal(number) for number in KINDS] == before


def test_what_was_told_can_be_recalled() -> None:
    """For whoever could not act on it yet."""
    with Wakeup(KINDS) as wakeup:
        os.kill(os.getpid(), signal.SIGHUP)
        wakeup.recall(wakeup.drain())
        os.kill(os.getpid(), signal.SIGUSR1)
        assert rings(wakeup)
        assert wakeup.drain() == {signal.SIGHUP: 1, signal.SIGUSR1: 1}
