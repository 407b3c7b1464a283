"""UUIDs that are drawn while the application is imported: which, for which code, and where."""

import secrets
import sys
import textwrap
import types
import uuid
from pathlib import Path

import pytest

from clusterd.zygote.draws import Draw, Observer


def observe(place: Path, code: str, file: str = "shop.py", name: str = "shop") -> list[Draw]:
    """What is drawn by code that stands in a file below `app_dir`."""
    path = place / file
    source = compile(textwrap.dedent(code), str(path), "exec")
    with Observer("web:app", str(place)) as observer:
        exec(source, {"__name__": name, "__file__": str(path)})
    return observer.draws


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(name, marks=pytest.mark.skipif(not hasattr(uuid, name), reason="Python 3.14"))
        for name in ("uuid1", "uuid4", "uuid6", "uuid7")
    ],
)
def test_a_draw_is_found_with_its_line_and_value(tmp_path: Path, call: str) -> None:
    kept: dict[str, uuid.UUID] = {}
    sys.modules["kept_by_test"] = types.ModuleType("kept_by_test")
    sys.modules["kept_by_test"].__dict__["kept"] = kept
    try:
        code = f"import uuid, kept_by_test\n\nkept_by_test.kept['id'] = uuid.{call}()\n"
        drawn = observe(tmp_path, code)
    finally:
        del sys.modules["kept_by_test"]
    assert drawn == [Draw(call, "shop", own=True, where="shop.py:3", value=kept["id"].hex)]
    assert kept["id"].version == int(call[-1])


@pytest.mark.parametrize(
    "library",
    ["attr", "attrs", "dataclasses", "functools", "msgspec", "pydantic", "pydantic_settings",
     "secrets", "sqlmodel"],
)  # fmt: skip
def test_a_factory_draws_for_the_code_that_makes_an_instance(tmp_path: Path, library: str) -> None:
    names: dict[str, object] = {"__name__": f"{library}.main"}
    source = "import uuid\ndef instance():\n    return uuid.uuid4()\n"
    exec(compile(source, "/elsewhere/main.py", "exec"), names)
    sys.modules["made_by_test"] = module = types.ModuleType("made_by_test")
    module.__dict__["instance"] = names["instance"]
    try:
        (draw,) = observe(tmp_path, "from made_by_test import instance\ninstance()\n")
    finally:
        del sys.modules["made_by_test"]
    assert (draw.by, draw.own, draw.where) == ("shop", True, "shop.py:2")


def test_an_imported_name_is_observed_and_arguments_pass(tmp_path: Path) -> None:
    code = """
        from uuid import uuid1
        node = uuid1(clock_seq=7, node=0x123456789abc)
        assert node.node == 0x123456789abc and node.clock_seq == 7
    """
    assert [draw.where for draw in observe(tmp_path, code)] == ["shop.py:3"]


def test_nothing_is_left_of_the_observer(tmp_path: Path) -> None:
    before = uuid.uuid4, uuid.uuid4.__code__
    observe(tmp_path, "import uuid\nuuid.uuid4()")
    assert (uuid.uuid4, uuid.uuid4.__code__) == before
    assert uuid.uuid4().version == 4


def test_the_code_is_put_back_where_the_import_fails(tmp_path: Path) -> None:
    before = uuid.uuid4.__code__
    with pytest.raises(ZeroDivisionError):
        observe(tmp_path, "1 / 0")
    assert uuid.uuid4.__code__ is before


def test_an_error_of_the_function_is_the_callers(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="uuid4"):
        observe(tmp_path, "import uuid\nuuid.uuid4(1)")


@pytest.mark.parametrize(
    "file",
    [
        ".venv/lib/python3.11/site-packages/sentry_sdk/session.py",
        "/usr/lib/python3/dist-packages/sentry_sdk/session.py",
        "/elsewhere/sentry_sdk/session.py",
    ],
)
def test_a_librarys_draw_is_not_the_applications(tmp_path: Path, file: str) -> None:
    (draw,) = observe(tmp_path, "import uuid\nuuid.uuid4()", file, "sentry_sdk.session")
    assert (draw.own, draw.by, draw.where) == (False, "sentry_sdk", "")


def test_the_applications_package_counts_wherever_it_is_installed(tmp_path: Path) -> None:
    file = "/usr/lib/python3/dist-packages/web/ids.py"
    (draw,) = observe(tmp_path, "import uuid\nuuid.uuid4()", file, "web.ids")
    assert draw.own
    assert draw.where == f"{file}:2"


@pytest.mark.parametrize(
    ("file", "own"),
    [
        ("/srv/venv/lib/python3.13/site-packages/mlflow/telemetry/client.py", False),
        ("mlflow/telemetry/client.py", True),  # what a developer of it serves
    ],
)
def test_an_installed_application_that_is_known_to_draw_no_identity(
    file: str, own: bool, tmp_path: Path
) -> None:
    path = str(tmp_path / file)
    with Observer("mlflow.server.fastapi_app:app", str(tmp_path)) as observer:
        code = compile("import uuid\nuuid.uuid4()", path, "exec")
        exec(code, {"__name__": "mlflow.telemetry.client"})
    (draw,) = observer.draws
    assert (draw.by, draw.own, bool(draw.where)) == ("mlflow", own, own)


def test_a_librarys_draw_has_the_line_of_the_application_that_led_to_it(tmp_path: Path) -> None:
    library = {"__name__": "socketio.manager"}
    exec(
        compile("import uuid\ndef make(): return uuid.uuid4()", "/lib/socketio.py", "exec"), library
    )
    with Observer("web:app", str(tmp_path)) as observer:
        code = compile("\n\nmake()", str(tmp_path / "shop.py"), "exec")
        exec(code, {"__name__": "shop", "make": library["make"]})
    (draw,) = observer.draws
    assert (draw.own, draw.by, draw.where) == (False, "socketio", "shop.py:3")


def test_an_instance_of_a_dataclass_draws_for_the_line_that_makes_it(tmp_path: Path) -> None:
    code = """
        import dataclasses, uuid

        @dataclasses.dataclass
        class Node:
            id: uuid.UUID = dataclasses.field(default_factory=uuid.uuid4)

        node = Node()
    """
    assert [(d.own, d.where) for d in observe(tmp_path, code)] == [(True, "shop.py:8")]


def test_a_dataclass_of_a_model_that_only_defines_draws_nothing(tmp_path: Path) -> None:
    code = """
        import dataclasses, uuid

        @dataclasses.dataclass
        class Node:
            id: uuid.UUID = dataclasses.field(default_factory=uuid.uuid4)
    """
    assert observe(tmp_path, code) == []


def test_an_import_that_draws_much_is_cut_and_its_own_draw_is_kept(tmp_path: Path) -> None:
    library = {"__name__": "faker"}
    many = "import uuid\ndef make():\n for _ in range(1500): uuid.uuid4()"
    exec(compile(many, "/lib/faker.py", "exec"), library)
    with Observer("web:app", str(tmp_path)) as observer:
        code = compile("import uuid\nmake()\nuuid.uuid4()", str(tmp_path / "shop.py"), "exec")
        exec(code, {"__name__": "shop", "make": library["make"]})
    assert len(observer.draws) == 1001
    assert observer.draws[-1].own


def test_a_secret_is_found_where_it_is_asked_for(tmp_path: Path) -> None:
    path = str(tmp_path / "shop.py")
    with Observer("web:app", str(tmp_path), secrets) as observer:
        exec(compile("import secrets\nsecrets.token_hex()", path, "exec"), {"__name__": "shop"})
    assert observer.draws == [Draw("token_bytes", "shop", own=True, where="shop.py:2", value="")]


def test_a_thread_that_draws_is_observed_too(tmp_path: Path) -> None:
    code = """
        import threading, uuid
        def draw():
            uuid.uuid4()
        thread = threading.Thread(target=draw)
        thread.start()
        thread.join()
    """
    assert [draw.where for draw in observe(tmp_path, code)] == ["shop.py:4"]
