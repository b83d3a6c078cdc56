"""The two pictures of the performance page as SVG, readable in light and dark themes. Standard library only."""

import html
import math

LIGHT = {
    "paper": "#ffffff",
    "ink": "#24292f",
    "faint": "#d0d7de",
    "soft": "#656d76",
    "ours": "#0b7a75",
    "peer": "#9a5b00",
    "bad": "#c62828",
}
DARK = {"paper": "#161b22", "ink": "#e6edf3", "faint": "#30363d", "soft": "#9198a1", "ours": "#4dd0c4", "peer": "#e3a857", "bad": "#ff8a80"}


def _colours(c):
    return (
        f".paper {{ fill: {c['paper']} }} text {{ fill: {c['ink']} }} text.soft {{ fill: {c['soft']} }} .grid {{ stroke: {c['faint']} }} "
        f".one, .roof, .goal {{ stroke: {c['ink']} }} .ours {{ fill: {c['ours']} }} .bad {{ fill: {c['bad']} }} .peer {{ stroke: {c['peer']} }} "
        f".whisker {{ stroke: {c['ours']} }} .badwhisker {{ stroke: {c['bad']} }}"
    )


STYLE = (
    "<style>\nsvg { font: 11px sans-serif } .right { text-anchor: end } .middle { text-anchor: middle } .small { font-size: 9px }\n"
    ".peer, .roof { fill: none } .one, .roof, .peer { stroke-width: 1.5 } .whisker, .badwhisker, .goal { stroke-width: 2 }\n"
    f"{_colours(LIGHT)}\n@media (prefers-color-scheme: dark) {{ {_colours(DARK)} }}\n</style>"
)


def _svg(width, height, label, parts):
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{html.escape(label)}">\n'
        f'{STYLE}\n<rect class="paper" width="{width}" height="{height}"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _text(x, y, text, kind=""):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{html.escape(text)}</text>'
        if kind
        else f'<text x="{x:.1f}" y="{y:.1f}">{html.escape(text)}</text>'
    )


def _line(x1, y1, x2, y2, kind):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _name(row):
    return " ".join([row["operation"], *(f"{k}={v}" for k, v in row.get("sizes", {}).items() if k not in ("n", "m", "H")), row["dtype"]])


def _shown(data):
    """The rows of the fewest threads."""
    rows = [r for r in data["rows"] if not r.get("cold") and r["ratio"] is not None and r["ours_us"]]
    fewest = min((r["threads"] for r in rows), default=1)
    return fewest, [r for r in rows if r["threads"] == fewest]


def ratios(data):
    """How many times as fast: a dot for the best peer (its whisker ends at the lower quartile), a ring for the peer as written, a tick
    for the goal; logarithmic."""
    threads, rows = _shown(data)
    left, right, top, step, width = 245, 20, 48, 16, 800
    values = [v for r in rows for v in (r["ratio"], r["ratio_q25"], r.get("peer_ratio"), r.get("goal_ratio")) if v]
    low, high = min([0.5, *values]) / 1.1, max([4, *values]) * 1.15
    bottom = top + step * len(rows)

    def x(value):
        return left + (width - left - right) * (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))

    parts = [_text(left, 16, f"PyTorch's time / graft's, {threads} thread{'s' if threads > 1 else ''} (right of 1: graft is faster)")]
    legend = left
    for kind, name in (("ours", "best peer, to its lower quartile"), ("peer", "as users write it"), ("goal", "goal against the best peer")):
        parts.append(
            f'<circle cx="{legend + 5:.1f}" cy="28.0" r="4" class="{kind}"/>'
            if kind != "goal"
            else _line(legend + 5, 23, legend + 5, 33, "goal")
        )
        parts.append(_text(legend + 14, 32, name, "soft"))
        legend += 30 + 6 * len(name)
    ticks = [v for power in range(-2, 6) for v in (1 * 10.0**power, 2 * 10.0**power, 5 * 10.0**power) if low <= v <= high]
    if len(ticks) > 12:
        ticks = [v for v in ticks if abs(math.log10(v) - round(math.log10(v))) < 1e-9]
    for tick in ticks:
        parts.append(_line(x(tick), top - 4, x(tick), bottom, "one" if tick == 1 else "grid"))
        parts.append(_text(x(tick), bottom + 14, f"{tick:g}", "soft middle"))
    for index, row in enumerate(rows):
        y = top + step * index + step / 2
        bad = row["ratio_q25"] < 0.95
        parts.append(_text(left - 8, y + 4, _name(row), "right"))
        if row.get("goal_ratio"):
            parts.append(_line(x(row["goal_ratio"]), y - 5, x(row["goal_ratio"]), y + 5, "goal"))
        parts.append(_line(x(row["ratio_q25"]), y, x(row["ratio"]), y, "badwhisker" if bad else "whisker"))
        if row.get("peer_ratio"):
            parts.append(f'<circle cx="{x(row["peer_ratio"]):.1f}" cy="{y:.1f}" r="4" class="peer"/>')
        parts.append(f'<circle cx="{x(row["ratio"]):.1f}" cy="{y:.1f}" r="4" class="{"bad" if bad else "ours"}"/>')
    return _svg(width, bottom + 24, "How many times as fast as PyTorch, by row", parts)


def roofline(data):
    """Flops a second over flops a byte, with the roofs of the levels of memory."""
    threads, rows = _shown(data)
    rows = [r for r in rows if r.get("flops")]
    limits = data["limits"][str(threads)]["used"]
    left, right, top, width, height = 50, 270, 40, 840, 420
    bottom = height - 40
    points = [(r["flops"] / (r["bytes_read"] + r["bytes_written"]), r["flops"] / r["ours_us"] / 1e3, r) for r in rows]  # flop/byte, Gflop/s
    peak = limits["fma_flops"] / 1e9
    x_low, x_high = 0.1, max([100.0, *(p[0] * 1.5 for p in points)])
    y_low, y_high = min([peak / 100, *(p[1] / 1.5 for p in points)]), peak * 1.6

    def x(value):
        return left + (width - left - right) * math.log(value / x_low) / math.log(x_high / x_low)

    def y(value):
        return bottom - (bottom - top) * math.log(value / y_low) / math.log(y_high / y_low)

    parts = [
        _text(
            left,
            16,
            f"Gflop/s over flops per byte that must move, {threads} thread{'s' if threads > 1 else ''}; lines: what the machine allows (reading, fp32)",
        )
    ]
    for power in range(-1, 4):
        if x_low <= 10.0**power <= x_high:
            parts.append(_line(x(10.0**power), top, x(10.0**power), bottom, "grid"))
            parts.append(_text(x(10.0**power), bottom + 14, f"{10.0**power:g}", "soft middle"))
    for power in range(-1, 5):
        if y_low <= 10.0**power <= y_high:
            parts.append(_line(left, y(10.0**power), width - right, y(10.0**power), "grid"))
            parts.append(_text(left - 6, y(10.0**power) + 4, f"{10.0**power:g}", "soft right"))
    for level, speeds in limits["bytes_per_second"].items():
        speed = speeds["read"] / 1e9
        ridge = peak / speed
        start = max(x_low, y_low / speed)
        if start >= min(ridge, x_high):
            continue
        parts.append(
            f'<polyline class="roof" points="{x(start):.1f},{y(start * speed):.1f} {x(min(ridge, x_high)):.1f},{y(min(ridge, x_high) * speed):.1f} {x(x_high):.1f},{y(peak):.1f}"/>'
        )
        parts.append(_text(x(start) + 16, y(start * speed) + 2, f"{level} {speed:.0f} GB/s", "soft"))
    parts.append(_text(width - right - 4, y(peak) - 6, f"peak {peak:.0f} Gflop/s", "soft right"))
    # Numbers at the dots, names beside the picture.
    for index, (intensity, speed, row) in enumerate(points, 1):
        parts.append(f'<circle cx="{x(intensity):.1f}" cy="{y(speed):.1f}" r="4" class="ours"/>')
        parts.append(_text(x(intensity) + 6, y(speed) + (-3 if index % 2 else 9), str(index), "small"))
        parts.append(_text(width - right + 40, top + 13 * index - 6, f"{index}  {_name(row)}: {speed:.0f}", "small"))
    return _svg(width, height, "Flops a second over flops a byte, below the roof of the machine", parts)
