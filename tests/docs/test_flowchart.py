"""Flow charts of the pages, as SVG."""

from xml.etree import ElementTree

import pytest

from docs.flowchart import draw

CHART = """\
flowchart TD
  a["read"]
  subgraph b["check & train"]
    c["train"]
    d["test"]
    c --> d
  end
  e["stop"]
  a --> b
  a --> e
"""
Rectangle = tuple[float, float, float, float]


def rectangles(chart: str) -> dict[str, Rectangle]:
    """Left, top, right and bottom of boxes and frames, by name."""
    found = {}
    for group in ElementTree.fromstring(draw(chart)).iter("g"):
        shape, text = group
        x, y, width, height = (float(shape.attrib[n]) for n in ("x", "y", "width", "height"))
        found[text.text or ""] = (x, y, x + width, y + height)
    return found


def test_frame_surrounds_its_boxes() -> None:
    found = rectangles(CHART)
    left, top, right, bottom = found["check & train"]
    for name in ("train", "test"):
        x, y, to_x, to_y = found[name]
        assert left < x < to_x < right and top < y < to_y < bottom


def test_arrows_lead_down_and_alternatives_share_a_layer() -> None:
    found = rectangles(CHART)
    assert found["read"][3] < found["check & train"][1] == found["stop"][1]
    assert found["check & train"][2] < found["stop"][0]  # the frame, with the main flow, is first
    assert found["train"][3] < found["test"][1]
    assert len([*ElementTree.fromstring(draw(CHART)).iter("path")]) == 2 * 3  # lines and heads


def test_drawing_names_its_boxes_for_screen_readers() -> None:
    [svg] = ElementTree.fromstring(draw(CHART)).iter("svg")
    assert svg.attrib["aria-label"] == "Flow chart: read, check & train, train, test, stop"


@pytest.mark.parametrize(
    ("line", "message"), [("a --- e", "'a --- e'"), ("c --> e\na --> c", "skips a layer")]
)
def test_chart_that_cannot_be_drawn_is_refused(line: str, message: str) -> None:
    chart = f'flowchart TD\na["A"]\nc["C"]\ne["E"]\na --> e\n{line}\n'
    with pytest.raises(ValueError, match=message):
        draw(chart)
