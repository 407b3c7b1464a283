#!/usr/bin/env bash
# Software: Linux 6.18 (the kernel of the machine), Python 3's standard library; nothing to install.
# Guess:    IP_MINTTL (ip(7): "discard packets with a lower TTL") on a listening socket concerns the
#           packets of connections, as the BGP daemons that it was made for use it; an unprivileged
#           process has no way to make a listener deaf without losing what waits in its queue.
# Seen:     with 255 on the listener, the kernel drops each SYN that came from a normal sender (a
#           TTL of 64), loopback included, and the sender tries again, as on a lossy network.
#           Connections that were queued before are accepted, and their data flows. No right is
#           needed. A dual-stack listener needs both options: IPV6_MINHOPCOUNT alone lets IPv4 in.
#           A connection whose handshake began before has the option's value of that time (0).
set -euo pipefail
seen=$(python3 - <<'PY'
import socket

IP_MINTTL, IPV6_MINHOPCOUNT = 21, 73  # linux/in.h, linux/in6.h


def answers(family, address):
    """Try to connect for two seconds."""
    client = socket.socket(family)
    client.settimeout(2)
    try:
        client.connect(address)
    except TimeoutError:
        return False
    return True


with socket.create_server(("127.0.0.1", 0)) as listener:
    address = listener.getsockname()
    with socket.create_connection(address) as queued:
        listener.setsockopt(socket.IPPROTO_IP, IP_MINTTL, 255)
        print("a new client connects:", answers(socket.AF_INET, address))
        accepted, _ = listener.accept()
        with accepted:
            queued.sendall(b"data")
            print("a queued client is served:", accepted.recv(10) == b"data")
            print("its own limit:", accepted.getsockopt(socket.IPPROTO_IP, IP_MINTTL))
    listener.setsockopt(socket.IPPROTO_IP, IP_MINTTL, 0)
    print("set back to 0, a new client connects:", answers(socket.AF_INET, address))

with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
    port = listener.getsockname()[1]
    listener.setsockopt(socket.IPPROTO_IPV6, IPV6_MINHOPCOUNT, 255)
    print("dual stack, IPV6_MINHOPCOUNT alone, IPv6:", answers(socket.AF_INET6, ("::1", port)))
    print("dual stack, IPV6_MINHOPCOUNT alone, IPv4:", answers(socket.AF_INET, ("127.0.0.1", port)))
PY
)
expected='a new client connects: False
a queued client is served: True
its own limit: 0
set back to 0, a new client connects: True
dual stack, IPV6_MINHOPCOUNT alone, IPv6: False
dual stack, IPV6_MINHOPCOUNT alone, IPv4: True'
echo "$seen"
[[ $seen == "$expected" ]] || { echo "this has changed; it was:"; echo "$expected"; exit 1; }
