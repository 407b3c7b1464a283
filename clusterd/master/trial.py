"""The trial of what we want to become: a child that does all of it, short of acting."""

from dataclasses import dataclass, field
from math import inf

FIT = "fit"  # the last line of a trial that went well begins with it


@dataclass(slots=True)
class Trial:
    """An upgrade that was asked for, and the process that tries it."""

    began: float
    pid: int = 0  # once there is one
    output: int = -1  # what it says comes from here
    text: bytearray = field(default_factory=bytearray)
    deadline: float = inf
    code: int | None = None  # its exit status, once it has ended

    @property
    def said(self) -> str:
        """Its output, errors among it."""
        return self.text.decode("utf-8", "replace").strip()

    @property
    def fit(self) -> bool:
        """Did it go well?"""
        return self.code == 0 and (self.said.splitlines() or [""])[-1].startswith(f"{FIT} ")

    @property
    def fault(self) -> str:
        """Why it did not, in a line: the last one of what it said says it best."""
        lines = self.said.splitlines()
        return lines[-1] if lines else f"the trial ended without a word: status {self.code}"
