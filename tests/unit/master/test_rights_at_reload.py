"""No reload gains root's rights, and a renewal that no operator asked for reads no settings."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace

import pytest

from clusterd.config.settings import Config
from clusterd.core.errors import ConfigError
from clusterd.core.events import Kind
from clusterd.master import reload
from tests.support.fake import Behaviour
from tests.support.simulated import Simulation, config, simulated

superuser = pytest.mark.skipif(os.geteuid() != 0, reason="others have no rights to lose")


def of_user(user: str, base: Config | None = None) -> Config:
    base = base or config(1)
    return replace(base, limits=replace(base.limits, user=user))


def refusal(sim: Simulation) -> str:
    with pytest.raises(ConfigError) as caught:
        reload.begin(sim.cluster, "test")
    (event,) = sim.find(Kind.RELOAD_REFUSED)
    assert event.fields["reason"] == caught.value.message
    assert len(sim.group.configs) == 1
    return caught.value.message


@superuser
@pytest.mark.parametrize("wanted", ["root", "0", ""])
def test_a_reload_turns_no_user_into_root(wanted: str) -> None:
    with simulated(1) as sim:
        sim.group.config = of_user("nobody", sim.config)
        sim.start()
        sim.config = of_user(wanted, sim.config)
        assert refusal(sim) == "a reload cannot turn the user of the group web into root"


@superuser
def test_a_reload_adds_no_group_of_root_beside_one_with_a_user() -> None:
    with simulated(1) as sim:
        sim.config = sim.group.config = of_user("nobody", sim.config)
        sim.start()
        sim.configs = {**sim.configs, "more": of_user("root")}
        assert refusal(sim) == "a reload cannot add more as root"


@superuser
@pytest.mark.parametrize(("before", "after"), [("", "nobody"), ("nobody", "daemon"), ("", "root")])
def test_other_changes_of_the_user_are_rolled_in(before: str, after: str) -> None:
    with simulated(1) as sim:
        sim.group.config = of_user(before, sim.config)
        sim.start()
        sim.configs = {"web": of_user(after, sim.config), "more": of_user(after)}
        reload.begin(sim.cluster, "test")
        sim.until(lambda: bool(sim.find(Kind.ROLLOUT_FINISHED)))
        assert sim.group.config.limits.user == after
        assert "more" in sim.cluster.groups


def lose_the_code(sim: Simulation) -> None:
    """Have the zygote die and the files change, so that an empty slot needs a renewal."""
    sim.kernel.behaviour = lambda _: Behaviour(fingerprint="new", dies_after=None)
    sim.group.roster.lost.add(sim.group.goal.stable)
    sim.kernel.kill(sim.kernel.workers()[0].pid, signal.SIGKILL)


def never(_: object = None) -> dict[str, Config]:
    raise AssertionError("the settings were read")


@pytest.mark.parametrize(
    "settings", [lambda: {"web": config(1, graceful_timeout=99.0)}, never], ids=["others", "unread"]
)
def test_a_renewal_goes_on_with_the_settings_that_serve(
    settings: Callable[[], dict[str, Config]],
) -> None:
    with simulated(1) as sim:
        sim.start()
        before = sim.group.config
        sim.cluster.reread = settings
        lose_the_code(sim)
        sim.settle()
        assert sim.find(Kind.ROLLOUT_FINISHED, generation=2)
        assert sim.group.configs[2] == before
        assert sim.ready(2) == 1


def test_a_zygote_that_is_rebuilt_has_the_settings_of_its_generation() -> None:
    with simulated(1) as sim:
        sim.start()
        sim.cluster.reread = never
        sim.kernel.kill(sim.kernel.zygotes()[0].pid, signal.SIGKILL)
        sim.settle()
        assert len(sim.find(Kind.ZYGOTE_READIED)) == 2
