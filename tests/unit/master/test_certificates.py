"""Renewing certificates on a fake kernel: the zygote tries them, then all get them, or nobody."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from clusterd.config.serving import TlsSettings
from clusterd.core.errors import ConfigError
from clusterd.core.events import Event, Kind
from clusterd.core.exits import Exit
from clusterd.fleet.goal import Mode
from clusterd.ipc.certificates import Bundle
from clusterd.ipc.messages import Certificates, Certified
from clusterd.master import certificates, commands, orders, reload
from clusterd.master.absorb import certified
from tests.support.fake import Behaviour
from tests.support.simulated import Simulation, config


@contextmanager
def secured(place: Path, how: Behaviour | None = None, workers: int = 2) -> Iterator[Simulation]:
    """A simulated cluster with certificates; what is in the files nobody looks at."""
    for name in ("pem", "key"):
        (place / name).write_text(f"the first {name}")
    tls = TlsSettings(tls_cert=(str(place / "pem"),), tls_key=(str(place / "key"),))
    behaviour = how or Behaviour()
    simulation = Simulation(replace(config(workers), tls=tls), lambda _generation: behaviour)
    try:
        yield simulation
    finally:
        simulation.close()


def renew(sim: Simulation) -> int:
    return sim.order(lambda: certificates.renew(sim.group))


def over(sim: Simulation) -> Event:
    """The end of the renewal."""
    ends = (Kind.CERTIFICATES_RENEWED, Kind.CERTIFICATES_REFUSED)
    sim.until(lambda: any(event.kind in ends for event in sim.events))
    (event,) = [event for event in sim.events if event.kind in ends]
    return event


def in_use(sim: Simulation, generation: int = 1) -> str:
    return Bundle.unseal(sim.group.bundles[generation].fd).pairs[0][0].content


def test_a_renewal_goes_to_the_zygote_and_then_to_every_worker(tmp_path: Path) -> None:
    with secured(tmp_path) as sim:
        sim.start()
        (tmp_path / "pem").write_text("the second")
        number = renew(sim)
        assert in_use(sim) == "the first pem"  # until the zygote has tried it
        event = over(sim)
        assert (event.kind, event.fields["renewal"]) == (Kind.CERTIFICATES_RENEWED, number)
        assert event.fields["names"] == ["a.example"]
        assert in_use(sim) == "the second"
        for child in (*sim.kernel.zygotes(), *sim.kernel.workers()):
            assert child.heard.count(Certificates(number)) == 1


def test_what_the_zygote_cannot_use_no_worker_gets(tmp_path: Path) -> None:
    how = Behaviour(certificate_fault="the key is another's")
    with secured(tmp_path, how) as sim:
        sim.start()
        (tmp_path / "pem").write_text("the second")
        renew(sim)
        event = over(sim)
        assert event.kind is Kind.CERTIFICATES_REFUSED
        assert event.fields["reason"] == "the key is another's"
        assert in_use(sim) == "the first pem"
        heard = [message for worker in sim.kernel.workers() for message in worker.heard]
        assert not [message for message in heard if isinstance(message, Certificates)]


def test_a_zygote_that_dies_of_it_refuses_it(tmp_path: Path) -> None:
    with secured(tmp_path, Behaviour(dies_of_certificates=True)) as sim:
        sim.start()
        renew(sim)
        assert "ended" in over(sim).fields["reason"]
        assert sim.ready() == 2
        sim.settle()  # and it is replaced


def test_a_worker_that_leaves_meanwhile_is_not_waited_for(tmp_path: Path) -> None:
    with secured(tmp_path, Behaviour(deaf_to_certificates=True)) as sim:
        sim.start()
        renew(sim)
        sim.until(lambda: 1 in sim.group.renewals and bool(sim.group.renewals[1].left))
        for child in sim.kernel.workers():
            sim.kernel.kill(child.pid, 9)
        assert over(sim).kind is Kind.CERTIFICATES_RENEWED


def test_a_worker_that_cannot_use_them_says_so_and_holds_nobody_up(tmp_path: Path) -> None:
    with secured(tmp_path, Behaviour(deaf_to_certificates=True), workers=1) as sim:
        sim.start()
        number = renew(sim)
        sim.until(lambda: 1 in sim.group.renewals and bool(sim.group.renewals[1].left))
        (worker,) = sim.group.roster.workers.values()
        sim.order(lambda: certified(sim.group, worker, Certified(number, "out of memory")))
        assert over(sim).kind is Kind.CERTIFICATES_RENEWED
        assert sim.find(Kind.TROUBLE, reason="out of memory")


def test_a_second_renewal_takes_the_place_of_the_first(tmp_path: Path) -> None:
    with secured(tmp_path) as sim:
        sim.start()
        first = renew(sim)
        second = renew(sim)
        sim.until(lambda: bool(sim.find(Kind.CERTIFICATES_RENEWED)))
        assert sim.find(Kind.CERTIFICATES_REFUSED, renewal=first)
        assert sim.find(Kind.CERTIFICATES_RENEWED, renewal=second)


def test_the_command_answers_for_the_serving_generation(tmp_path: Path) -> None:
    with secured(tmp_path) as sim:
        sim.start()
        sim.reload()
        sim.until(lambda: sim.group.goal.stable == 2)
        sim.settle()
        wait = sim.order(lambda: commands.answer(sim.cluster, {"command": "certificates"}))
        assert callable(wait)
        told = len(sim.events)
        sim.until(lambda: len(sim.find(Kind.CERTIFICATES_RENEWED)) == 2)  # the kept one's, too
        replies = [reply for event in sim.events[told:] if (reply := wait(event))]
        assert [reply["ok"] for reply in replies] == [True]


def test_files_that_cannot_be_read_are_refused_at_once(tmp_path: Path) -> None:
    with secured(tmp_path) as sim:
        sim.start()
        (tmp_path / "key").unlink()
        reply = commands.answer(sim.cluster, {"command": "certificates"})
        assert isinstance(reply, dict)
        assert "cannot be read" in reply["error"]
        assert over(sim).kind is Kind.CERTIFICATES_REFUSED
        with pytest.raises(ConfigError, match="cannot be read"):
            reload.begin(sim.cluster, "test")
        assert sim.find(Kind.RELOAD_REFUSED)
        assert sim.group.goal.candidate is None


def test_a_rollout_reads_them_itself_and_a_stop_wants_none(tmp_path: Path) -> None:
    with secured(tmp_path) as sim:
        sim.start()
        (tmp_path / "pem").write_text("the second")
        sim.reload()
        sim.until(lambda: bool(sim.find(Kind.ROLLOUT_FINISHED)))
        assert (in_use(sim, 1), in_use(sim, 2)) == ("the first pem", "the second")
        sim.order(lambda: orders.stop(sim.cluster))
        assert sim.group.goal.mode is Mode.STOPPING
        with pytest.raises(ConfigError, match="stopping"):
            renew(sim)


def test_a_renewal_during_a_rollout_begins_when_that_is_over(tmp_path: Path) -> None:
    """The rollout read the files when it began: what was put there since came too late for it."""
    with secured(tmp_path) as sim:
        sim.start()
        sim.reload()
        (tmp_path / "pem").write_text("the second")
        waiter = sim.order(lambda: commands.answer(sim.cluster, {"command": "certificates"}))
        sim.until(lambda: bool(sim.find(Kind.CERTIFICATES_RENEWED, generation=2)))
        assert in_use(sim, 2) == "the second"
        assert callable(waiter)
        kept, serving = sim.find(Kind.CERTIFICATES_RENEWED)
        assert kept.fields["generation"] == 1
        assert waiter(kept) is None
        assert (waiter(serving) or {})["ok"]


def test_a_renewal_during_a_rollout_that_fails_is_of_what_serves_on(tmp_path: Path) -> None:
    how = Behaviour()
    with secured(tmp_path, how) as sim:
        sim.start()
        how.import_error = "oops"
        sim.reload()
        (tmp_path / "pem").write_text("the second")
        renew(sim)
        event = over(sim)
        assert (event.kind, event.fields["generation"]) == (Kind.CERTIFICATES_RENEWED, 1)
        assert in_use(sim, 1) == "the second"


@pytest.mark.parametrize("end", ["again", "stop"])
def test_a_renewal_that_waits_for_a_rollout_always_gets_a_reply(tmp_path: Path, end: str) -> None:
    with secured(tmp_path) as sim:
        sim.start()
        sim.reload()
        first = renew(sim)
        if end == "again":
            assert renew(sim) == first + 1
        else:
            sim.order(lambda: orders.stop(sim.cluster))
        event = over(sim)
        assert (event.kind, event.fields["renewal"]) == (Kind.CERTIFICATES_REFUSED, first)


def test_certificates_of_a_generation_that_is_no_longer_kept_are_let_go(tmp_path: Path) -> None:
    with secured(tmp_path) as sim:
        sim.start()
        sim.reload()
        sim.settle()
        sim.until(lambda: sim.group.goal.kept is None)
        assert list(sim.group.bundles) == [2]


def test_certificates_of_forgotten_generations_are_let_go(tmp_path: Path) -> None:
    with secured(tmp_path) as sim:
        sim.start()
        for _ in range(3):
            sim.reload()
            sim.until(lambda: sim.group.goal.candidate is None)
            sim.settle()
        assert len(sim.group.bundles) == 2  # the serving one's and the kept one's


def test_a_first_start_with_certificates_of_no_use_is_a_wrong_setting(tmp_path: Path) -> None:
    with secured(tmp_path, Behaviour(import_time=1e9)) as sim:
        sim.turn()
        (zygote,) = sim.group.roster.zygotes
        fault = Certified(0, "no.pem holds no certificate")
        sim.order(lambda: certified(sim.group, zygote, fault))
        sim.until(lambda: sim.loop.over)
        assert sim.cluster.exit is Exit.CONFIG
        assert sim.find(Kind.GAVE_UP, reason="no.pem holds no certificate")


def test_where_no_zygote_is_there_to_try_them_a_renewal_waits_for_one(tmp_path: Path) -> None:
    """As when one has just become a worker, or is backed off."""
    with secured(tmp_path) as sim:
        sim.start()
        while sim.group.roster.zygote(1) is not None:
            sim.kernel.kill(sim.group.roster.zygotes[0].pid, 9)
            sim.turn()
        (tmp_path / "pem").write_text("the second")
        number = renew(sim)
        event = over(sim)
        assert (event.kind, event.fields["renewal"]) == (Kind.CERTIFICATES_RENEWED, number)
        assert in_use(sim) == "the second"


def test_a_stop_ends_a_renewal_that_waits_for_a_zygote(tmp_path: Path) -> None:
    with secured(tmp_path) as sim:
        sim.start()
        while sim.group.roster.zygote(1) is not None:
            sim.kernel.kill(sim.group.roster.zygotes[0].pid, 9)
            sim.turn()
        renew(sim)
        sim.order(lambda: orders.stop(sim.cluster))
        assert over(sim).fields["reason"] == "the cluster is stopping"
