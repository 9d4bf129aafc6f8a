"""The page names every test that stands behind it."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).resolve()
PAGE = HERE.parents[3] / "docs" / "what-we-found-in-the-sources.md"


def test_the_page_names_every_test_of_this_folder_and_no_other() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text(encoding="utf-8")))
    files = [path for path in HERE.parent.glob("test_*.py") if path != HERE]
    defined = {
        name for path in files for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert named == defined
