"""What the site needs beyond Sphinx: generated pages, pictures drawn by their own code, and names that link.

In the text of every page a name in backticks such as `nt.math.log` or `nt.cast(x, nt.int32)` becomes a link to the
reference; a name that is not there is a warning, and so an error. When all is written, every link within the site is
followed.
"""

from __future__ import annotations

import doctest
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import reference
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger

LOGGER = getLogger(__name__)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("picture", Picture)
    app.add_transform(LinkNames)
    app.connect("builder-inited", write_pages)
    app.connect("build-finished", follow_links)
    return {"parallel_read_safe": True}


def write_pages(app: Sphinx) -> None:
    """Put the generated pages where Sphinx looks for pages."""
    place = Path(app.srcdir, "reference")
    place.mkdir(exist_ok=True)
    pages = reference.pages()
    for old in set(place.glob("*.rst")) - {place / name for name in pages}:
        old.unlink()
    for name, text in pages.items():
        (place / name).write_text(text, encoding="utf-8")


class LinkNames(SphinxTransform):
    """Literals that name something of numtape, as links."""

    default_priority = 500
    name = re.compile(r"(nt(?:\.\w+)+)(?:\(.*\))?", re.DOTALL)

    def apply(self, **options: Any) -> None:
        for literal in list(self.document.findall(nodes.literal)):
            match = self.name.fullmatch(literal.astext())
            if match is None or isinstance(literal.parent, nodes.title | nodes.reference | pending_xref):
                continue
            link = pending_xref(
                "", refdomain="py", reftype="obj", reftarget=match[1], refdoc=self.env.docname, refwarn=True,
                refexplicit=True,
            )  # fmt: skip
            link.source, link.line = literal.source, literal.line
            literal.replace_self(link)
            link += literal


class Picture(SphinxDirective):
    """Examples that draw with matplotlib, and below them what they draw; the argument is the caption."""

    has_content = True
    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        import matplotlib.pyplot as plt

        text = "\n".join(self.content)
        with plt.rc_context({"svg.hashsalt": "numtape", "figure.figsize": (6, 3), "savefig.bbox": "tight"}):
            exec("".join(example.source for example in doctest.DocTestParser().get_examples(text)), {})
            file = Path("_build", "pictures", f"{self.env.docname.replace('/', '-')}-{self.lineno}.svg")
            Path(self.env.srcdir, file).parent.mkdir(parents=True, exist_ok=True)
            plt.savefig(Path(self.env.srcdir, file), metadata={"Date": None})
            plt.close("all")
        code = nodes.literal_block(text, text, language="pycon")
        image = nodes.image(uri=f"/{file.as_posix()}", alt=self.arguments[0])
        return [code, nodes.figure("", image, nodes.caption("", self.arguments[0]))]


class Page(HTMLParser):
    """The anchors of a page, and where it links to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = {""}
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.anchors.add(value or "")
            elif name in ("href", "src") and not urlsplit(value or "").scheme:
                self.links.add(value or "")


def follow_links(app: Sphinx, failure: Exception | None) -> None:
    """Check that what the pages link to within the site is there, anchors included."""
    if failure is not None or app.builder.name != "html":
        return
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in Path(app.outdir).resolve().rglob("*.html")}
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file() or (target in pages and unquote(parts.fragment) not in pages[target].anchors):
                LOGGER.warning("%s: the link %s leads nowhere", path, link)
