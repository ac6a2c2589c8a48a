"""
The drawings of the documentation: who says what to whom, from top to bottom.

A drawing is a table of steps; the SVG that "script/docs" makes of it needs no font and
no script, and is read in light and dark.
"""

from html import escape

LANE, ROW, TOP, MARGIN = 300, 40, 56, 110
STYLE = """
  .paper { fill: #fff } .lane { stroke: #78909c; stroke-dasharray: 3 4 }
  text { font: 14px system-ui, sans-serif; fill: #263238 }
  .head { fill: #00796b } .head + text { fill: #fff; font-weight: 600 }
  .arrow { stroke: #00796b; stroke-width: 1.5 } .tip, .number { fill: #00796b }
  .passes { stroke-width: 4 } .number + text { fill: #fff; font-size: 12px }
  .note { fill: #eceff1 }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #1e2129 } text { fill: #eceff1 } .note { fill: #37474f }
    .arrow { stroke: #4db6ac } .tip { fill: #4db6ac }
  }
"""

# (from, to, what); where both are the same, it is something that one does alone. What
# begins with a number is explained under that number on the page. "+" at the end: a
# descriptor is passed.
HAND_OVER = (
    "A connection on its way to its worker",
    ("client", "master", "worker of slot 2"),
    (
        ("client", "master", "connect"),
        ("master", "master", "1 accept"),
        ("client", "master", "request"),
        ("master", "master", "2 peek: the bytes stay in the kernel"),
        ("master", "master", "3 sniff: a request head? which key?"),
        ("master", "master", "4 place: the key lives in slot 2"),
        ("master", "worker of slot 2", "5 HANDOFF and the descriptor +"),
        ("worker of slot 2", "worker of slot 2", "6 adopt the socket"),
        ("worker of slot 2", "master", "TAKEN"),
        ("master", "master", "7 keep our copy, for the case of death"),
        ("worker of slot 2", "client", "8 response, and everything else"),
    ),
)
RETURN = (
    "A connection whose next request belongs to another worker",
    ("client", "worker of slot 2", "master", "worker of slot 0"),
    (
        ("client", "worker of slot 2", "request"),
        ("worker of slot 2", "worker of slot 2", "9 whose key is this? not ours"),
        ("worker of slot 2", "master", "RETURN and the descriptor +"),
        ("master", "master", "10 place by the key"),
        ("master", "worker of slot 0", "HANDOFF and the descriptor +"),
        ("worker of slot 0", "worker of slot 0", "11 adopt, TAKEN, serve"),
        ("worker of slot 0", "client", "response"),
    ),
)
DRAWINGS = {
    "explanation/one-connection.svg": HAND_OVER,
    "explanation/return.svg": RETURN,
}


def svg(title, lanes, steps):
    """Draw *steps* between *lanes*."""
    at = {lane: MARGIN + LANE * n for n, lane in enumerate(lanes)}
    width = 2 * MARGIN + LANE * (len(lanes) - 1)
    height = TOP + ROW * len(steps) + 20
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" role="img"',
        f' viewBox="0 0 {width} {height}">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{width}" height="{height}" rx="6"/>',
    ]
    for lane, x in at.items():
        lines.append(f'<path class="lane" d="M{x} 40V{height - 12}"/>')
        lines += box("head", x, 24, 170, lane)
    for n, (giver, taker, what) in enumerate(steps):
        lines += step(at[giver], at[taker], TOP + ROW * n + 24, what)
    return "\n".join([*lines, "</svg>", ""])


def step(start, end, y, what):
    """Draw one step; it begins at *start* and ends at *end*."""
    text = what.removesuffix("+").strip()
    number, _, rest = text.partition(" ")
    if not number.isdigit():
        number, rest = "", text
    if start == end:
        lines = box("note", start, y, 8 * len(rest) + 44, rest)
        left = start - 4 * len(rest) - 22
    else:
        forth = 1 if end > start else -1
        passes = " passes" if what.endswith("+") else ""
        left = min(start, end) + 20
        # A descriptor's arrow is thick; its tip is as large as the others.
        lines = [
            f'<path class="arrow{passes}" d="M{start} {y}H{end - 10 * forth}"/>',
            f'<path class="tip" d="M{end} {y}l{-12 * forth} -6v12z"/>',
            f'<text x="{left + 18 * bool(number)}" y="{y - 8}">{escape(rest)}</text>',
        ]
    if number:
        middle = y if start == end else y - 13
        lines += [
            f'<circle class="number" cx="{left}" cy="{middle}" r="10"/>',
            f'<text x="{left}" y="{middle + 4}" text-anchor="middle">{number}</text>',
        ]
    return lines


def box(kind, x, y, width, text):
    """Draw *text* in a box around (*x*, *y*)."""
    return [
        f'<rect class="{kind}" x="{x - width / 2:g}" y="{y - 14}"',
        f' width="{width}" height="28" rx="5"/>',
        f'<text x="{x}" y="{y + 5}" text-anchor="middle">{escape(text)}</text>',
    ]
