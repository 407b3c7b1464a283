"""The first zygote is started before the master is there; it may be dead before it is taken."""

import socket

from clusterd.kernel.child import Ahead
from clusterd.kernel.real import Death
from clusterd.master import absorb
from tests.support.simulated import simulated

GONE = 99  # a pid that the fake kernel does not give out


def test_a_zygote_that_died_before_it_was_taken_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    with simulated(2) as sim:
        sim.cluster.ahead = Ahead(GONE, ours)
        absorb.died(sim.cluster, Death(GONE, 1))
        sim.start()
        assert sim.ready() == 2
        assert all(zygote.pid != GONE for zygote in sim.group.roster.zygotes)
    assert ours.fileno() == -1
