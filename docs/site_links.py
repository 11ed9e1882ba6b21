"""MkDocs hooks: add pages and pictures from outside docs/, and adapt links.

Pages are written for the repository, where ``../conf/train.yaml`` can be followed. The site has no such file, so a link
to code becomes its path.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"README.md": "getting-started.md", "CHANGELOG.md": "changelog.md", "sweep/results/README.md": "results.md"}


def on_files(files: Files, config: Any) -> Files:
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for picture in ROOT.glob("sweep/results/**/*.png"):
        name = picture.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    folder = Path(page.file.abs_src_path).parent

    def link(match: re.Match[str]) -> str:
        mark, text, target = match.groups()
        path, _, anchor = target.partition("#")
        if not path or re.match(r"\w+:", path):
            return match[0]
        source = Path(os.path.normpath(folder / path)).relative_to(ROOT).as_posix()
        name = PAGES.get(source, source.removeprefix("docs/"))
        if files.get_file_from_path(name) is None:
            return f"`{source}`" if text.strip("`/") in source else f"{text} (`{source}`)"
        name = os.path.relpath(name, Path(page.file.src_uri).parent)
        return f"{mark}[{text}]({name}{'#' if anchor else ''}{anchor})"

    return re.sub(r"(!?)\[([^\]\n]*)\]\(([^)\s]+)\)", link, markdown)
