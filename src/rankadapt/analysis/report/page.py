"""A report as one HTML file that needs nothing else: tables that sort at a click, plots inside."""

from __future__ import annotations

from base64 import b64encode
from html import escape

from rankadapt.analysis.report.document import (
    Block,
    Command,
    Document,
    Grid,
    Heading,
    Items,
    Paragraph,
    Picture,
)

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 75rem;
       margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .8rem 0 1.4rem }
caption { text-align: left; font-weight: 600; padding: .3rem 0 }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top }
th { cursor: pointer; border-bottom: 2px solid #888; white-space: nowrap }
th[aria-sort=ascending]::after { content: " ▲" } th[aria-sort=descending]::after { content: " ▼" }
tr:hover td { background: #f5f7fa }
pre { background: #f5f7fa; padding: .6rem .8rem; overflow-x: auto }
figure { margin: 1rem 0 } img { max-width: 100% } figcaption { color: #555 }
.wide { overflow-x: auto }
@media print { th::after { content: none !important } body { margin: 0; max-width: none } }
"""
SCRIPT = """
for (const head of document.querySelectorAll("th")) head.onclick = () => {
  const table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
  const down = head.getAttribute("aria-sort") === "ascending";
  const key = row => { const text = row.cells[column].innerText, number = parseFloat(text);
                       return isNaN(number) ? text : number; };
  const sign = down ? -1 : 1, less = (a, b) => a < b ? -1 : a > b ? 1 : 0;
  const order = (a, b) => typeof a === typeof b ? less(a, b) : typeof a === "number" ? -1 : 1;
  [...body.rows].sort((a, b) => sign * order(key(a), key(b))).forEach(row => body.append(row));
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
};
"""


def as_page(document: Document, title: str) -> str:
    """The whole report as HTML."""
    body = "\n".join(_block(block) for block in document.blocks)
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n<body>\n{body}\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _block(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{escape(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{escape(text)}</p>"
        case Items(texts):
            return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"
        case Command(text):
            return f"<pre>{escape(text)}</pre>"
        case Picture(png, caption):
            image = f'<img alt="{escape(caption)}" src="data:image/png;base64,{b64encode(png).decode()}">'
            return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
        case Grid():
            return _grid(block)


def _grid(grid: Grid) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in grid.columns)
    rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in grid.rows)
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    caption = f"<caption>{escape(grid.caption)}</caption>" if grid.caption else ""
    table = f"<table>{caption}<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'
