"""A bar plot of the rates, as SVG."""

from html import escape
from typing import Final

_SERVERS: Final = {
    "Klein": ("hbtd, Klein", "#b0b7c3"),
    "hbtd": ("hbtd, fast lane", "#2f6fb0"),
    "bare loop": ("bare loop", "#e0a030"),
    "nginx": ("nginx, 200", "#6aa84f"),
}
"""The label and the colour of each server, in the order of the bars."""

_LEFT, _WIDTH, _BAR, _GAP, _TOP = 270, 460, 16, 18, 40


def svg(rates: dict[str, dict[str, float]]) -> str:
    """Return a plot of requests per second: a group for each case, a bar for each server."""
    most = max(rate for servers in rates.values() for rate in servers.values())
    parts: list[str] = []
    y = _TOP
    for case, servers in rates.items():
        middle = y + len(servers) * _BAR / 2 + 4
        parts.append(_text(_LEFT - 10, middle, case, "end"))
        for name in (each for each in _SERVERS if each in servers):
            rate = servers[name]
            width = rate / most * _WIDTH
            parts.append(
                f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR - 2}"'
                f' fill="{_SERVERS[name][1]}"/>'
            )
            parts.append(_text(_LEFT + width + 6, y + 11, f"{rate:,.0f}"))
            y += _BAR
        y += _GAP
    x = float(_LEFT)
    for label, colour in _SERVERS.values():
        parts.append(f'<rect x="{x}" y="12" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(x + 18, 22, label))
        x += 130
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 80}" height="{y}"'
        ' font-family="sans-serif" font-size="12" role="img">\n'
        "<title>Requests per second on one core</title>\n"
        '<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
