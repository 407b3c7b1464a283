"""What counts as a change of the application, and how it is told."""

import pytest

from clusterd.config import watch as settings
from clusterd.config.resolve import load, load_groups
from clusterd.core.errors import ConfigError
from clusterd.watch import Begun, counts

ROOTS = ("/srv/.venv/shop", "/srv/lib")


@pytest.mark.parametrize(
    ("path", "does"),
    [
        ("/srv/.venv/shop/main.py", True),  # the way to the directory may have any names
        ("/srv/.venv/shop/deep/er/main.py", True),
        ("/srv/.venv/shop/templates/page.html", True),
        ("/srv/.venv/shop/.env", True),
        ("/srv/lib/clusterd.toml", True),
        ("/srv/.venv/shop/db.sqlite3", False),
        ("/srv/.venv/shop/app.log", False),
        ("/srv/.venv/shop/__pycache__/main.cpython-312.pyc", False),
        ("/srv/.venv/shop/.git/hooks/x.py", False),
        ("/srv/.venv/shop/.#main.py", False),
        ("/srv/.venv/shop/venv/lib/x.py", False),
        ("/srv/.venv/shop/.tox/py/x.py", False),
        ("/srv/.venv/shop/lib/site-packages/x.py", False),
        ("/srv/.venv/shop/node_modules/x/page.html", False),
        ("/srv/.venv/shopping/main.py", False),
        ("/elsewhere/main.py", False),
    ],
)
def test_code_templates_and_settings_count_and_what_is_installed_or_written_does_not(
    path: str, does: bool
) -> None:
    assert counts(path, ROOTS) is does


def test_everything_below_the_root_directory_counts_too() -> None:
    assert counts("/main.py", ("/",))


def test_it_says_once_that_it_watches_and_never_stops(capsys: pytest.CaptureFixture[str]) -> None:
    begun = Begun(ROOTS)
    assert not begun.is_set()
    assert not begun.is_set()
    assert capsys.readouterr().out == "watching /srv/.venv/shop, /srv/lib\n"


def test_dev_has_a_group_that_watches_where_the_application_is() -> None:
    given = {"app": "shop:app", "app_dir": "src", "dev": True, "reload_delay": "20ms"}
    groups = load_groups(given, {}, "/srv")
    assert list(groups) == ["web", "watch"]
    watcher, web = groups["watch"], groups["web"]
    assert watcher.command.command[2:4] == ("-m", "clusterd.watch")
    assert watcher.command.command[5:] == ("20", "/srv/src")
    assert (watcher.fleet.workers, watcher.listen.bind) == (1, ())
    assert watcher.fleet.min_ready == 0.0, "nobody waits for it"
    fleet = web.fleet
    assert (fleet.workers, fleet.min_ready, fleet.stream_grace) == (1, 0.0, 0.0)
    assert fleet.graceful_timeout == 2.0
    assert web.dev.reload
    elsewhere = load_groups(given | {"reload_dir": ("a", "b")}, {}, "/srv")
    assert elsewhere["watch"].command.command[6:] == ("/srv/a", "/srv/b")
    assert "watch" not in load_groups(given | {"reload": False}, {}, "/srv")


def test_without_the_package_dev_says_so_and_reload_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "is_installed", lambda: False)
    given = {"app": "shop:app", "dev": True}
    config = load(given, {}, "/srv")
    assert not config.dev.reload
    assert "pip install 'clusterd[watch]'" in settings.remark(config)
    assert settings.remark(load({"app": "shop:app"}, {}, "/srv")) == ""
    with pytest.raises(ConfigError, match="watchfiles is not installed") as caught:
        settings.group(load({"app": "shop:app", "reload": True}, {}, "/srv"), lambda: False)
    assert caught.value.remedy == "pip install 'clusterd[watch]'"
