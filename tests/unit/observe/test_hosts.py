"""Names that Host may have at the admin endpoint."""

import socket

import pytest

from clusterd.observe.hosts import Hosts


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.1.2.3:9090",  # as a kubelet says it
        "[::1]:9090",
        "[fe80::1%25eth0]",
        "localhost",
        "LocalHost.:9090",
        "shop.localhost:9090",
        "metrics.internal:9090",
        "METRICS.internal.",
        "web-1",
    ],
)
def test_addresses_localhost_and_names_of_ours_are_known(host: str) -> None:
    assert Hosts(["Metrics.Internal"], own="web-1").has(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9090",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "notlocalhost",
        "internal",
        "x.metrics.internal",
        "1.2.3",
        ":9090",
        "",
    ],
)
def test_other_names_are_strange(host: str) -> None:
    assert not Hosts(["metrics.internal"], own="web-1").has(host)


def test_any_name_can_be_had() -> None:
    assert Hosts(["*"]).has("evil.example")


def test_the_machine_knows_its_own_name() -> None:
    assert Hosts([]).has(f"{socket.gethostname()}:9090")
