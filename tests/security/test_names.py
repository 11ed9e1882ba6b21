"""Names made to do harm: no path leads out of its folder, and a name is never a path, markup, formula or command."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from musictag.common.errors import MusictagError
from musictag.common.text import printable
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.datasets.published import files_there
from musictag.report.content import Table
from musictag.report.tables.formats import markdown_text, write_csv
from tests.inference.test_tagger import make_network


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.wav", "a/../../x.wav", "..\\x.wav", "C:\\x.wav"])
def test_no_path_of_a_table_leads_out(path: str, tmp_path: Path) -> None:
    table = tmp_path / "music" / "c.csv"
    table.parent.mkdir()
    table.write_text(f"path,split,x\na.wav,train,1\n{path},train,0\n")
    with pytest.raises(MusictagError, match=r"(?s)c\.csv lead out of .*row 2: "):
        CatalogueFile(table).manifest()


@pytest.mark.parametrize("path", ["/passwd", "../passwd", "a\0b"])
def test_no_path_of_a_published_list_leads_out(path: str, tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("")
    with pytest.raises(MusictagError, match="leads out of"):
        files_there(tmp_path, ["passwd", path], pa.array([], pa.string()))


def test_names_that_would_be_folders(tmp_path: Path) -> None:
    for name in ("..", "a b", "x; rm -rf ~", "a\nb", "$(touch ran)"):
        source = CatalogueFile(tmp_path / f"{name}.csv")
        assert source.name == Path(source.name).name
        assert not set(source.name) & set("/;\n $()~")
        assert source.name not in ("", ".", "..")
        with pytest.raises(MusictagError, match="it names folders"):
            CatalogueFile(tmp_path / "c.csv", name=f"../{name}")


@pytest.mark.parametrize("name", ["\x1b[2Jx", "a\nb", "a\rb", "\x9b1m", "a\0", "\ud800", " "])
def test_tags_are_one_line_of_text(name: str, tmp_path: Path) -> None:
    with pytest.raises(MusictagError, match="a tag name must be one line of text") as caught:
        make_network(tags=[{"name": name}])
    assert str(caught.value).isprintable()
    if "\ud800" not in name and "\0" not in name:
        pq.write_table(pa.table({"path": ["a"], "split": ["train"], name: [1.0]}), tmp_path / "c.parquet")
        with pytest.raises(MusictagError, match=r"one line of text|without a name"):
            CatalogueFile(tmp_path / "c.parquet").manifest()


def test_what_steers_a_terminal_is_written_out() -> None:
    assert printable("a\x1b[31mb\r\x9b\ud800\u202eü\n\t") == "a\\x1b[31mb\\r\\x9b\\ud800\u202eü\n\t"
    assert "\x1b" not in markdown_text("\x1b]0;title\x07")


def test_names_are_no_formulas(tmp_path: Path) -> None:
    names = ("=1+1", "+1", "-x", "@SUM(A1)", "\t=1", " =1", "plain")
    write_csv(Table("scores", ["tag", "score"], [[name, -0.5] for name in names]), tmp_path / "t.csv")
    lines = (tmp_path / "t.csv").read_text().splitlines()[1:]
    assert [line.strip('"').startswith("'") for line in lines] == [True] * 6 + [False]
    assert all(line.endswith(",-0.5") for line in lines)
