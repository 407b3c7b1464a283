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
    for server in ("127.0.0.1", "10.1.2.3"):
        assert Hosts(["Metrics.Internal"], own="web-1").has(host, server)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9090",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "x.metrics.internal",
        "1.2.3",
        "shop/x",
        "12",
        ":9090",
        "",
    ],
)
def test_other_names_are_strange(host: str) -> None:
    for server in ("127.0.0.1", "10.1.2.3"):
        assert not Hosts(["metrics.internal"], own="web-1").has(host, server)


@pytest.mark.parametrize("host", ["clusterd:9000", "Shop_Web.", "notlocalhost", "internal"])
def test_a_name_without_a_dot_is_known_where_the_connection_is_from_the_network(host: str) -> None:
    """As that of a service in a container network. Public DNS has no such names."""
    hosts = Hosts(["metrics.internal"], own="web-1")
    for server in ("172.18.0.3", "fd00::3", "fe80::1%eth0", "::ffff:172.18.0.3"):
        assert hosts.has(host, server)
    for server in ("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "unknown", ""):
        assert not hosts.has(host, server)


def test_any_name_can_be_had() -> None:
    assert Hosts(["*"]).has("evil.example", "127.0.0.1")


def test_the_machine_knows_its_own_name() -> None:
    assert Hosts([]).has(f"{socket.gethostname()}:9090", "127.0.0.1")
