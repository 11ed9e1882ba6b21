"""`musictag serve` in a real browser: a clip is uploaded, and the result and the truth are read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from musictag import load
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.library.server import Demo
from musictag.library.truth import Truth
from tests.helpers.browser import Page, browser
from tests.helpers.embeddings import make_network, save, write_song


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """music/ and its catalogue, of which copy.wav is a copy; the models know violin, drums and reel."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "music").mkdir()
    rows = ["path,split,violin,drums,reel,energy"]
    for number, split in enumerate(("train", "validation", "test")):
        write_song(folder / "music" / f"{number}.wav", 6.0, seed=number)
        rows.append(f"{number}.wav,{split},{number % 2},1,{'' if number == 2 else 0},0.25")
    (folder / "music" / "catalogue.csv").write_text("\n".join(rows) + "\n")
    shutil.copy(folder / "music" / "2.wav", folder / "copy.wav")
    write_song(folder / "stranger.wav", 3.0, seed=9)
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    tagger = load(save(folder / "tagger.safetensors", make_network()))
    truth = Truth(CatalogueFile(folder / "music" / "catalogue.csv"))
    demo = Demo({"one": tagger, "two": tagger}, ("127.0.0.1", 0), truth=truth)
    thread = Thread(target=demo.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{demo.server_address[1]}"
    demo.shutdown()
    thread.join()
    demo.server_close()


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with browser() as page:
        yield page


MARK = "parseFloat(getComputedStyle(document.querySelector('.time'), '::after').left)"
WIDTH = "document.querySelector('.time').getBoundingClientRect().width"


def test_a_clip_is_uploaded_and_its_tags_and_the_truth_are_read(tab: Page, address: str, folder: Path) -> None:
    tab.open(address)
    assert "one, two" in tab.text()
    tab.choose("#file", str(folder / "copy.wav"))
    tab.until("location.pathname.startsWith('/song/') && document.querySelectorAll('tbody tr').length === 6")
    assert tab.value("[...document.querySelectorAll('h1, h2')].map(e => e.textContent)") == ["copy.wav", "one", "two"]
    assert "2.wav, a song of catalogue (split test): ✓ drums energy 0.25" in tab.value(
        "document.querySelector('#truth').innerText.replace(/\\s+/g, ' ')"
    )
    rows = "[...document.querySelectorAll('tbody')].map(t => [...t.rows].map(r => [...r.cells].map(c => c.innerText)))"
    for table in tab.value(rows):
        assert {tag: mark for tag, mark, *_ in table} == {"violin": "✗", "drums": "✓", "reel": ""}
        assert all(0 < float(number) < 1 for _, _, *numbers in table for number in numbers[:2])
        means = [float(mean) for _, _, mean, *_ in table]
        assert means == sorted(means, reverse=True)
    drawn = "(() => { const c = document.querySelector('canvas'); return Math.max(...c.getContext('2d')"
    assert tab.value(f"{drawn}.getImageData(0, 0, c.width, 1).data.filter((_, k) => k % 4 === 3)); }})()") > 0


def test_the_mark_follows_the_song_and_a_click_goes_there(tab: Page, address: str, folder: Path) -> None:
    tab.open(address)
    tab.drop("#drop", str(folder / "copy.wav"))
    tab.until("location.pathname.startsWith('/song/') && document.querySelector('audio')?.readyState > 1")
    assert tab.value(MARK) == 0
    first = tab.value("[...document.querySelectorAll('.now')].map(e => e.textContent)")
    tab.value("document.querySelector('audio').play()")
    tab.until("document.querySelector('audio').currentTime > 0.5")
    tab.value("document.querySelector('audio').pause()")
    share = tab.until(f"{MARK} && {MARK} / {WIDTH}")
    assert share == pytest.approx(tab.value("document.querySelector('audio').currentTime") / 6, abs=0.02)
    tab.click("tbody tr:nth-child(2) .time")
    tab.until("Math.abs(document.querySelector('audio').currentTime - 3) < 0.1")
    tab.until(f"Math.abs({MARK} / {WIDTH} - 0.5) < 0.02")
    assert tab.value("[...document.querySelectorAll('.now')].map(e => e.textContent)") != first
    assert tab.problems == []


def test_a_song_that_nobody_knows_and_one_that_is_none(tab: Page, address: str, folder: Path) -> None:
    tab.open(address)
    (folder / "no.wav").write_bytes(b"no song")
    tab.choose("#file", str(folder / "no.wav"))
    tab.until("document.querySelector('#said').textContent.startsWith('no.wav: ') && !said.textContent.endsWith('...')")
    assert "listening" not in tab.text()
    tab.choose("#file", str(folder / "stranger.wav"))
    tab.until("document.querySelector('#truth') !== null")
    assert "This is no song of catalogue." in tab.text()
    assert tab.value("[...document.querySelectorAll('.true, .false')].map(e => e.textContent).join('')") == ""


def test_a_recording(tab: Page, address: str) -> None:
    tab.open(address)
    tab.click("#record")
    tab.until("record.textContent === 'Stop'")
    tab.value("new Promise(done => setTimeout(done, 1500))")
    tab.click("#record")
    tab.until("location.pathname.startsWith('/song/') && document.querySelector('audio') !== null")
    assert tab.value("document.querySelector('h1').textContent") == "recording"
    tab.until("document.querySelector('audio').duration > 0.5")
