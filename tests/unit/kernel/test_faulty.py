"""The kernel that fails on cue fails exactly there, and a misspelt cue is no silence."""

import errno

import pytest

from clusterd.core.errors import ConfigError
from clusterd.kernel.faulty import VARIABLE, FaultyKernel, wrap


class Calls:
    """A kernel of two calls that count."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def spawn(self, name: str) -> str:
        self.seen.append(name)
        return f"spawned {name}"

    def pair(self) -> str:
        return "a pair"


def outcomes(kernel: FaultyKernel, times: int) -> list[str]:
    told = []
    for number in range(times):
        try:
            told.append(kernel.spawn(str(number)))
        except OSError as error:
            told.append(errno.errorcode[error.errno or 0])
    return told


def test_the_named_call_fails_and_no_other() -> None:
    kernel = FaultyKernel(Calls(), "spawn@2=EAGAIN")
    assert outcomes(kernel, 3) == ["spawned 0", "EAGAIN", "spawned 2"]
    assert kernel.pair() == "a pair"


def test_a_range_and_several_cues() -> None:
    kernel = FaultyKernel(Calls(), "spawn@1-2=ENOMEM,pair@1=EMFILE,spawn@4=EAGAIN")
    assert outcomes(kernel, 5) == ["ENOMEM", "ENOMEM", "spawned 2", "EAGAIN", "spawned 4"]
    with pytest.raises(OSError, match="Too many open files"):
        kernel.pair()


def test_cues_for_another_role_are_left_to_it() -> None:
    script = "zygote.spawn@1=EAGAIN"
    assert outcomes(FaultyKernel(Calls(), script), 1) == ["spawned 0"]
    assert outcomes(FaultyKernel(Calls(), script, "zygote"), 1) == ["EAGAIN"]


@pytest.mark.parametrize(
    "script",
    ["spwan@1=EAGAIN", "spawn@1=EAGIAN", "spawn@x=EAGAIN", "spawn", "zygoet.spawn@1=EAGAIN"],
)
def test_a_misspelt_cue_fails_at_once(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, script)
    with pytest.raises(ConfigError, match="cannot be read"):
        wrap(Calls())


def test_without_a_script_the_kernel_is_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    kernel = Calls()
    assert wrap(kernel) is kernel
