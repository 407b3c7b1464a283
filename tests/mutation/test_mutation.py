"""The mutation run itself: which changes it makes, what it draws, and what it keeps of a run."""

from pathlib import Path

import pytest

from tests.mutation import fitting
from tests.mutation.__main__ import run
from tests.mutation.draw import Mutant, draw, package, shares
from tests.mutation.mutations import changes, find
from tests.mutation.record import Outcome, Record, diff, summary
from tests.mutation.trial import Copy, failures

ROOT = Path(__file__).parents[2]


def made(kind: str, source: str) -> list[str]:
    """What one kind makes of a source, each whole."""
    text = source.encode()
    found = [one for one in find(text) if one.kind == kind and changes(text, one)]
    return [one.apply(text).decode() for one in found]


@pytest.mark.parametrize(
    ("kind", "source", "expected"),
    [
        ("comparison", "a < b", ["a <= b"]),
        ("comparison", "a is not b == c", ["a is b == c", "a is not b != c"]),
        ("comparison", "('ä' in a)", ["('ä' not in a)"]),
        ("logic", "(a) and (b)", ["(a) or (b)"]),
        ("condition", "x = 1 if a() else 2", ["x = 1 if (not (a())) else 2"]),
        ("condition", "if a == 1: b()", []),
        ("call", "if a:\n    b()\n", ["if a:\n    pass\n"]),
        ("call", "async def f():\n    await b()", ["async def f():\n    pass"]),
        ("constant", "x = 2.5", ["x = 3.5"]),
        ("constant", "f(a, b=True)", ["f(a, b=False)"]),
        ("arithmetic", "a - (b)", ["a + (b)"]),
        ("arithmetic", "a += b", ["a -= b"]),
        ("arithmetic", "a += [b]", []),
        ("return", "def f():\n    return a", ["def f():\n    return None"]),
        ("return", "def f():\n    return False", []),
        (
            "return",
            'def f() -> None:\n    """D."""\n    a = b\n',
            ['def f() -> None:\n    """D."""\n    return\n    a = b\n'],
        ),
        ("await", "async def f():\n    x = await b", ["async def f():\n    x = b"]),
        ("arguments", "f(a, b, 1)", ["f(b, a, 1)"]),
        ("arguments", "f(a, b.c)", []),
        ("arguments", "min(a, b)", []),
        ("row", "x = {1: a, 2: b}", ["x = {1: a}", "x = {2: b}"]),
        ("row", "x = f((a, b))", ["x = f((a,))", "x = f((b,))"]),
        ("row", "x, y = a, b", []),
    ],
)
def test_a_kind_of_change(kind: str, source: str, expected: list[str]) -> None:
    assert made(kind, source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""Text."""',
        "x: Literal[1, 2]",
        "def f(a: dict[str, int] = ...) -> Literal[3]: ...",
        "if TYPE_CHECKING:\n    f(1)",
        "raise E('no', 1)",
        "x = f'{1} {a + b}'",
        "@dataclass(frozen=True)\nclass A: ...",
        "for x in zip(a, 'b', strict=True): ...",
    ],
)
def test_what_cannot_matter_is_left_as_it_is(source: str) -> None:
    assert find(source.encode()) == []


def test_every_change_of_a_module_is_another_program_or_is_not_drawn() -> None:
    """Of a comment that looks like an operator, too."""
    source = b"x = (a  # and\n     and b)\ny = f(1)\n"
    (logic,) = (one for one in find(source) if one.kind == "logic")
    assert not changes(source, logic)
    drawn = draw({"clusterd/a/b.py": source}, seed=1, count=9)
    assert [one.mutation.kind for one in drawn] == ["constant"]


def test_a_sample_is_spread_by_lines_and_the_same_for_a_seed() -> None:
    sources = {
        "clusterd/a/b.py": b"x = [a < b, a and b, f(1), f(2)]\n" * 6,
        "clusterd/c.py": b"if a > 3: f()\n" * 3,
    }
    drawn = draw(sources, seed=4, count=6)
    assert [package(one.path) for one in drawn] == ["a"] * 4 + ["c"] * 2
    assert draw(sources, seed=4, count=6) == drawn
    assert draw(sources, seed=5, count=6) != drawn
    assert len(set(drawn)) == 6


def test_shares_add_up() -> None:
    assert shares({"a": 1, "b": 1, "c": 1}, 10) == {"a": 4, "b": 3, "c": 3}


def test_every_package_has_tests_with_real_processes_and_each_file_is_there() -> None:
    rooms = [path for path in (ROOT / "clusterd").iterdir() if path.suffix in ("", ".py")]
    modules = {path.stem for path in rooms if not path.stem.startswith("_")}
    assert set(fitting.PROCESSES) == modules
    for names in fitting.PROCESSES.values():
        assert [
            name for name in names if not (ROOT / f"tests/process/test_{name}.py").exists()
        ] == []


def test_the_nearest_tests_come_first() -> None:
    named, others = fitting.near(ROOT, "clusterd/fleet/plan.py")
    assert named == ["tests/unit/fleet/test_plan.py"]
    assert "tests/unit/master/test_rollouts.py" in others
    assert "tests/unit/fleet/test_backoff.py" in others
    assert named[0] not in others


def test_the_test_that_noticed_is_named() -> None:
    told = "F\nFAILED tests/unit/test_a.py::test_b[1 - 2] - assert 1 == 2\n1 failed in 0.1s\n"
    assert failures(told) == "tests/unit/test_a.py::test_b[1 - 2]"
    assert failures("ERROR tests/unit/test_a.py\n") == "tests/unit/test_a.py"
    assert failures("3 passed in 0.1s\n") == ""


def test_a_change_is_undone_and_each_version_has_a_time_of_its_own(tmp_path: Path) -> None:
    """Or bytecode of the one would be taken for the other's."""
    (tmp_path / "a.py").write_text("x = 1\n")
    times = []
    (mutation,) = find(b"x = 1\n")
    copy = Copy(tmp_path)
    for _ in range(2):
        with copy.changed(Mutant("a.py", mutation)):
            assert (tmp_path / "a.py").read_text() == "x = 2\n"
            times.append(int((tmp_path / "a.py").stat().st_mtime))
        assert (tmp_path / "a.py").read_text() == "x = 1\n"
        times.append(int((tmp_path / "a.py").stat().st_mtime))
    assert len(set(times)) == 4


def outcome(source: bytes, number: int = 0) -> Outcome:
    mutation = find(source)[number]
    return Outcome(Mutant("clusterd/a.py", mutation), diff(source, mutation))


def test_a_run_is_resumed_though_the_sources_have_changed(tmp_path: Path) -> None:
    before, after = b"x = 1\ny = 3\n", b"# new\nz = 3\nx = 1\n"
    record = Record(tmp_path / "record.json", [outcome(before), outcome(before, 1)])
    record.save()
    again = Record(record.path)
    again.load()
    assert again.outcomes == record.outcomes
    again.follow({"clusterd/a.py": after})
    first, second = again.outcomes
    assert (first.mutant.place, first.lost) == ("clusterd/a.py:3", False)
    assert second.lost


def test_the_score_leaves_out_what_no_test_could_notice() -> None:
    source = b"x = [1, 2, 3]\n"
    noticed, survived, same = (outcome(source, number) for number in range(3))
    for one in (noticed, survived, same):
        one.near = True
    noticed.noticed, same.equivalent = "tests/unit/test_a.py::test_b", "a figure of speed"
    told = summary([noticed, survived, same]).splitlines()
    assert told[0] == "clusterd/a.py:1: survived (unit tests only)"
    assert told[-2:] == [
        "clusterd/a.py:1: equivalent: a figure of speed",
        "noticed 1 of 2: 50.0 %",
    ]


class Tried(Copy):
    """A copy with one test, which fails where its module is changed, or always."""

    is_sound = True

    def run(self, tests: list[str]) -> str:
        is_changed = (self.root / "clusterd/a.py").read_text() != "x = 1\n"
        return "tests/unit/test_a.py::test_b" if is_changed or not self.is_sound else ""


def test_a_test_that_fails_without_the_change_too_has_noticed_nothing(tmp_path: Path) -> None:
    for name, text in (("clusterd/a.py", "x = 1\n"), ("tests/unit/test_a.py", "clusterd.a")):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    copy, record = Tried(tmp_path), Record(tmp_path / "record.json", [outcome(b"x = 1\n")])
    run(record, copy, processes=False)
    assert record.outcomes[0].noticed == "tests/unit/test_a.py::test_b"
    copy.is_sound = False
    unsound = Record(tmp_path / "unsound.json", [outcome(b"x = 1\n")])
    with pytest.raises(SystemExit, match="test_b fails without a change, too"):
        run(unsound, copy, processes=False)
    assert not unsound.path.exists()
