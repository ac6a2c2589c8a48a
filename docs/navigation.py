"""
The navigation of the site, made from docs/index.md: there is one list of all pages.

A heading is a section, and each link below it a page. A heading that is a link is a
page itself; where that is the README.md of a directory, it is a section of all pages
there. A page that no link leads to is a warning of mkdocs, which is an error.
"""

import re
from pathlib import Path

HEADING = re.compile(r"(##+) (.*)")
LINK = re.compile(r"\[([^]]+)\]\(([\w./-]+\.md)\)")
TITLE = re.compile(r"(?m)^# (.*)$")


def on_config(config):
    """Give mkdocs the navigation; it calls this before it looks for pages."""
    config.nav = navigation(Path(config.docs_dir))
    return config


def navigation(docs):
    """Make what mkdocs calls a nav: lists of {title: page or list}."""
    nav = [{"Home": "index.md"}]
    sections = {1: nav}  # by the level of its heading, the section that is open
    for line in (docs / "index.md").read_text(encoding="utf-8").splitlines():
        links = LINK.findall(line)
        if heading := HEADING.match(line):
            level = len(heading[1])
            pages = sections[level] = []
            sections[level - 1].append(
                entry(docs, *links[0]) if links else {heading[2]: pages}
            )
        else:
            sections[level if nav[1:] else 1] += [{text: page} for text, page in links]
    return nav


def entry(docs, text, page):
    """Give the entry of a heading that is a link."""
    directory, _, name = page.rpartition("/")
    if name != "README.md":
        return {text: page}
    there = sorted(path.name for path in (docs / directory).glob("[!R]*.md"))
    return {text: [page, *(titled(docs, f"{directory}/{name}") for name in there)]}


def titled(docs, page):
    """Give the entry of *page* under its own title."""
    return {TITLE.search((docs / page).read_text(encoding="utf-8"))[1]: page}
