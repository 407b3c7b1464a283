"""Was a death for want of memory? Pure: counters and a clock in, words out."""

from dataclasses import dataclass

LIMIT = "out of memory (cgroup limit)"
OTHER = "out of memory"
PERHAPS = "out of memory, by the count of the machine"
RAISE = "raise the memory limit (MemoryMax=, or the container's), or lower workers"
RECYCLE = "max_memory replaces workers that grow before it comes to that"
REMEDIES = {
    LIMIT: f"{RAISE}; {RECYCLE}",
    OTHER: f"the machine, or a cgroup around this one, had none left: lower workers; {RECYCLE}",
    PERHAPS: f"the machine had none left: lower workers; {RECYCLE}",
}
FRESH = 10.0  # seconds that a counted killing may wait for its death to be reaped


@dataclass(slots=True)
class Ledger:
    """Killings that the kernel has counted, against deaths that we have seen.

    It counts the application's own children too, whose deaths we do not see. So what was counted
    and has found no death soon afterwards was one of those, and explains nothing later on.
    """

    kills: int = 0  # counted by the kernel when last looked at
    hits: int = 0
    left: int = 0  # of those, not yet held against a death
    limited: bool = False  # they came of our cgroup's limit
    looked: float = 0.0  # when a count was last new

    def explain(self, kills: int, hits: int, ours: bool, now: float) -> str:
        """A death by a SIGKILL that was not ours: why, or '' when memory had no part in it.

        `kills` and `hits` are what the kernel counts by now, and whether it does so for `ours`.
        """
        if now - self.looked >= FRESH:
            self.left = 0
        if kills > self.kills:
            self.left += kills - self.kills
            self.limited, self.looked = hits > self.hits, now
        self.kills, self.hits = kills, hits
        if not self.left:
            return ""
        self.left -= 1
        if not ours:
            return PERHAPS
        return LIMIT if self.limited else OTHER
