"""Where the control socket lies."""

import pytest

from clusterd.config.place import control_path
from clusterd.config.settings import PlaceSettings
from clusterd.core.errors import ConfigError


@pytest.mark.parametrize(
    ("place", "environ", "path"),
    [
        (PlaceSettings(), {}, None),
        (PlaceSettings(), {"XDG_RUNTIME_DIR": "/run/user/1"}, "/run/user/1/clusterd/clusterd.sock"),
        (
            PlaceSettings(name="shop"),
            {"RUNTIME_DIRECTORY": "/run/shop:/run/b", "XDG_RUNTIME_DIR": "/x"},
            "/run/shop/shop.sock",
        ),
        (PlaceSettings(runtime_dir="/r"), {"RUNTIME_DIRECTORY": "/run/a"}, "/r/clusterd.sock"),
        (PlaceSettings(), {"RUNTIME_DIRECTORY": "", "XDG_RUNTIME_DIR": ""}, None),
    ],
)
def test_told_then_systemds_then_the_sessions_then_none(
    place: PlaceSettings, environ: dict[str, str], path: str | None
) -> None:
    assert control_path(place, environ) == path


def test_a_path_that_no_socket_can_have_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="would have 114 bytes"):
        control_path(PlaceSettings(runtime_dir="/" + "d" * 99), {})
