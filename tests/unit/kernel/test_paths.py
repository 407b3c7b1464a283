"""All that the lookup of a path passes is judged: directories, links, and what is missing."""

import contextlib
import grp
import mmap
import os
import pwd
import struct
from pathlib import Path

import pytest

from clusterd.core.write_access import Trust, Writer
from clusterd.kernel.paths import (
    ACL,
    MOST_LOOKUPS,
    UNKNOWN,
    Looker,
    added_libraries,
    libraries,
    library_path,
    redirections,
    trust,
)

NOBODY = pwd.getpwnam("nobody")
superuser = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
# As setxattr(2) takes it: version 2, then tag, permissions and id of each entry (acl(5)). They are
# the owner's, a user's, the group's, the mask and others'.
NONE = 0xFFFFFFFF
ENTRIES = ((1, 6, NONE), (2, 6, NOBODY.pw_uid), (4, 4, NONE), (16, 6, NONE), (32, 0, NONE))
NOBODY_MAY_WRITE = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in ENTRIES)
TRUST = Trust(frozenset({0, os.geteuid()}), frozenset({NOBODY.pw_gid}))


def found(path: Path | str, trust: Trust = TRUST) -> list[tuple[str, Writer]]:
    return [(one.entry.path, one.writer) for one in Looker(trust).faults([str(path)])]


def to_nobody(path: Path) -> None:
    os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid, follow_symlinks=False)


@superuser
def test_a_file_and_each_directory_above_it_are_judged(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "file"
    file.parent.mkdir(parents=True)
    file.touch()
    assert found(file) == []
    for one in (file, file.parent, file.parent.parent):
        to_nobody(one)
    owned = [tmp_path / "a", tmp_path / "a" / "b", file]
    assert found(file) == [(str(one), Writer.OWNER) for one in owned]


def test_links_are_followed_and_their_own_directories_judged(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "shut").mkdir()
    (tmp_path / "shut" / "file").touch()
    (tmp_path / "open" / "link").symlink_to("../shut/../shut/file")
    (tmp_path / "start").symlink_to(tmp_path / "open" / "link")
    assert found(tmp_path / "start") == []
    (tmp_path / "open").chmod(0o757)
    assert found(tmp_path / "start") == [(str(tmp_path / "open"), Writer.EVERYBODY)]
    (tmp_path / "shut").chmod(0o757)
    assert len(found(tmp_path / "start")) == 2


@superuser
def test_a_link_of_another_user_is_a_fault_of_its_own(tmp_path: Path) -> None:
    """In a sticky directory its owner may put another in its place."""
    tmp_path.chmod(0o1777)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    assert found(tmp_path / "link") == []
    to_nobody(tmp_path / "link")
    assert found(tmp_path / "link") == [(str(tmp_path / "link"), Writer.OWNER)]


def test_a_sticky_parent_passes_but_not_where_a_name_could_be_added(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    (tmp_path / "file").touch()
    assert found(tmp_path / "file") == []
    for missing in (tmp_path, tmp_path / "missing", tmp_path / "missing" / "deeper"):
        assert found(missing) == [(str(tmp_path), Writer.EVERYBODY)]


def test_a_file_in_a_directory_that_was_seen_is_judged_as_well(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).touch()
    (tmp_path / "b").chmod(0o646)
    looker = Looker(TRUST)
    [fault] = looker.faults([str(tmp_path / "a"), str(tmp_path / "b")])
    assert fault.entry.path == str(tmp_path / "b")


@superuser
def test_groups_count_by_their_members_and_by_access_control_lists(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    file.chmod(0o660)
    assert found(file) == []  # root's own group
    os.chown(file, 0, NOBODY.pw_gid)
    assert found(file) == [(str(file), Writer.GROUP)]
    assert found(file, Trust(frozenset({0}))) == [(str(file), Writer.GROUP)]  # it has a member
    os.chown(file, 0, 54321)
    assert found(file) == []
    try:
        os.setxattr(file, ACL, NOBODY_MAY_WRITE)
    except OSError as error:
        pytest.skip(f"no access control list can be set: {error.strerror}")
    assert found(file) == [(str(file), Writer.GROUP)]
    file.chmod(0o640)  # what the message advises: it is the list's mask
    assert found(file) == []


LOCAL = """\
# a comment, and a line as NIS has it
+::::::
root:x:0:0::/root:/bin/sh
ann:x:2001:54321::/home/ann:/bin/sh
bob:x:2002:2002::/home/bob:
"""


@superuser
def test_no_group_has_the_master_wait_for_all_users_of_a_directory_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be a hundred thousand, and the server may be away."""
    (passwd := tmp_path / "passwd").write_text(LOCAL)
    (file := tmp_path / "file").touch()
    file.chmod(0o660)
    asked: list[str] = []

    def getpwnam(name: str) -> pwd.struct_passwd:
        asked.append(name)
        raise KeyError(name)

    def members(gid: int, *names: str) -> frozenset[int]:
        def getgrgid(wanted: int) -> grp.struct_group:
            return grp.struct_group(("shop", "x", wanted, names if wanted == gid else ()))

        monkeypatch.setattr(grp, "getgrgid", getgrgid)
        os.chown(file, 0, gid)
        faults = Looker(Trust(frozenset({0})), str(passwd)).faults([str(file)])
        return faults[0].entry.members if faults else frozenset()

    monkeypatch.delattr(pwd, "getpwall")
    monkeypatch.setattr(pwd, "getpwnam", getpwnam)
    assert members(54321) == {2001}, "the user whose primary group it is"
    assert members(54322, "root", "bob") == {0, 2002}
    assert members(54322, "root") == members(54322) == set()
    assert asked == []
    assert members(54323, *(f"user{number}" for number in range(1000))) == {UNKNOWN}
    assert asked == [f"user{number}" for number in range(MOST_LOOKUPS)]


def test_what_the_kernel_shows_of_our_descriptors_is_ours(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        os.fchmod(file.fileno(), 0o666)
        assert found(f"/proc/self/fd/{file.fileno()}") == []
        assert found(f"/dev/fd/{file.fileno()}") == []


def test_links_in_a_circle_come_to_an_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert found(tmp_path / "a") == []


@superuser
def test_trust_is_roots_and_of_who_started_us_by_sudo() -> None:
    sudo = {"SUDO_UID": "54321"}
    found = trust(["nobody", "", "root"], sudo)
    assert found is not None
    assert found.owners == {0, 54321}
    assert NOBODY.pw_gid in found.workers
    theirs = trust(["54321:54322"], sudo)
    assert theirs == Trust(frozenset({0}), frozenset({54322}))
    assert trust(["nobody"], {"SUDO_UID": "-1"}) == trust(["nobody"], {})


def test_there_is_nothing_to_guard_where_workers_have_our_rights() -> None:
    assert trust(["", "root"], {}) is None if os.geteuid() == 0 else trust(["nobody"], {}) is None


@superuser
def test_a_file_that_the_workers_user_could_exchange_is_found(tmp_path: Path) -> None:
    """By a link to any file of root's, which root would then read for it."""
    place = tmp_path / "keys"
    place.mkdir()
    (secret := tmp_path / "secret").touch(0o600)
    key = place / "key.pem"
    key.symlink_to(secret)

    def exchanged() -> list[str]:
        return [one.entry.path for one in redirections(str(key), key.stat(), "nobody")]

    assert exchanged() == []
    os.chown(place, pwd.getpwnam("daemon").pw_uid, 0)
    assert exchanged() == [], "another user may renew certificates"
    to_nobody(place)
    assert exchanged() == [str(place)]
    assert redirections(str(key), key.stat(), "") == [], "workers are root themselves"
    assert redirections(str(key), key.stat(), "root") == []
    to_nobody(secret)
    assert exchanged() == [], "a file of its own shows it nothing new"
    os.chown(secret, 0, 0)
    os.chown(place, 0, NOBODY.pw_gid)
    place.chmod(0o775)
    assert exchanged() == [str(place)]


def test_libraries_that_are_loaded_are_known(tmp_path: Path) -> None:
    """But no file that was removed since, as those that libffi makes in /tmp."""
    kept, removed = tmp_path / "kept", tmp_path / "removed"
    with contextlib.ExitStack() as mappings:
        for path in (kept, removed):
            path.write_bytes(b"x")
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                mappings.enter_context(mapped)
        removed.unlink()
        found = libraries()
    assert str(kept) in found
    assert not [path for path in found if "removed" in path]


def test_directories_where_libraries_are_searched_are_known() -> None:
    here = os.getcwd()
    assert library_path({"LD_LIBRARY_PATH": "/a:b;/c:"}) == ["/a", f"{here}/b", "/c", here]
    assert library_path({"LD_LIBRARY_PATH": ""}) == library_path({}) == []


def test_libraries_that_the_environment_adds_to_programs() -> None:
    added = {"LD_AUDIT": "/a/one.so:two.so", "LD_PRELOAD": "/b/three.so libfour.so:/c/five.so"}
    assert added_libraries(added) == ["/a/one.so", "/b/three.so", "/c/five.so"]
    assert added_libraries({}) == []
