"""Plots of an evaluation as inline SVG. Colours are the classes c0, c1, ... of the page, one per method."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from difflid.evaluation.results import Results, Row, Summary, heading, shown

__all__ = ["COLOURS", "gain_plot", "legend", "mean_plot"]

COLOURS = 8  # classes on the page; further methods use them again
WIDTH, LEFT, RIGHT = 720, 170, 64  # pixels: whole plot, names of the rows, values
LINE, GAP, TOP = 20, 14, 8  # of a row, between groups, above


@dataclass(frozen=True)
class Axis:
    """A horizontal axis over values from low to high."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Give the place of a value in pixels."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def ticks(self) -> list[float]:
        """Give five or so round values on the axis."""
        step = next(s for s in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 1e3) if (self.high - self.low) / s <= 7)
        first = int(self.low // step) + (self.low % step > 0)
        return [round(i * step, 6) for i in range(first, int(self.high // step) + 1)]


def legend(names: Sequence[str]) -> str:
    """List the methods with their colours."""
    items = (f'<span class="key"><i class="c{i % COLOURS}"></i>{escape(name)}</span>' for i, name in enumerate(names))
    return f'<p class="legend">{"".join(items)}</p>'


def mean_plot(results: Results, score: str) -> str:
    """Draw a bar per method, grouped by set, for the sets that have this score."""
    groups = [
        (each.name, [results.summary(method.name, each.name) for method in results.methods]) for each in results.sets
    ]
    groups = [(name, summaries) for name, summaries in groups if score in summaries[0].scores]
    if not groups:
        return ""
    axis = Axis(0, max(each.scores[score] for _, summaries in groups for each in summaries) * 1.02 or 1)
    body, y = [], TOP
    for name, summaries in groups:
        body.append(_group_name(name, y + len(summaries) * LINE / 2))
        body += [_bar(axis, i, each, score, y + i * LINE) for i, each in enumerate(summaries)]
        y += len(summaries) * LINE + GAP
    return _svg(axis, body, y, f"mean {heading(score)}")


def gain_plot(results: Results, score: str = "gain") -> str:
    """Draw a dot per picture and a line at the mean, one row per method and set, for the sets that have this score."""
    colours = {each.name: i for i, each in enumerate(results.methods) if each.name != "hazy"}  # hazy gains nothing
    groups = [(each.name, [(i, results.of(name, each.name)) for name, i in colours.items()]) for each in results.sets]
    groups = [(name, found) for name, found in groups if found and score in found[0][1][0].scores]
    if not groups:
        return ""
    values = [row.scores[score] for _, found in groups for _, rows in found for row in rows]
    axis = Axis(min(-1.0, *values) - 0.5, max(1.0, *values) + 0.5)
    body, y = [], TOP
    for name, found in groups:
        body.append(_group_name(name, y + len(found) * LINE / 2))
        body += [_dots(axis, colour, rows, score, y + (i + 0.5) * LINE) for i, (colour, rows) in enumerate(found)]
        y += len(found) * LINE + GAP
    zero = f'<line class="zero" x1="{axis.at(0):.1f}" x2="{axis.at(0):.1f}" y1="{TOP}" y2="{y}"/>'
    return _svg(axis, [zero, *body], y, "gain over the hazy input, dB PSNR, per picture")


def _svg(axis: Axis, body: Sequence[str], bottom: float, label: str) -> str:
    ticks = "".join(
        f'<line class="grid" x1="{axis.at(t):.1f}" x2="{axis.at(t):.1f}" y1="{TOP}" y2="{bottom:.0f}"/>'
        f'<text class="tick" x="{axis.at(t):.1f}" y="{bottom + 14:.0f}">{t:g}</text>'
        for t in axis.ticks()
    )
    return (
        f'<figure class="plot"><svg viewBox="0 0 {WIDTH} {bottom + 20:.0f}" role="img" aria-label="{escape(label)}">'
        f"{ticks}{''.join(body)}</svg><figcaption>{escape(label)}</figcaption></figure>"
    )


def _group_name(name: str, y: float) -> str:
    short = name if len(name) <= 24 else f"{name[:11]}…{name[-12:]}"
    return f'<text class="group" x="{LEFT - 12}" y="{y + 4:.0f}">{escape(short)}<title>{escape(name)}</title></text>'


def _bar(axis: Axis, index: int, each: Summary, score: str, y: float) -> str:
    value = each.scores[score]
    start, end = axis.at(0), axis.at(value)
    return (
        f'<rect class="c{index % COLOURS}" x="{start:.1f}" y="{y + 3:.0f}" width="{end - start:.1f}" '
        f'height="{LINE - 6}" rx="2"><title>{escape(each.method)}</title></rect>'
        f'<text class="value" x="{end + 6:.1f}" y="{y + LINE / 2 + 4:.0f}">{shown(score, value)}</text>'
    )


def _dots(axis: Axis, index: int, rows: Sequence[Row], score: str, y: float) -> str:
    dots = "".join(
        f'<circle cx="{axis.at(row.scores[score]):.1f}" cy="{y + (i * 7 % 11 - 5) * 0.9:.1f}" r="3"><title>'
        f"{escape(row.method)}, {escape(row.picture)}: {row.scores[score]:+.2f}</title></circle>"
        for i, row in enumerate(rows)
    )
    mean = sum(row.scores[score] for row in rows) / len(rows)
    x, reach = axis.at(mean), LINE / 2 - 1
    mark = f'<line class="mean" x1="{x:.1f}" x2="{x:.1f}" y1="{y - reach:.1f}" y2="{y + reach:.1f}"/>'
    value = f'<text class="value" x="{WIDTH - RIGHT + 8}" y="{y + 4:.0f}">{mean:+.2f}</text>'
    return f'<g class="dots c{index % COLOURS}">{dots}{mark}</g>{value}'
