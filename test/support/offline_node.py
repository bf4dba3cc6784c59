"""The real node, with every socket beyond this machine refused at Python's level, and each attempt on record."""

import ipaddress
import sys

_LOOKED_UP = {"localhost", None, ""}


def refuse(event: str, arguments: tuple) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.bind"):
        address = arguments[1]
        if isinstance(address, tuple) and _beyond(address[0]):
            _stop(event, address)
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
        host = host.decode() if isinstance(host, bytes) else host
        if host not in _LOOKED_UP and _beyond(host):
            _stop(event, host)
    elif event == "urllib.Request":
        _stop(event, arguments[0])


def _beyond(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host not in _LOOKED_UP


def _stop(event: str, what: object) -> None:
    print(f"REFUSED {event} {what}", file=sys.stderr, flush=True)
    raise OSError(101, f"Network is unreachable: {what}")


sys.addaudithook(refuse)
if "--try" in sys.argv:  # that the refusal itself works
    import urllib.request

    urllib.request.urlopen("http://192.0.2.1/", timeout=5)

from vidllm_ros.node.main import main  # noqa: E402

main()
