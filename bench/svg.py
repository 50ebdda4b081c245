# SPDX-License-Identifier: GPL-2.0-only
"""Two kinds of plots, as SVG: horizontal bars, and lines over logarithmic axes."""
import math
from xml.sax.saxutils import escape

COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df")
STYLE = '<style>text{font:13px sans-serif;fill:#24292f}.t{font-size:15px;font-weight:bold}line{stroke:#d0d7de}</style>'


def _write(path, width, height, parts):
    with open(path, "w") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">\n'
                f'{STYLE}\n<rect width="{width}" height="{height}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n")


def bars(path, title, rows):
    """@rows: (label, value, goal or None)."""
    left, step, width = 240, 22, 760
    top = max(max(v, g or 0) for _, v, g in rows) * 1.08
    scale = (width - left - 70) / top
    parts = [f'<text class="t" x="10" y="22">{escape(title)}</text>']
    for i, (label, value, goal) in enumerate(rows):
        y = 40 + i * step
        colour = COLOURS[1] if goal and value < goal else COLOURS[0]
        parts.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{escape(label)}</text>')
        parts.append(f'<rect x="{left}" y="{y + 2}" width="{value * scale:.1f}" height="{step - 7}" fill="{colour}"/>')
        parts.append(f'<text x="{left + value * scale + 6:.1f}" y="{y + 13}">{value:.3g}</text>')
        if goal:
            x = left + goal * scale
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + step - 3}" style="stroke:#24292f;stroke-width:2"/>')
    _write(path, width, 50 + len(rows) * step, parts)


def _ticks(low, high):
    return [10 ** e * m for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in (1, 2, 5)
            if low * 0.999 <= 10 ** e * m <= high * 1.001]


def lines(path, title, xlabel, ylabel, series):
    """@series: label -> [(x, y)], all positive."""
    width, height, left, bottom = 760, 400, 70, 50
    points = [p for s in series.values() for p in s if p[1] > 0]
    if not points:
        return
    low = [min(p[i] for p in points) * 0.8 for i in (0, 1)]
    high = [max(p[i] for p in points) * 1.25 for i in (0, 1)]

    def at(p):
        part = [(math.log(p[i]) - math.log(low[i])) / (math.log(high[i]) - math.log(low[i])) for i in (0, 1)]
        return left + part[0] * (width - left - 190), height - bottom - part[1] * (height - bottom - 50)

    parts = [f'<text class="t" x="10" y="22">{escape(title)}</text>',
             f'<text x="{left}" y="42">{escape(ylabel)}</text>',
             f'<text x="{(width - 190 + left) / 2}" y="{height - 10}" text-anchor="middle">{escape(xlabel)}</text>']
    for x in sorted({p[0] for p in points}):
        px, _ = at((x, low[1]))
        parts.append(f'<text x="{px:.1f}" y="{height - bottom + 18}" text-anchor="middle">{x:g}</text>')
    for y in _ticks(low[1], high[1]):
        _, py = at((low[0], y))
        parts.append(f'<line x1="{left}" x2="{width - 190}" y1="{py:.1f}" y2="{py:.1f}"/>')
        parts.append(f'<text x="{left - 6}" y="{py + 4:.1f}" text-anchor="end">{y:g}</text>')
    for i, (label, values) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        dots = [at(p) for p in values if p[1] > 0]
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="'
                     + " ".join(f"{x:.1f},{y:.1f}" for x, y in dots) + '"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in dots]
        if dots:
            parts.append(f'<text x="{dots[-1][0] + 8:.1f}" y="{dots[-1][1] + 4:.1f}" style="fill:{colour}">{escape(label)}</text>')
    _write(path, width, height, parts)
