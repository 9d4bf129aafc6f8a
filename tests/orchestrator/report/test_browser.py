"""The page in a browser: nothing sticks out, nothing is fetched, and it follows the reader's colours."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from orchestrator.report.build import write_report

from .protocol_stories import STUDY, protocol_story
from .stories import write_outputs

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed"),
]
WIDTHS = (360, 768, 1280)
LOOK = """<!doctype html><body><script>
const widths = %s, found = [];
window.addEventListener("error", event => found.push({error: event.message}));
async function look(width) {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 900px; border: 0`;
  const loaded = new Promise(done => frame.addEventListener("load", done));
  frame.src = "report/index.html";
  document.body.append(frame);
  await loaded;
  const page = frame.contentDocument, view = frame.contentWindow;
  page.querySelectorAll("details").forEach(each => each.open = true);
  // What sticks out of the page, and is not inside what scrolls by itself.
  const out = [...page.body.querySelectorAll("*")].filter(each =>
    each.getBoundingClientRect().right > width + 1 && !each.closest(".scroll, .drawing"));
  const style = view.getComputedStyle(page.body);
  const figures = [...page.querySelectorAll(".drawing svg")];
  found.push({
    width,
    scrolls: page.documentElement.scrollWidth > page.documentElement.clientWidth,
    out: out.map(each => each.outerHTML.slice(0, 120)),
    fetched: view.performance.getEntriesByType("resource").map(each => each.name)
      // What a file of the same folder would be is in no list of resources.
      .concat([...page.querySelectorAll("[src], link, script, object, image, use")]
        .map(each => each.src || each.href?.baseVal || each.href || each.outerHTML)
        .filter(name => !/^(data:|#)/.test(name))),
    broken: [...page.querySelectorAll('a[href^="#"]')].map(each => each.getAttribute("href").slice(1))
      .filter(id => !page.getElementById(id)),
    paper: style.backgroundColor,
    ink: view.getComputedStyle(page.querySelector(".drawing svg")).color,
    figures: figures.length,
    tiny: figures.filter(each => each.getBoundingClientRect().width < 150).length,
  });
}
(async () => {
  for (const width of widths) await look(width);
  document.body.innerHTML = "";
  document.body.dataset.found = JSON.stringify(found);
})();
</script></body>"""


@pytest.fixture(scope="module")
def study_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of several protocols, with an arm and a question that are hard to break into lines."""
    folder = tmp_path_factory.mktemp("study")
    long = "an_arm_whose_name_is_as_long_as_names_of_arms_may_well_become"
    arms = {(long if name == "hem" else name): arm for name, arm in STUDY.arms.items()}
    arms[long] = dataclasses.replace(arms[long], name=long)
    spec = dataclasses.replace(STUDY, name="a" * 120, arms=arms, question="Does it fit? " + "x" * 150)
    story = protocol_story(STUDY)
    events = json.loads(json.dumps(story.events).replace('"hem"', f'"{long}"'))
    story.spec, story.events = spec, events
    record = story.record()
    write_outputs(spec, record, folder)
    write_report(spec, record, folder)
    return folder


def looked_at(study_dir: Path, *, dark: bool = False) -> list[dict[str, Any]]:
    """What the browser finds on the page, at each width."""
    (study_dir / "look.html").write_text(LOOK % json.dumps(WIDTHS))
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    # No name is found: a page that asks for anything would lack it.
    command += [
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--virtual-time-budget=60000",
        "--window-size=1400,1000",
    ]
    command += ["--blink-settings=preferredColorScheme=0"] if dark else []
    command += [f"--user-data-dir={study_dir / 'browser'}", "--dump-dom", (study_dir / "look.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    (found,) = re.findall(r'data-found="([^"]*)"', done.stdout)
    looked: list[dict[str, Any]] = json.loads(unescape(found))
    return looked


def test_the_page_fits_phones_and_screens_and_needs_nothing_else(study_dir: Path) -> None:
    looked = looked_at(study_dir)
    assert [each.get("width") for each in looked] == list(WIDTHS)
    for each in looked:
        assert each["out"] == []
        assert not each["scrolls"]
        assert each["fetched"] == []
        assert each["broken"] == []
        assert each["figures"] > 8
        assert each["tiny"] == 0
    assert {each["paper"] for each in looked} == {"rgb(255, 255, 255)"}


def test_a_dark_page_has_dark_paper_and_light_figures(study_dir: Path) -> None:
    for each in looked_at(study_dir, dark=True):
        paper, ink = ([int(number) for number in re.findall(r"\d+", each[name])] for name in ("paper", "ink"))
        assert max(paper) < 40
        assert min(ink) > 200
