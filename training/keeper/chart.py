"""The loss curve as an SVG, without a plotting library."""

from __future__ import annotations

import math

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 360, 56, 40, 34, 16
COLOURS = {"think_loss": "#0a6", "answer_loss": "#06c"}
LABELS = {"think_loss": "thought (which question is it)", "answer_loss": "thought and answer"}


def loss_curve(log: list[dict[str, float]], title: str) -> str:
    """Loss on a logarithmic axis over steps."""
    keys = [key for key in COLOURS if any(key in entry for entry in log)]
    values = [max(entry[key], 1e-4) for entry in log for key in keys if key in entry]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    steps = max(1.0, log[-1]["step"])

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / steps

    def y(loss: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - math.log10(max(loss, 1e-4))) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{title}</text>',
    ]
    for power in range(low, high + 1):
        at = y(10.0**power)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    for i in range(5):
        parts.append(f'<text x="{x(steps * i / 4):.1f}" y="{HEIGHT - 20}" text-anchor="middle">{steps * i / 4:.0f}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 4}" text-anchor="middle">step</text>')
    for n, key in enumerate(keys):
        points = " ".join(f"{x(e['step']):.1f},{y(e[key]):.1f}" for e in log if key in e)
        parts.append(f'<polyline fill="none" stroke="{COLOURS[key]}" stroke-width="1.5" points="{points}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT - 220}" y="{TOP + 16 + 16 * n}" fill="{COLOURS[key]}">{LABELS[key]}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
