"""Generators that an import made: those without a seed draw other numbers in each worker."""

import subprocess
import sys
import textwrap

import pytest

CODE = """
    import os, random, sys
    from clusterd.kernel import randomness

    with randomness.Watch():
        {made}

    def numbers():
        return [{drawn}]

    read, write = os.pipe()
    for _ in range(2):
        if os.fork() == 0:
            randomness.reseed()
            os.write(write, (repr(numbers()) + "\\n").encode())
            os._exit(0)
        os.wait()
    os.close(write)
    first, second = open(read)
    print(first == second)
"""


def is_shared(made: str, drawn: str) -> bool:
    """Whether two children of a process that ran `made` draw the same numbers."""
    code = textwrap.dedent(CODE).format(made=made, drawn=drawn)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {"True\n": True, "False\n": False}[done.stdout]


@pytest.mark.parametrize(
    "made",
    [
        "rng = random.Random()",
        "rng = random.Random(5); rng.seed()",
        "from random import Random as R; rng = type('Mine', (R,), dict())()",
    ],
)
def test_an_instance_without_a_seed_is_seeded_anew(made: str) -> None:
    assert not is_shared(made, "rng.random() for _ in range(3)")


@pytest.mark.parametrize(
    "made",
    [
        "rng = random.Random(5)",
        "rng = random.Random(); rng.seed(5)",
        "rng = random.Random(); rng.seed(a='x', version=1)",
    ],
)
def test_an_instance_that_was_given_a_seed_keeps_it(made: str) -> None:
    assert is_shared(made, "rng.random() for _ in range(3)")


def test_the_functions_of_random_are_seeded_anew() -> None:
    assert not is_shared("random.random()", "random.random()")


def test_the_instance_may_be_gone_by_then() -> None:
    assert not is_shared("random.Random()", "random.random()")


@pytest.mark.parametrize(
    "made",
    [
        "rng = numpy.random.default_rng()",
        "rng = numpy.random.Generator(numpy.random.Philox())",
        "rng = numpy.random.RandomState()",
        "rng = numpy.random.default_rng().spawn(1)[0]",
    ],
)
def test_a_generator_of_numpy_without_a_seed_is_seeded_anew(made: str) -> None:
    pytest.importorskip("numpy")
    assert not is_shared(f"import numpy.random; {made}", "rng.bytes(8)")


@pytest.mark.parametrize(
    "made",
    [
        "rng = numpy.random.default_rng(5)",
        "rng = numpy.random.default_rng(290217981813814789243768411400956506332)",
        "rng = numpy.random.RandomState(5)",
    ],
)
def test_a_generator_of_numpy_that_was_given_a_seed_keeps_it(made: str) -> None:
    pytest.importorskip("numpy")
    assert is_shared(f"import numpy.random; {made}", "rng.bytes(8)")


def test_the_functions_of_numpy_are_seeded_anew() -> None:
    pytest.importorskip("numpy")
    assert not is_shared("import numpy.random", "numpy.random.random()")


def test_nothing_is_left_of_the_watch() -> None:
    code = """
        import random
        from clusterd.kernel import randomness
        before = random.Random.seed, random.SystemRandom.getrandbits.__code__
        with randomness.Watch():
            mine = random.Random()
            kept = mine.seed
        assert (random.Random.seed, random.SystemRandom.getrandbits.__code__) == before
        kept(3)
        assert mine.random() == random.Random(3).random()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
