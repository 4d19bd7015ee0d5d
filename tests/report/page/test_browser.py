"""The page as a reader has it: in a browser, without a network, in light and dark, on a phone and on paper."""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.report.scenes import CLASSES, END, IMAGE, PAIRS, SCRIPT


@pytest.fixture
def page(browser: Any, hostile_page: Path) -> Any:
    """The page, freshly loaded in light on a wide screen."""
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    prefer(browser, "light")
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(hostile_page.as_uri())
    browser.execute_script("for (const fold of document.querySelectorAll('details.group')) fold.open = true")
    return browser


def prefer(browser: Any, scheme: str, *, media: str = "") -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def one(page: Any, selector: str) -> Any:
    return page.find_element("css selector", selector)


def every(page: Any, selector: str) -> list[Any]:
    return list(page.find_elements("css selector", selector))


def texts(page: Any, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map((found) => found.textContent.trim())"
    return list(page.execute_script(script, selector))


def click(page: Any, element: Any) -> None:
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()


def choose(page: Any, selector: str, value: str) -> None:
    script = (
        "const found = document.querySelector(arguments[0]); found.value = arguments[1];"
        "for (const kind of ['input', 'change']) found.dispatchEvent(new Event(kind, {bubbles: true}));"
    )
    page.execute_script(script, selector, value)


def test_it_loads_in_silence_and_asks_nothing_of_anyone(page: Any, hostile_page: Path) -> None:
    events = [json.loads(line["message"])["message"] for line in page.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert hostile_page.as_uri() in asked
    assert [url for url in asked if url != hostile_page.as_uri() and not url.startswith("data:")] == []
    assert page.get_log("browser") == []
    assert len(every(page, "details.group")) == 2


def test_names_do_nothing(page: Any) -> None:
    assert page.execute_script("return window.harmed === undefined")
    assert page.execute_script("return document.scripts.length") == 2
    sources = page.execute_script("return [...document.images].map((image) => image.src)")
    assert len(sources) == 5  # the frames of the one clip that is available
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    handlers = "return [...document.querySelectorAll('*')].flatMap((node) => node.getAttributeNames())"
    assert not [name for name in page.execute_script(handlers) if name.startswith("on")]
    shown = page.execute_script("return document.body.textContent")
    for name in (*CLASSES[:4], END, IMAGE, SCRIPT):
        assert name in shown
    assert "49" not in texts(page, ".truth")
    for pair in (name for name, *_ in PAIRS):
        assert pair in texts(page, ".result tbody th bdi")
        assert pair in texts(page, ".forest tbody th bdi") or pair == "frozen+frozen"


def test_what_would_get_through_is_stopped_by_the_policy(page: Any) -> None:
    page.execute_script(
        "const added = document.createElement('script'); added.textContent = 'window.harmed = true';"
        "document.body.append(added);"
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"https://example.org/x.png\">');"
    )
    assert page.execute_script("return window.harmed === undefined")
    refused = [line["message"] for line in page.get_log("browser")]
    assert any("script" in message and "Content Security Policy" in message for message in refused)
    assert any("image" in message and "Content Security Policy" in message for message in refused)


def test_a_table_sorts_both_ways_with_unknown_numbers_last(page: Any) -> None:
    table = every(page, "#group-0 .result table")[0]
    heading = table.find_elements("css selector", "thead th")[2]
    assert heading.text.startswith("K=all")

    def means() -> list[str]:
        script = "return [...arguments[0].tBodies[0].rows].map((row) => row.cells[2].dataset.value ?? '')"
        return list(page.execute_script(script, table))

    for direction, state in ((-1, "descending"), (1, "ascending")):
        click(page, heading.find_element("css selector", "button"))
        values = means()
        assert values[-1] == ""  # the pair without a number at this K
        known = [float(value) for value in values[:-1]]
        assert known == sorted(known, key=lambda value: direction * value)
        assert len(set(known)) > 3
        assert heading.get_attribute("aria-sort") == state
    names = table.find_elements("css selector", "thead th button")[0]
    click(page, names)
    shown = page.execute_script("return [...arguments[0].tBodies[0].rows].map((row) => row.dataset.name)", table)
    assert (
        shown.index("dora+adapter") < shown.index("frozen+frozen") < shown.index("lora+frozen") < shown.index("x" * 80)
    )


def test_the_filter_of_a_data_set_hides_rows_and_curves(page: Any) -> None:
    one(page, "#group-0 .filter").send_keys("DORA")
    rows = [row for row in every(page, "#group-0 .result tbody tr") if row.is_displayed()]
    assert {row.get_attribute("data-name") for row in rows} == {"dora+adapter"}
    curves = [curve for curve in every(page, "#group-0 .curves .series") if curve.is_displayed()]
    assert [curve.get_attribute("data-pair") for curve in curves] == ["dora+adapter"]
    assert "rows" in one(page, "#group-0 .controls output").text
    assert all(row.is_displayed() for row in every(page, "#group-1 .result tbody tr"))


def test_cells_are_found_by_words_and_state(page: Any) -> None:
    total = len(PAIRS) * 2 * 2 * 3
    assert one(page, "#cells-count").text == f"{total} of {total} cells"
    choose(page, "#cells-state", "failed")
    assert one(page, "#cells-count").text == f"4 of {total} cells"
    choose(page, "#cells-filter", "hmdb51 k=all")
    assert one(page, "#cells-count").text == f"1 of {total} cells"
    assert "lora+frozen" in texts(page, "#cells-table tbody td")
    choose(page, "#cells-filter", "no such cell")
    assert one(page, "#cells-count").text == f"0 of {total} cells"


def test_the_pair_whose_classes_are_shown_can_be_chosen(page: Any) -> None:
    panel = "#group-0 .classes"
    before = texts(page, f"{panel} .confusion rect title")
    assert "dora+adapter against frozen+frozen, paired over 3" in one(page, f"{panel} .gains figcaption").text
    assert len(every(page, f"{panel} .gain-row")) == len(CLASSES)
    assert len(every(page, f"{panel} .confused li")) == 10
    pairs = [name for name, *_ in PAIRS]
    choose(page, f"{panel} .pick-pair", str(pairs.index("lora+frozen")))
    after = texts(page, f"{panel} .confusion rect title")
    assert after != before
    assert "lora+frozen against frozen+frozen, paired over 2" in one(page, f"{panel} .gains figcaption").text
    assert "over 2 trained models" in one(page, f"{panel} .confusion figcaption").text
    counted = sum(int(title.rsplit(": ", 1)[1].split(" of ")[0]) for title in after if title)
    assert counted == 2 * 24  # every test clip of both models is somewhere in the matrix
    choose(page, f"{panel} .pick-pair", str(pairs.index("frozen+frozen")))
    assert "frozen towers" in one(page, f"{panel} .gains figcaption").text
    choose(page, f"{panel} .pick-pair", str(pairs.index("x" * 80)))
    assert "Nothing is known" in one(page, f"{panel} .confusion figcaption").text


def test_names_at_the_ends_of_lines_do_not_touch(page: Any) -> None:
    boxes = page.execute_script(
        "const ends = document.querySelectorAll('#group-0 .curves .end');"
        "return [...ends].map((end) => end.getBoundingClientRect().toJSON())"
    )
    assert len(boxes) == len(PAIRS)
    ordered = sorted(boxes, key=lambda box: box["top"])
    assert all(upper["bottom"] <= lower["top"] + 3 for upper, lower in pairwise(ordered))  # line spacing, not ink
    right = one(page, "#group-0 .curves svg").rect
    assert all(box["right"] <= right["x"] + right["width"] + 1 for box in boxes)


def test_a_data_set_is_folded_until_it_is_asked_for_and_whole_on_paper(page: Any) -> None:
    page.execute_script("for (const fold of document.querySelectorAll('details.group')) fold.open = false")
    click(page, one(page, 'nav a[href="#group-1"]'))
    assert one(page, "#group-1 .result").is_displayed()
    assert not one(page, "#group-0 .result").is_displayed()
    prefer(page, "light", media="print")
    shown = page.execute_script("return document.querySelector('#group-0 .result').getBoundingClientRect().height")
    assert shown > 100


def test_a_gain_opens_the_cells_behind_it(page: Any) -> None:
    click(page, one(page, '.forest tr[data-name="dora+adapter"] .number'))
    assert "frozen+frozen" in one(page, "#trace-title").text
    assert len(every(page, "#trace .behind")) == 6  # three draws of both pairs at K=all


def test_costs_are_shown_at_the_k_that_is_chosen(page: Any) -> None:
    plots = every(page, "#group-0 .pair-of-plots")
    assert [plot.is_displayed() for plot in plots] == [False, True]
    choose(page, "#group-0 .costs .pick-shots", "2")
    assert [plot.is_displayed() for plot in plots] == [True, False]


def test_every_number_opens_the_cells_and_commands_behind_it(page: Any) -> None:
    numbers = every(page, "#group-0 .result .number")
    assert len(numbers) > 30
    number = one(page, '#group-0 .number[data-about="dora+adapter, K=all"]')
    click(page, number)
    assert one(page, "#trace").is_displayed()
    assert one(page, "#trace-title").text == "dora+adapter, K=all"
    commands = texts(page, "#trace .command code")
    assert commands == [f"mmfuse-bench --grid demo --only draw={draw}" for draw in range(3)]
    assert all(text.startswith("records/") for text in texts(page, "#trace .note code"))
    page.switch_to.active_element.send_keys("\ue00c")  # Escape
    assert not one(page, "#trace").is_displayed()
    assert page.execute_script("return document.activeElement === arguments[0]", number)


def test_a_command_that_is_none_of_ours_is_not_offered(page: Any) -> None:
    choose(page, "#cells-state", "failed")
    click(page, one(page, "#cells-table tbody button"))
    assert texts(page, "#trace .command code") == []
    assert "it broke" in one(page, "#trace .why").text
    assert "rm -rf" not in page.execute_script("return document.documentElement.outerHTML")


def test_the_map_leads_to_its_cells(page: Any) -> None:
    click(page, one(page, '#map button[data-about^="lora+frozen, K=2"]'))
    states = texts(page, "#trace .behind > p:first-child")
    assert ["failed" in state for state in states] == [False, False, True]
    assert len(every(page, "#map .troubles li")) == 1
    assert "Traceback" in one(page, "#map .troubles details").get_attribute("textContent")


def test_it_can_be_used_by_keyboard_alone(page: Any) -> None:
    nameless = page.execute_script(
        "return [...document.querySelectorAll('button, select, input, [role=img], [role=region]')].filter((node) =>"
        " !(node.ariaLabel || node.textContent.trim() || node.labels?.length)).map((node) => node.outerHTML)"
    )
    assert nameless == []
    number = one(page, "#group-0 .number")
    page.execute_script("arguments[0].focus()", number)
    number.send_keys("\ue007")  # Enter
    assert one(page, "#trace").is_displayed()


def background(page: Any) -> int:
    colour = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in colour[4:-1].split(","))


def test_it_follows_light_and_dark(page: Any) -> None:
    assert background(page) > 600
    prefer(page, "dark")
    assert background(page) < 150
    ink = page.execute_script("return getComputedStyle(document.querySelector('.plot text')).fill")
    assert sum(int(part) for part in ink[4:-1].split(",")) > 350


@pytest.mark.parametrize("width", [390, 820])
def test_nothing_is_wider_than_a_small_screen(page: Any, hostile_page: Path, width: int) -> None:
    metrics = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.get(hostile_page.as_uri())
    assert page.execute_script("return document.documentElement.scrollWidth") == width


def test_it_prints_on_white_without_its_controls(page: Any) -> None:
    prefer(page, "dark", media="print")
    assert background(page) == 3 * 255
    assert not one(page, "nav").is_displayed()
    assert not one(page, "#cells").is_displayed()
    printed = page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
