"""Flow charts in Mermaid's notation, drawn as SVG without a renderer or a network.

Known are boxes, nested frames, and arrows between members of one frame. The main flow stays at the
left, so a phone shows it without scrolling. `docs/assets/site.css` has the colours.
"""

import re
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from html import escape

CHARACTER, LINE = 6.3, 28  # pixels: width of a character, height of a box or of a title
GAP, PADDING, INSET = 20, 9, 14  # between layers, inside frames, from a box's left to its arrows


@dataclass
class Node:
    """A box, or a frame with members; its place is relative to the frame around it."""

    name: str
    is_frame: bool = False
    members: dict[str, "Node"] = field(default_factory=dict)
    arrows: list[tuple[str, str]] = field(default_factory=list)
    x: float = 0
    y: float = 0
    width: float = 0
    height: float = LINE


def draw(chart: str) -> str:
    """Draw a flow chart, given as lines of Mermaid, as one line of HTML.

    Raises:
        ValueError: if a line is unknown, or an arrow skips a layer.
    """
    root = _read(chart)
    _place(root, title=0)
    names = escape(", ".join(re.findall(r'\["(.+)"\]', chart)))
    width, height = f"{root.width:.0f}", f"{root.height:.0f}"
    return (
        f'<div class="flowchart" tabindex="0"><svg role="img" aria-label="Flow chart: {names}" '
        f'width="{width}" viewBox="0 0 {width} {height}">{"".join(_shapes(root))}</svg></div>'
    )


def _read(chart: str) -> Node:
    root = Node("", is_frame=True)
    open_frames = [root]
    for line in map(str.strip, chart.splitlines()):
        frame = open_frames[-1]
        if box := re.fullmatch(r'(subgraph )?(\w+)\["(.+)"\]', line):
            node = frame.members[box[2]] = Node(box[3], is_frame=bool(box[1]))
            open_frames += [node] * node.is_frame
        elif arrow := re.fullmatch(r"(\w+) --> (\w+)", line):
            frame.arrows.append((arrow[1], arrow[2]))
        elif line == "end":
            open_frames.pop()
        elif line and line != "flowchart TD":
            raise ValueError(f"flow chart: {line!r} is not a box, a frame, an arrow or an end")
    return root


def _layers(frame: Node) -> dict[str, int]:
    """Layer of each member: below all members with an arrow to it."""
    before = {name: [a for a, b in frame.arrows if b == name] for name in frame.members}
    layers: dict[str, int] = {}
    for name in TopologicalSorter(before).static_order():
        layers[name] = max((layers[each] + 1 for each in before[name]), default=0)
    for source, target in frame.arrows:
        if layers[target] - layers[source] > 1:
            raise ValueError(f"flow chart: the arrow {source} --> {target} skips a layer")
    return layers


def _place(node: Node, title: float = LINE) -> None:
    """Set sizes, and places of members: layers from top to bottom, frames first in a layer."""
    node.width = len(node.name) * CHARACTER + 2 * PADDING
    if not node.is_frame:
        return
    layers, padding = _layers(node), PADDING if title else 1
    y = title or padding
    for layer in range(max(layers.values()) + 1):
        row = [member for name, member in node.members.items() if layers[name] == layer]
        x: float = padding
        for member in sorted(row, key=lambda member: not member.is_frame):
            _place(member)
            member.x, member.y = x, y
            x += member.width + PADDING
        node.width = max(node.width, x - PADDING + padding)
        y += max(member.height for member in row) + GAP
    node.height = y - GAP + padding


def _shapes(frame: Node, left: float = 0, top: float = 0) -> list[str]:
    """SVG of members and arrows, with absolute places."""
    shapes = []
    for each in frame.members.values():
        x, y = left + each.x, top + each.y
        shapes.append(
            f'<g class="{"frame" if each.is_frame else "box"}"><rect x="{x:.0f}" y="{y:.0f}" '
            f'width="{each.width:.0f}" height="{each.height:.0f}" rx="4"/>'
            f'<text x="{x + PADDING:.0f}" y="{y + 18:.0f}">{escape(each.name)}</text></g>'
        )
        shapes += _shapes(each, x, y)
    for source, target in ((frame.members[a], frame.members[b]) for a, b in frame.arrows):
        x, end = left + source.x + INSET, left + target.x + INSET
        bottom, arrival = top + source.y + source.height, top + target.y
        line = f"M{x:.0f} {bottom:.0f}V{arrival - GAP / 2:.0f}H{end:.0f}V{arrival - 6:.0f}"
        head = f"M{end - 4:.0f} {arrival - 7:.0f}h8l-4 6z"
        shapes.append(f'<path d="{line}"/><path class="head" d="{head}"/>')
    return shapes
