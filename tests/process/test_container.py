"""As in a container: process 1, nobody from the start, no rights, and nothing that can be written.

tests/process/test_faults.py has what process 1 owes to strangers.
"""

import os
import pwd
import shutil
from pathlib import Path

import pytest

from tests.support.rights import opening
from tests.support.server import running

NEEDED = ("findmnt", "mount", "setpriv", "unshare")
# All file systems are read-only but for the runtime directory, see mount_namespaces(7); then nobody
# without capabilities takes over, as Kubernetes' restricted profile has it.
READ_ONLY = """
set -e
before=
for word; do
    [ "$before" = --runtime-dir ] && runtime=$word
    before=$word
done
chown nobody "$runtime"
mount --make-rprivate /
mount --bind "$runtime" "$runtime"
findmnt --noheadings --raw --output TARGET | while read -r place; do
    [ "$place" = "$runtime" ] || mount -o remount,bind,ro "$place" 2>/dev/null || :
done
for place in /tmp /var/tmp /dev/shm .; do
    if touch "$place/written" 2>/dev/null; then echo "$place is not read-only" >&2; exit 99; fi
done
exec setpriv --reuid nobody --regid nogroup --clear-groups --no-new-privs \\
    --inh-caps=-all --bounding-set=-all "$@"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make such a place")
@pytest.mark.skipif(not all(map(shutil.which, NEEDED)), reason=f"needs {', '.join(NEEDED)}")
def test_it_serves_as_nobody_from_a_read_only_root(tmp_path: Path) -> None:
    readable = opening()
    if readable is None:
        pytest.skip("the interpreter is closed to others, and no mount namespace can open it")
    apart = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
    wrapper = (*readable, *apart, "sh", "-c", READ_ONLY, "sh")
    options = ("-w", "2", "--min-ready", "0")
    none = ""  # nobody is asked to become another
    with running(
        tmp_path, "tell:app", *options, cwd="/", wrapper=wrapper, CLUSTERD_USER=none
    ) as server:
        server.ready()
        assert server.find("started")[0]["pid"] == 1
        assert server.find("trouble") == []
        nobody = pwd.getpwnam("nobody").pw_uid
        owners = {os.stat(f"/proc/{pid}").st_uid for pid in server.family() - {server.pid}}
        assert owners == {nobody}
        assert server.get()
        server.ask("reload", wait=True)
        assert server.get()
        assert server.ask("stop")["ok"]
        assert server.wait() == 0
        assert list(server.runtime.iterdir()) == []
