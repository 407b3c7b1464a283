"""Background schedulers that applications start at import run in workers and nowhere else."""

from pathlib import Path

from tests.support.server import Server, serving

APPS = Path(__file__).parent / "apps"


def who_ticks(ticks: Path, server: Server) -> set[int]:
    """The processes in which the job runs, once it ran several times in each worker."""
    workers = {w["pid"] for w in server.workers()}
    ticks.write_text("")
    while True:
        seen = ticks.read_text().split()
        if all(seen.count(str(pid)) > 3 for pid in workers):
            return {int(pid) for pid in seen}


def test_a_job_of_apscheduler_runs_once_a_worker_also_after_a_reload(tmp_path: Path) -> None:
    ticks = tmp_path / "ticks"
    ticks.touch()
    with serving(tmp_path, "scheduling:app", "--app-dir", str(APPS), TICKS=str(ticks)) as server:
        assert "thread" in server.find("zygote_readied")[0]["import_per_worker"]
        assert who_ticks(ticks, server) == {w["pid"] for w in server.workers()}
        server.ask("reload", wait=True)
        while {w["phase"] for w in server.workers()} != {"ready"}:
            server.event("exited")
        assert who_ticks(ticks, server) == {w["pid"] for w in server.workers()}
