"""Which users may write to what root relies on: a table of owners, groups and modes."""

import stat

import pytest

from clusterd.core.write_access import Entry, Fault, Trust, Writer, remedy, writer

ALICE, WORKER, OTHER = 1000, 33, 1001
TRUST = Trust(frozenset({0, ALICE}), frozenset({33, 7}))
DIRECTORY, FILE, LINK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK


def entry(uid: int, mode: int, gid: int = 50, **more: object) -> Entry:
    return Entry("/a", uid, gid, mode, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        (entry(0, FILE | 0o644), None),
        (entry(ALICE, FILE | 0o600), None),
        (entry(WORKER, FILE | 0o400), Writer.OWNER),
        (entry(OTHER, DIRECTORY | 0o755), Writer.OWNER),
        (entry(0, FILE | 0o646), Writer.EVERYBODY),
        (entry(0, DIRECTORY | 0o777, is_passed=True), Writer.EVERYBODY),
        (entry(0, DIRECTORY | 0o1777, is_passed=True), None),
        (entry(0, DIRECTORY | 0o1777), Writer.EVERYBODY),  # anybody may add a name to it
        (entry(OTHER, DIRECTORY | 0o1777, is_passed=True), Writer.OWNER),
        (entry(0, FILE | stat.S_ISVTX | 0o646), Writer.EVERYBODY),  # means nothing for a file
        (entry(0, LINK | 0o777), None),
        (entry(WORKER, LINK | 0o777), Writer.OWNER),
        (entry(0, FILE | 0o664), None),  # a group without members, as Debian's staff
        (entry(0, FILE | 0o664, members=frozenset({0, ALICE})), None),
        (entry(0, FILE | 0o664, members=frozenset({OTHER})), Writer.GROUP),
        (entry(0, FILE | 0o664, gid=7), Writer.GROUP),  # a group of the workers
        (entry(0, FILE | 0o664, gid=0, members=frozenset({OTHER})), None),
        (entry(0, FILE | 0o664, gid=0, has_acl=True), Writer.GROUP),
        (entry(0, DIRECTORY | 0o1775, gid=7, is_passed=True), None),
    ],
)
def test_only_root_and_who_started_us_by_sudo_may_write(seen: Entry, found: Writer | None) -> None:
    assert writer(seen, TRUST) is found


def test_roots_own_group_is_no_exception_where_a_worker_is_in_it() -> None:
    trust = Trust(frozenset({0}), frozenset({0}))
    assert writer(entry(0, FILE | 0o664, gid=0), trust) is Writer.GROUP


def test_a_fault_names_path_owner_mode_and_the_command_that_mends_it() -> None:
    one = Fault(entry(WORKER, DIRECTORY | 0o755), Writer.OWNER, "www-data", "staff")
    assert str(one) == "its owner may write to /a (owner www-data, group staff, mode 755)"
    assert one.command == "chown root /a"
    assert Fault(entry(33, LINK | 0o777), Writer.OWNER).command == "chown -h root /a"
    assert Fault(entry(0, FILE | 0o666), Writer.EVERYBODY).command == "chmod o-w /a"
    assert Fault(Entry("/a b", 0, 7, FILE), Writer.GROUP).command == "chmod g-w '/a b'"


def test_a_remedy_says_each_command_once_and_not_hundreds() -> None:
    faults = [Fault(Entry(f"/{n % 8}", 33, 0, FILE), Writer.OWNER) for n in range(16)]
    said = remedy(faults)
    assert said.startswith("chown root /0; chown root /1; ")
    assert said.endswith("chown root /5; and 2 more like these")


def test_a_fault_names_the_path_whose_lookup_passes_the_entry() -> None:
    one = Fault(entry(33, DIRECTORY | 0o755), Writer.OWNER, "app", "app", "/a/pyproject.toml")
    assert str(one).endswith("mode 755), on the way to /a/pyproject.toml")
    assert str(Fault(one.entry, Writer.OWNER, "app", "app", "/a")).endswith("mode 755)")


def test_a_remedy_takes_in_a_virtual_environment_as_a_whole_where_it_has_many_commands() -> None:
    def of(number: int) -> list[Fault]:
        inside = [Fault(Entry(f"/app/v/{n}", 33, 0, FILE), Writer.OWNER) for n in range(number)]
        others = [("/app", Writer.OWNER), ("/app/v", Writer.GROUP), ("/app/v2", Writer.OWNER)]
        return [*(Fault(Entry(path, 33, 0, DIRECTORY), who) for path, who in others), *inside]

    assert remedy(of(9), "/app/v") == (
        "chown root /app; chmod -R g-w /app/v; chown root /app/v2; chown -R root /app/v"
    )
    assert remedy(of(1), "/app/v").endswith("chown root /app/v/0")
