"""The documentation as a whole: every page can be found, every link leads somewhere, and the site builds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "sweep/results/README.md", *PAGES]


def anchors(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    for link in (link for link in links if not re.match(r"\w+:", link)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_index_and_in_the_menu() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in PAGES:
        assert re.search(rf": {page.name}$", menu, re.M), page.name
        assert page.name == "README.md" or f"]({page.name}): " in index, page.name


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="pip install '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    api = (tmp_path / "api.html").read_text(encoding="utf-8")
    assert "Scores of a whole song by tag" in api  # a docstring
    study = (tmp_path / "architectures.html").read_text(encoding="utf-8")
    assert 'src="sweep/results/songbook/architectures.png"' in study
    assert (tmp_path / "sweep/results/songbook/architectures.png").is_file()
    assert "../conf" not in study  # a link that only the repository has
    for page in tmp_path.glob(
        "*.html"
    ):  # GitHub sees a list where MkDocs, which wants an empty line before it, sees text
        paragraphs = re.findall(r"<p>(.*?)</p>", page.read_text(encoding="utf-8"), re.S)
        assert [text for text in paragraphs if re.search(r"^ *(- |\d+\. |\|)", text, re.M)] == [], page.name
