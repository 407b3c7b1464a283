"""What is done to a server on purpose, and when: over hands that are a list."""

import math

import pytest

from clusterd.bench.chaos import Chaos, Havoc, Occasion, occasions
from clusterd.core.errors import NotRunning


class Hands:
    """A fleet of two that does what it is told; `gone` makes it fail."""

    def __init__(self) -> None:
        self.pids = [11, 12]
        self.reloads = 0
        self.gone = False

    def workers(self) -> list[int]:
        if self.gone:
            raise NotRunning("no cluster runs")
        return list(self.pids)

    def reload(self) -> None:
        self.workers()
        self.reloads += 1

    def kill(self, pid: int) -> None:
        if pid not in self.pids:
            raise ProcessLookupError
        self.pids.remove(pid)


class Deploy:
    """One that is refused at the third look."""

    def __init__(self) -> None:
        self.begun = False
        self.looks = 0

    def begin(self) -> None:
        self.begun = True

    def verdict(self) -> str | None:
        self.looks += 1
        return "refused" if self.looks > 2 else None


def told(chaos: Chaos, *times: float) -> list[tuple[float, str]]:
    return [(event.at, event.kind) for at in times for event in chaos.step(at)]


def test_the_schedule_leaves_the_start_and_the_end_alone() -> None:
    havoc = Havoc(kill_every=2.0, reload_every=5.0, broken_deploy=True)
    assert occasions(havoc, 9.0) == [
        Occasion(2.0, "kill"),
        Occasion(3.0, "broken deploy"),
        Occasion(4.0, "kill"),
        Occasion(5.0, "reload"),
        Occasion(6.0, "kill"),
        Occasion(8.0, "kill"),
    ]
    assert occasions(Havoc(kill_every=2.0), 4.0) == [Occasion(2.0, "kill")]
    assert occasions(Havoc(kill_every=9.0), 4.0) == []
    assert not Havoc()
    assert Havoc(broken_deploy=True)


def test_kills_hit_the_workers_in_turn_and_recovery_is_told() -> None:
    hands = Hands()
    chaos = Chaos(occasions(Havoc(kill_every=1.0), 3.0), hands, kill=hands.kill)
    assert chaos.due() == 1.0
    assert told(chaos, 0.5) == []
    assert told(chaos, 1.0) == [(1.0, "kill")]
    assert hands.pids == [12]
    assert chaos.due() == 0.0  # it looks whether the server has recovered
    assert told(chaos, 1.1) == []
    hands.pids.append(13)
    assert told(chaos, 1.25) == [(1.25, "recovered")]
    assert chaos.due() == 2.0
    assert told(chaos, 2.0) == [(2.0, "kill")]
    assert hands.pids == [12]  # the second kill, the second worker


def test_recovery_counts_from_the_kill() -> None:
    hands = Hands()
    chaos = Chaos([Occasion(1.0, "kill")], hands, kill=hands.kill)
    chaos.step(1.0)
    hands.pids.append(13)
    assert [event.text for event in chaos.step(1.4)] == ["0.40 s after the kill"]


def test_reloads_are_begun_and_not_waited_for() -> None:
    hands = Hands()
    chaos = Chaos(occasions(Havoc(reload_every=1.0), 2.5), hands)
    assert told(chaos, 1.0, 2.0, 2.4) == [(1.0, "reload"), (2.0, "reload")]
    assert hands.reloads == 2
    assert chaos.due() == math.inf


def test_a_broken_deploy_is_followed_to_its_end_and_nothing_reloads_meanwhile() -> None:
    hands, deploy = Hands(), Deploy()
    havoc = Havoc(reload_every=1.5, broken_deploy=True)
    chaos = Chaos(occasions(havoc, 3.0), hands, deploy)
    assert told(chaos, 1.0) == [(1.0, "broken deploy")]
    assert deploy.begun
    assert chaos.due() == 0.0
    assert told(chaos, 1.2, 1.5, 1.6) == [(1.6, "recovered")]
    assert hands.reloads == 0


def test_what_the_end_came_before_is_told() -> None:
    hands = Hands()
    chaos = Chaos(
        [Occasion(1.0, "broken deploy"), Occasion(1.1, "kill")], hands, Deploy(), hands.kill
    )
    assert chaos.unfinished() == []
    chaos.step(1.2)
    killed, broken = chaos.unfinished()
    assert "no successor yet" in killed
    assert "still under way" in broken
    hands.pids.append(13)
    for at in (1.3, 1.4, 1.5):
        chaos.step(at)
    assert chaos.unfinished() == []


def test_a_server_whose_code_cannot_be_broken_says_so() -> None:
    chaos = Chaos([Occasion(1.0, "broken deploy")], Hands())
    assert told(chaos, 1.0) == [(1.0, "refused")]


@pytest.mark.parametrize("kind", ["kill", "reload"])
def test_a_server_that_does_not_answer_ends_nothing(kind: str) -> None:
    hands = Hands()
    hands.gone = True
    chaos = Chaos([Occasion(1.0, kind)], hands, kill=hands.kill)
    assert told(chaos, 1.0) == [(1.0, "refused")]
    assert told(chaos, 2.0) == []


def test_a_worker_that_is_gone_before_it_is_killed_is_no_kill() -> None:
    hands = Hands()
    chaos = Chaos([Occasion(1.0, "kill")], hands, kill=Hands().kill)
    hands.pids = [99]
    assert told(chaos, 1.0) == [(1.0, "refused")]
    assert chaos.due() == math.inf
    hands.pids = []
    assert told(Chaos([Occasion(1.0, "kill")], hands), 1.0) == [(1.0, "refused")]
