"""IP addresses. Those that mean this machine, any machine, or a netmask stay; so do versions such as v1.2.3.4.

An IPv6 address is taken where it has all eight groups or begins like one that is in use (2000::/3, fc00::/7,
fe80::/10, ::ffff:0:0/96), so that `std::vector` and times stay.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from router.export.redact.base import Span

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_V4 = re.compile(rf"(?<![\w.])(?<!version )(?<!Version ){_OCTET}(?:\.{_OCTET}){{3}}(?![\w]|\.[0-9])")
_V6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9.]{7,15}|[0-9A-Fa-f]{1,4})?(?![\w:])")
_IN_USE = re.compile(r"(?i)(?:[23][0-9a-f]{3}|f[cd][0-9a-f]{2}|fe[89ab][0-9a-f]):|::ffff:[0-9]")
_V6_COLONS = 7


class Ip:
    def find(self, text: str) -> Iterator[Span]:
        for match in (*_V4.finditer(text), *_V6.finditer(text)):
            address = _address(match[0])
            if address is not None:
                yield Span(match.start(), match.end(), "IP", str(address))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if address.is_loopback or address.is_unspecified:
        return None
    if address.version == 4:
        return None if text.startswith("255.") else address
    return address if _IN_USE.match(text) or text.count(":") == _V6_COLONS else None
