"""Forking: a child's end says how it went, signals find the right process, orphans are adopted."""

import errno
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from clusterd.core.exits import Exit
from clusterd.kernel.fork import fork_into


def run(code: str) -> str:
    """What a fresh interpreter prints: a process that becomes a subreaper stays one."""
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    return told.stdout


def status_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("code", [0, 3, 70])
def test_the_child_exits_with_what_its_body_returns(code: int) -> None:
    assert status_of(fork_into(lambda: code)) == code


def test_a_body_that_raises_is_our_bug_and_never_comes_back(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def body() -> int:
        raise ZeroDivisionError("in the child")

    assert status_of(fork_into(body)) == Exit.BUG
    assert "ZeroDivisionError: in the child" in capfd.readouterr().err


def test_what_the_child_printed_is_not_lost() -> None:
    code = """
        import os
        from clusterd.kernel.fork import fork_into
        os.waitpid(fork_into(lambda: print("from the child", end="") or 0), 0)
    """
    assert run(code) == "from the child"


def test_the_signal_mask_is_as_before_on_both_sides() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def body() -> int:
        return int(signal.pthread_sigmask(signal.SIG_BLOCK, ()) != before)

    assert status_of(fork_into(body)) == 0
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_signal_for_the_child_does_not_ring_in_its_parent() -> None:
    """The wake-up descriptor is inherited; the child must have let go of it first."""
    code = """
        import os, signal
        from clusterd.kernel.fork import fork_into
        from clusterd.kernel.signals import Wakeup

        def body():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            signal.signal(signal.SIGHUP, lambda *_: None)
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            return 1

        with Wakeup([signal.SIGTERM, signal.SIGHUP]) as wakeup:
            pid = fork_into(body)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            try:
                rang = wakeup._read.recv(10)
            except BlockingIOError:
                rang = b""
            print(code, rang, wakeup.drain())
    """
    assert run(code).strip() == "-15 b'' {}"


def test_an_orphan_is_adopted_before_its_body_runs() -> None:
    code = """
        import os
        from clusterd.kernel.fork import fork_orphan
        from clusterd.kernel.process import become_subreaper

        become_subreaper()
        mine = os.getpid()
        for _ in range(20):
            fork_orphan(lambda: 7 if os.getppid() == mine else 1)
        codes = {os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(20)}
        print(codes)
    """
    assert run(code).strip() == "{7}"


def test_an_orphan_has_no_parent_death_signal_and_nothing_blocked() -> None:
    code = """
        import ctypes, os, signal
        from clusterd.kernel.fork import fork_orphan
        from clusterd.kernel.process import become_subreaper

        def body():
            asked = ctypes.c_int(9)
            ctypes.CDLL(None).prctl(2, ctypes.byref(asked), 0, 0, 0)  # PR_GET_PDEATHSIG
            return asked.value + len(signal.pthread_sigmask(signal.SIG_BLOCK, ()))

        become_subreaper()
        fork_orphan(body)
        print(os.waitstatus_to_exitcode(os.wait()[1]))
    """
    assert run(code).strip() == "0"


def test_a_second_fork_that_fails_is_an_error_of_the_first() -> None:
    code = """
        import errno, os
        from clusterd.kernel import fork

        real, parent = os.fork, os.getpid()

        def fails_in_the_child():
            if os.getpid() != parent:
                raise OSError(errno.EAGAIN, "again")
            return real()

        os.fork = fails_in_the_child
        try:
            fork.fork_orphan(lambda: 0)
        except OSError as error:
            print(error.errno)
    """
    assert run(code).strip() == str(errno.EAGAIN)


def test_a_fork_beside_threads_warns_of_nothing_and_leaves_the_filters_alone() -> None:
    """From Python 3.12 on os.fork() warns; as an error that would cost the child's pid."""
    code = """
        import os, threading, warnings
        from clusterd.kernel.fork import fork_into
        stop = threading.Event()
        threading.Thread(target=stop.wait, daemon=True).start()
        warnings.simplefilter("error")
        before = warnings.filters[:]
        status = os.waitpid(fork_into(lambda: int(warnings.filters != before)), 0)[1]
        print(status, warnings.filters == before)
        stop.set()
    """
    assert run(code) == "0 True\n"


def test_a_thread_of_the_application_that_forks_meanwhile_forks_for_itself() -> None:
    """Its child would keep our sockets, and our signals blocked."""
    told = run("""
        import os, threading, warnings
        from clusterd.kernel import forked
        warnings.simplefilter("ignore")
        forked.in_child(lambda: os.write(1, b"its own child\\n"))
        def fork():
            if os.fork() == 0:
                os._exit(0)
            os.wait()
        with forked.fork_of_ours():
            thread = threading.Thread(target=fork)
            thread.start()
            thread.join()
    """)
    assert told == "its own child\n"


@pytest.mark.parametrize(
    ("limit", "left"), [(256, "/dev/null"), (3, "nothing")], ids=["usual", "out-of-descriptors"]
)
def test_a_child_of_the_application_loses_our_descriptors(limit: int, left: str) -> None:
    told = run(f"""
        import os, resource
        from clusterd.kernel import forked
        _, ours = os.pipe()
        forked.disown(lambda: [ours])
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, hard))
        if os.fork() == 0:
            try:
                left = os.readlink(f"/proc/self/fd/{{ours}}")
            except OSError:
                left = "nothing"
            os.write(1, left.encode())
            os._exit(0)
        os.wait()
        os.fstat(ours)
    """)
    assert told == left


@pytest.mark.parametrize(("ending", "status"), [("pass", 70), ("sys.exit(3)", 3), ("1 / 0", 70)])
def test_a_child_that_comes_out_of_a_block_ends_there(ending: str, status: int) -> None:
    """However it comes out; its parent goes on."""
    script = f"""
        import os, sys
        from clusterd.kernel.fork import ending_children

        with ending_children(lambda pid: os.write(1, b"child,")):
            if not (pid := os.fork()):
                {ending}
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"child,{status}\n"
