"""Rights given up and limits taken on, asked of the kernel by processes that did so."""

import json
import os
import platform
import pwd
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clusterd.core.errors import ConfigError
from clusterd.kernel import privileges
from clusterd.kernel.privileges import Identity, identity
from tests.support.ordinary import with_ambient
from tests.support.rights import opening

ROOT = Path(__file__).parents[3]
superuser = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
people = pytest.mark.skipif(os.geteuid() == 0, reason="root can do what this must refuse")

TELL = """
import ctypes, json, os, resource, sys
from clusterd.config.running import LimitSettings
from clusterd.core.errors import ConfigError
from clusterd.kernel import limited
given = json.loads(sys.argv[1])
holds_key = given.pop("holds_key", False)
try:
    limited.take_on(LimitSettings(**given), holds_key)
except ConfigError as error:
    sys.exit(str(error))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "status": {key: value.split() for key, value in status.items()},
    "nice": os.nice(0),
    "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "as": resource.getrlimit(resource.RLIMIT_AS),
    "environ": {key: os.environ.get(key) for key in ("USER", "LOGNAME", "HOME", "SHELL")},
    "owner": os.stat("/proc/self/maps").st_uid,
    "dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),  # PR_GET_DUMPABLE
}))
"""


def readable() -> tuple[str, ...]:
    """What to put before a command so that any user can read the interpreter and clusterd."""
    wrapper = opening()
    if wrapper is None:
        pytest.skip("the interpreter is closed to others, and no mount namespace can open it")
    return wrapper


def told(*prefix: str, **limits: object) -> subprocess.CompletedProcess[str]:
    """A process that takes these limits on, and says what it is then."""
    return subprocess.run(
        [*readable(), *prefix, sys.executable, "-c", TELL, json.dumps(limits)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def applied(*prefix: str, **limits: object) -> dict[str, Any]:
    done = told(*prefix, **limits)
    assert done.returncode == 0, done.stderr
    told_: dict[str, Any] = json.loads(done.stdout)
    return told_


def test_limits_that_anybody_may_take_on_hold() -> None:
    found = applied(
        umask=0o027, nice=3, limit_nofile=256, limit_core=0, limit_as=1 << 40, no_new_privs="on"
    )
    assert found["status"]["Umask"] == ["0027"]
    assert found["nice"] == os.nice(0) + 3
    assert (found["nofile"], found["core"], found["as"]) == ([256] * 2, [0, 0], [1 << 40] * 2)
    assert found["status"]["NoNewPrivs"] == ["1"]


def test_what_is_not_set_stays_as_it_is() -> None:
    found, here = applied(), Path("/proc/self/status").read_text()
    for key in ("Umask", "Uid", "Gid", "Groups", "NoNewPrivs", "CapEff", "CapBnd"):
        [line] = [line for line in here.splitlines() if line.startswith(f"{key}:")]
        assert found["status"][key] == line.split()[1:]


def test_a_limit_that_cannot_be_raised_is_named() -> None:
    beyond = int(Path("/proc/sys/fs/nr_open").read_text()) + 1  # not even root may
    done = told(limit_nofile=beyond)
    assert done.returncode == 1
    assert done.stderr.startswith("limit_nofile: it cannot be had: ")


def sets(found: dict[str, Any], *names: str) -> list[int]:
    """Return sets of capabilities as /proc/PID/status has them."""
    return [int(found["status"][f"Cap{name}"][0], 16) for name in names]


ALL = ("Inh", "Prm", "Eff", "Amb")
# A master that never was root, and may bind low ports, as by AmbientCapabilities= of systemd.
AMBIENT = with_ambient("+net_bind_service,+setpcap")
BIND_LOW = 1 << 10  # CAP_NET_BIND_SERVICE


@superuser
def test_the_user_is_given_up_in_all_ids_groups_and_capabilities() -> None:
    nobody = pwd.getpwnam("nobody")
    found = applied(user="nobody", nice=-1)
    status = found["status"]
    assert status["Uid"] == [str(nobody.pw_uid)] * 4
    assert status["Gid"] == [str(nobody.pw_gid)] * 4
    assert set(status["Groups"]) == {str(nobody.pw_gid)}
    assert sets(found, *ALL, "Bnd") == [0] * 5
    assert status["NoNewPrivs"] == ["1"]
    assert found["nice"] == os.nice(0) - 1  # taken while it still could
    names = {"USER": "nobody", "LOGNAME": "nobody"}
    assert found["environ"] == {**names, "HOME": nobody.pw_dir, "SHELL": nobody.pw_shell}
    assert found["owner"] == nobody.pw_uid  # the process is dumpable again


@superuser
def test_sudo_and_ping_work_where_they_are_to() -> None:
    """They need set-user-ID files and the bounding set."""
    found = applied(user="nobody", no_new_privs="off")
    assert found["status"]["NoNewPrivs"] == ["0"]
    assert sets(found, *ALL) == [0] * 4
    assert sets(found, "Bnd") == sets(applied(), "Bnd") != [0]


@superuser
def test_inheritable_capabilities_are_given_up_too() -> None:
    inheriting = ("setpriv", "--inh-caps=+kill")
    assert sets(applied(*inheriting), "Inh") != [0]
    assert sets(applied(*inheriting, user="nobody", keep_capabilities=True), *ALL) == [0] * 4


@superuser
def test_ambient_capabilities_are_given_up_by_who_never_was_root() -> None:
    found = applied(*AMBIENT)
    assert sets(found, *ALL) == [0] * 4
    assert found["status"]["NoNewPrivs"] == ["0"]  # sudo and ping work as before
    assert sets(found, "Bnd") != [0]
    assert found["dumpable"] == 1
    assert sets(applied(*AMBIENT, user="nobody"), *ALL) == [0] * 4
    assert sets(applied(*AMBIENT, no_new_privs="on"), *ALL, "Bnd") == [0] * 5


@superuser
def test_capabilities_stay_where_that_is_asked_for() -> None:
    found = applied(*AMBIENT, keep_capabilities=True)
    assert all(one & BIND_LOW for one in sets(found, *ALL))


@superuser
def test_root_that_may_not_become_another_user_is_told_what_that_takes() -> None:
    """As in a container without these capabilities."""
    done = told("setpriv", "--bounding-set", "-setuid,-setgid", user="nobody")
    assert done.returncode == 1
    assert done.stderr.startswith("user: it cannot be had: Operation not permitted")
    assert "CAP_SETUID" in done.stderr


WITHOUT_CAPSET = """
import ctypes, os, platform, struct, sys
number = {"x86_64": 126, "aarch64": 91}[platform.machine()]
steps = [  # load the call's number; where it is capset's return EPERM, else allow it
    (0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
program = struct.pack("@HP", len(steps), ctypes.addressof(code))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, program, 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
os.execv(sys.argv[1], sys.argv[1:])
"""


@superuser
@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="numbers of calls")
def test_where_a_filter_forbids_capset_nothing_is_served_with_capabilities() -> None:
    """As systemd's SystemCallFilter=~@privileged. Without capabilities it does not matter."""
    filtered = (sys.executable, "-c", WITHOUT_CAPSET)
    done = told(*AMBIENT, *filtered)
    assert done.returncode == 1
    assert done.stderr.startswith("keep_capabilities: it cannot be had: Operation not permitted")
    found = applied(*AMBIENT, *filtered, keep_capabilities=True)
    assert all(one & BIND_LOW for one in sets(found, *ALL))
    assert sets(applied(*filtered, user="nobody"), *ALL) == [0] * 4
    # Inheritable ones are none, as long as no program's file has them.
    inheriting = ("setpriv", "--reuid=nobody", "--clear-groups", "--inh-caps=+kill")
    assert sets(applied(*inheriting, *filtered), *ALL)[1:] == [0] * 3


@superuser
@pytest.mark.parametrize(
    ("limits", "dumpable"),
    [
        ({"user": "nobody"}, 1),
        ({"user": "nobody", "holds_key": True}, 0),
        ({"user": "nobody", "holds_key": True, "limit_core": 1 << 20}, 1),
        ({"user": "nobody", "holds_key": True, "dumpable": "on"}, 1),
        ({"user": "nobody", "dumpable": "off"}, 0),
        ({"holds_key": True}, 1),
        ({"user": "root", "holds_key": True}, 1),
        ({"user": "root", "dumpable": "off"}, 0),
    ],
)
def test_memory_with_a_key_is_nobody_elses(limits: dict[str, Any], dumpable: int) -> None:
    found = applied(**limits)
    assert found["dumpable"] == dumpable
    user = limits.get("user", "root") if dumpable else "root"
    assert found["owner"] == pwd.getpwnam(user).pw_uid


LIBRARY = """
import _thread
from clusterd.config.running import LimitSettings
from clusterd.kernel import limited, resources
limited.take_on(LimitSettings(user="nobody", dumpable="off"))
gate = _thread.allocate_lock()
gate.acquire()
_thread.start_new_thread(gate.acquire, ())
while not (found := resources.read().threads) or not found[0].library:
    pass  # it does not wait yet
print(found[0].library)
try:
    open("/proc/self/mem", "rb")
except PermissionError:
    print("closed again")
"""


@superuser
def test_the_library_of_a_thread_is_found_in_memory_that_is_closed() -> None:
    """The zygote judges threads after it has given up its rights."""
    done = subprocess.run(
        [*readable(), sys.executable, "-c", LIBRARY], cwd=ROOT, capture_output=True, text=True,
        timeout=20, check=True,
    )  # fmt: skip
    library, closed = done.stdout.splitlines()
    assert "python" in library
    assert closed == "closed again"


@superuser
def test_a_user_by_number_takes_the_group_that_is_named() -> None:
    status = applied(user="54321:54322")["status"]
    assert (status["Uid"], status["Gid"]) == (["54321"] * 4, ["54322"] * 4)
    assert status["Groups"] == ["54322"]


@superuser
def test_root_that_is_meant_stays_as_it_is() -> None:
    meant, before = applied(user="root")["status"], applied()["status"]
    for key in ("Uid", "Gid", "Groups", "CapEff", "CapBnd"):
        assert meant[key] == before[key]


def test_identities_are_names_or_numbers() -> None:
    entry = pwd.getpwnam("nobody")
    nobody = Identity(entry.pw_uid, entry.pw_gid, "nobody", entry.pw_dir, shell=entry.pw_shell)
    assert identity("nobody") == identity(str(entry.pw_uid)) == nobody
    assert identity("nobody:0").gid == 0
    assert identity("nobody:root").gid == 0
    assert identity("54321:7") == Identity(54321, 7, "54321", "/", named=False)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("no-such-user", "user: there is no user 'no-such-user'"),
        ("nobody:no-such-group", "user: there is no group 'no-such-group'"),
        ("54321", "user: 54321 has no entry in passwd, and so no group of its own"),
    ],
)
def test_an_identity_that_is_none_says_so(text: str, wrong: str) -> None:
    with pytest.raises(ConfigError) as caught:
        identity(text)
    assert caught.value.message == wrong


@superuser
def test_root_without_a_user_is_told_apart_from_root_by_choice() -> None:
    assert privileges.is_root_by_default("")
    assert not privileges.is_root_by_default("root")
    assert not privileges.is_root_by_default("nobody")
    privileges.check("")
    privileges.check("root")
    privileges.check("nobody")
    with pytest.raises(ConfigError, match="there is no user"):
        privileges.check("no-such-user")


@people
def test_only_root_can_become_another() -> None:
    assert not privileges.is_root_by_default("")
    privileges.check("")
    privileges.check(f"{os.geteuid()}:{os.getegid()}")
    with pytest.raises(ConfigError, match="only the superuser can become root"):
        privileges.check("root")


def test_slots_are_pinned_round_the_cpus() -> None:
    code = (
        "import os, sys; from clusterd.config.running import LimitSettings; "
        "from clusterd.kernel.privileges import place; "
        "place(LimitSettings(pin=sys.argv[2] == 'pin'), int(sys.argv[1])); "
        "print(*sorted(os.sched_getaffinity(0)))"
    )
    cpus = sorted(os.sched_getaffinity(0))

    def used(slot: int, word: str) -> list[int]:
        argv = [sys.executable, "-c", code, str(slot), word]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
        return [int(cpu) for cpu in done.stdout.split()]

    for slot in (0, len(cpus) - 1, len(cpus)):
        assert used(slot, "pin") == [cpus[slot % len(cpus)]]
    assert used(0, "") == cpus


@superuser
@pytest.mark.parametrize(("owner", "dies"), [("nobody", True), ("root", False)])
def test_a_group_is_killed_with_no_more_rights_than_who_named_it(owner: str, dies: bool) -> None:
    entry = pwd.getpwnam(owner)
    with subprocess.Popen(
        ["/bin/cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        user=entry.pw_uid,
        group=entry.pw_gid,
        start_new_session=True,
    ) as program:
        try:
            os.waitpid(privileges.kill_group_as("nobody", program.pid), 0)
            if dies:
                assert program.wait() == -signal.SIGKILL
            else:
                assert program.communicate(b"alive")[0] == b"alive"
        finally:
            program.kill()
