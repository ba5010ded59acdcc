"""Curves and maps of a study as inline SVG, for the page that ``evaluation`` gives its looks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from difflid.evaluation.plots import COLOURS
from difflid.study.estimates import Estimate
from difflid.study.maps import PrincipalMap

__all__ = ["curves", "haze_legend", "principal_plot"]

WIDTH, HEIGHT = 520, 250  # pixels of a plot of curves
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 10, 30
MAP, REACH, DOT = 220, 3.2, 2.4  # side of a map in pixels; standard deviations to its edge; radius of a dot
DENSITIES = 5  # classes h0 (clearest), h1, ... of the page


@dataclass(frozen=True)
class Frame:
    """Where values lie in a plot."""

    xs: tuple[float, float]  # range
    ys: tuple[float, float]

    def x(self, value: float) -> float:
        """Give the place of a value from the left, in pixels."""
        return LEFT + (value - self.xs[0]) / (self.xs[1] - self.xs[0]) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Give the place of a value from the top, in pixels."""
        return TOP + (self.ys[1] - value) / (self.ys[1] - self.ys[0]) * (HEIGHT - TOP - BOTTOM)


def curves(label: str, timesteps: Sequence[int], found: Mapping[str, Sequence[Estimate]]) -> str:
    """Draw curves over the time-steps, with bars of one standard error."""
    low = min(each.mean - each.error for points in found.values() for each in points)
    high = max(each.mean + each.error for points in found.values() for each in points)
    margin = (high - low) * 0.06 or 0.01
    edge = max(timesteps[-1] - timesteps[0], 1) * 0.04
    frame = Frame((timesteps[0] - edge, timesteps[-1] + edge), (low - margin, high + margin))
    body = [_grid(frame, timesteps)]
    body += [_curve(frame, index, timesteps, points) for index, points in enumerate(found.values())]
    return (
        f'<figure class="plot"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{''.join(body)}</svg>{_legend(list(found))}<figcaption>{escape(label)}</figcaption></figure>"
    )


def _legend(names: Sequence[str]) -> str:
    items = (f'<span class="key"><i class="c{i % COLOURS}"></i>{escape(name)}</span>' for i, name in enumerate(names))
    return f'<p class="legend">{"".join(items)}</p>'


def _grid(frame: Frame, timesteps: Sequence[int]) -> str:
    columns = "".join(
        f'<text class="tick" x="{frame.x(t):.1f}" y="{HEIGHT - BOTTOM + 18}">{t}</text>' for t in timesteps
    )
    rows = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{frame.y(v):.1f}" y2="{frame.y(v):.1f}"/>'
        f'<text class="tick level" x="{LEFT - 8}" y="{frame.y(v) + 4:.1f}">{v:g}</text>'
        for v in _round_values(*frame.ys)
    )
    return rows + columns


def _round_values(low: float, high: float) -> list[float]:
    """Give four to nine round values between the two."""
    power = 10 ** math.floor(math.log10(high - low))
    step = next(share * power for share in (0.1, 0.2, 0.5, 1, 2) if (high - low) / (share * power) <= 8)
    return [round(i * step, 9) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _curve(frame: Frame, index: int, timesteps: Sequence[int], points: Sequence[Estimate]) -> str:
    places = [(frame.x(t), each) for t, each in zip(timesteps, points, strict=True)]
    line = " ".join(f"{x:.1f},{frame.y(each.mean):.1f}" for x, each in places)
    marks = "".join(
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{frame.y(each.mean - each.error):.1f}" '
        f'y2="{frame.y(each.mean + each.error):.1f}"/>'
        f'<circle cx="{x:.1f}" cy="{frame.y(each.mean):.1f}" r="3.5"><title>{each}</title></circle>'
        for x, each in places
    )
    return f'<g class="curve c{index % COLOURS}"><polyline points="{line}"/>{marks}</g>'


def principal_plot(timestep: int, found: PrincipalMap, transmission: Sequence[float]) -> str:
    """Draw a dot for every hazy picture, coloured by the density of its haze."""
    dots = "".join(
        f'<circle class="h{min(int((1 - t) * DENSITIES), DENSITIES - 1)}" '
        f'cx="{_on_map(x):.1f}" cy="{MAP - _on_map(y):.1f}" r="{DOT}"/>'
        for (x, y), t in zip(found.points, transmission, strict=True)
    )
    axes = zip(found.explained, found.correlation, strict=True)
    along, up = (f"{share:.0%}, r = {r:.2f}" for share, r in axes)
    return (
        f'<figure class="plot"><svg viewBox="0 0 {MAP} {MAP}" role="img" aria-label="map at time-step {timestep}">'
        f"{dots}</svg><figcaption><b>t = {timestep}</b><br>across: {along}<br>up: {up}</figcaption></figure>"
    )


def _on_map(value: float) -> float:
    return max(-REACH, min(REACH, value)) / REACH * (MAP / 2 - DOT) + MAP / 2


def haze_legend() -> str:
    """Name the colours of the maps."""
    bounds = [f"{i / DENSITIES:.1f} to {(i + 1) / DENSITIES:.1f}" for i in range(DENSITIES)]
    keys = "".join(f'<span class="key"><i class="h{i}"></i>{text}</span>' for i, text in enumerate(bounds))
    return f'<p class="legend"><span>share of haze in the picture:</span>{keys}</p>'
