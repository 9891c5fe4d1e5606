"""Pages that need nothing but themselves: no script, nothing loaded, light and dark, paper too.

Whatever is a plain ``str`` is escaped on its way into a tag, so text of the user's stays text.
"""

import html
from collections.abc import Iterable, Sequence
from typing import Final


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *content: str, **attributes: str | None) -> Html:
    """An element.

    Args:
        name: Of the element.
        content: What is in it; escaped where it is not ``Html``.
        attributes: ``class_`` is the attribute ``class``, ``data_label`` is ``data-label``;
            ``None`` leaves one out.

    Examples:
        >>> print(tag("p", "a < b ", tag("b", "!"), class_="big"))
        <p class="big">a &lt; b <b>!</b></p>
    """
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{told}>{join(content)}</{name}>")


def join(content: Iterable[str]) -> Html:
    """Text and elements one after the other."""
    return Html("".join(c if isinstance(c, Html) else html.escape(c) for c in content))


def section(title: str, *content: str, class_: str | None = None) -> Html:
    """A part of the page."""
    return tag("section", tag("h2", title), *content, class_=class_)


def items(kind: str, texts: Iterable[str]) -> Html:
    """A list, ``ul`` or ``ol``; empty if there is nothing to list."""
    rows = [tag("li", text) for text in texts]
    return tag(kind, *rows) if rows else Html()


def words(text: str) -> Html:
    """Text in which `code` stands between backticks."""
    return join(tag("code", part) if i % 2 else part for i, part in enumerate(text.split("`")))


def mark(text: str, kind: str) -> Html:
    """An outcome; it has a sign of its own, because not everybody sees its colour."""
    return tag("span", text, class_=f"mark {kind}")


def pairs(facts: Iterable[tuple[str, str]]) -> Html:
    """A list of names and values; what has no value is left out, and a list of nothing too."""
    rows = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts if value]
    return tag("dl", *rows) if rows else Html()


def table(
    caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, wide: bool = False
) -> Html:
    """A table; the first cell of a row is its title.

    Args:
        caption: Above it.
        header: A title per column.
        rows: A cell per column.
        wide: Too wide for a phone, where each row becomes a list of column and cell.
    """
    body = (
        tag(
            "tr",
            tag("th", first, scope="row"),
            *(
                _cell(name, text) if wide else tag("td", text)
                for name, text in zip(header[1:], rest, strict=True)
            ),
        )
        for first, *rest in rows
    )
    head = tag("tr", *(tag("th", name, scope="col") for name in header))
    parts = (tag("caption", caption), tag("thead", head), tag("tbody", *body))
    return tag("table", *parts, class_="wide" if wide else None)


def _cell(column: str, text: str) -> Html:
    return tag("td", tag("div", text) if text else "", data_label=column)


def document(title: str, body: Iterable[str]) -> str:
    """The whole page."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{html.escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
{join(body)}
</main>
</body>
</html>
"""


_STYLE: Final = """
:root { --paper: #f6f7f9; --card: #fff; --ink: #16191d; --soft: #565d66; --line: #dfe3e8;
  --good: #116b3c; --good-soft: #e3f4ea; --bad: #b3261e; --bad-soft: #fcebe9;
  --warn: #845400; --warn-soft: #fdf1dc;  --main: #2458c5; --second: #8fb0f0;
  --violet: #7b3fb5; --teal: #0a7a85; --rose: #c2327f;
  --h0: #dbe8fb; --h1: #b9d2f6; --h2: #87b0ee; --h3: #4f86de; --h4: #2458b8; --h5: #e39a1d; }
@media (prefers-color-scheme: dark) { :root { --paper: #101216; --card: #191c21; --ink: #e9ebee;
  --soft: #a3abb5; --line: #30353d; --good: #6fd79c; --good-soft: #14301f; --bad: #ff9b91;
  --bad-soft: #3a1a18; --warn: #f0bd62; --warn-soft: #33270f; --main: #86aaff; --second: #4d70c0;
  --violet: #c79bf2; --teal: #5fcbd6; --rose: #f58bc0;
  --h0: #1d2d4b; --h1: #274274; --h2: #345ca4; --h3: #5284d9; --h4: #8db5ff; --h5: #f0a93a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1, h2, h3, p, ol, ul, dl, dd, pre { margin: 0; }
h1 { font-size: clamp(1.5rem, 5vw, 2.2rem); line-height: 1.2; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin-bottom: .75rem; }
h3 { font-size: 1rem; } h3 span { font-weight: 400; margin-left: .5rem; }
header, section { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 1.25rem 1.5rem; margin-bottom: 1rem; }
section > * + *, article > * + * { margin-top: .75rem; }
h2 + * { margin-top: 0; }
ul, ol { padding-left: 1.25rem; }
code, pre { font: .9em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { overflow-x: auto; background: var(--paper); padding: .75rem;
  border-radius: 8px; }
dd, li, p, caption, tbody th { overflow-wrap: anywhere; } td, thead { overflow-wrap: break-word; }
.quiet, dt, caption, thead th, summary { color: var(--soft); }
.quiet, dl { font-size: .92rem; }
header { display: grid; grid-template-columns: auto 1fr; gap: .5rem 1.25rem;
  border-top: 6px solid var(--verdict); }
header.good { --verdict: var(--good); --tint: var(--good-soft); }
header.bad { --verdict: var(--bad); --tint: var(--bad-soft); }
header.doubt { --verdict: var(--warn); --tint: var(--warn-soft); }
header > * { grid-column: 2; }
header h1 em { font-style: normal; color: var(--verdict); }
.seal { grid-column: 1; grid-row: 1 / span 2; width: 4rem; height: 4rem; border-radius: 50%;
  background: var(--tint); color: var(--verdict); font-size: 2.2rem; line-height: 4rem;
  text-align: center; }
.lead { font-size: 1.1rem; max-width: 46rem; }
header dl { display: flex; flex-wrap: wrap; gap: .5rem 2.25rem; margin-top: .5rem; }
header dd { font-size: 1.05rem; font-weight: 600; }
.failure { border-left: 6px solid var(--bad); }
.failure .problem { font-weight: 600; }
article { border-top: 1px solid var(--line); padding-top: 1rem; }
article dl, footer dl { display: grid; gap: .15rem; }
article dl div, footer dl div { display: grid; grid-template-columns: 6.5rem 1fr; }
article ol { list-style: none; padding: 0; display: grid; gap: .75rem; }
.route { display: grid; grid-template-columns: 11rem 8rem 1fr auto; gap: .25rem .75rem;
  align-items: center; }
.mark, .number { white-space: nowrap; } .mark { font-weight: 600; }
.proved, .pass { color: var(--good); }
.wrong, .fail { color: var(--bad); }
.ended, .uninformative { color: var(--warn); }
.refused, .unusable { color: var(--soft); }
.bar { display: flex; height: .7rem; }
.bar span { min-width: 1px; }
.compile { background: var(--main); border-radius: 3px 0 0 3px; }
.prove { background: var(--second); border-radius: 0 3px 3px 0; }
.key i { display: inline-block; width: 1.4rem; height: .7rem; margin-right: .4rem; }
li > dl, li > details { margin: .35rem 0 0; padding-left: .9rem;
  border-left: 3px solid var(--line); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .3rem; }
th, td { text-align: left; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line);
  vertical-align: middle; font-size: .94rem; }
thead th { font-weight: 500; font-size: .85rem; }
tbody th { font-weight: 600; min-width: 5rem; }
summary { cursor: pointer; }
:focus-visible { outline: 2px solid var(--main); outline-offset: 2px; }
svg { display: block; width: 100%; min-width: 14rem; max-width: 20rem; height: auto; }
svg text { font: 8.5px system-ui, sans-serif; fill: var(--soft); }
svg .axis { stroke: var(--line); } svg .limit { stroke: var(--bad); stroke-dasharray: 3 2; }
svg .beyond { fill: var(--bad-soft); } svg .in { fill: var(--main); fill-opacity: .6; }
svg .out { stroke: var(--bad); stroke-width: 1.6; } svg .limit-name { fill: var(--bad); }
.scroll { overflow-x: auto; } .scroll table { width: max-content; min-width: 100%; }
.scroll td, .scroll tbody th { white-space: nowrap; overflow-wrap: normal; }
svg.heat { width: auto; min-width: 0; max-width: none; } svg.heat text { font-size: 11.5px; }
svg.heat .title { font-size: 13px; font-weight: 600; fill: var(--ink); }
svg.heat .title.fail { fill: var(--bad); } svg.heat .title.pass { fill: var(--good); }
.kind { stroke: var(--soft); stroke-width: 1.5; fill: none; }
.equal { fill: var(--line); } .l0 { fill: var(--h0); } .l1 { fill: var(--h1); }
.l2 { fill: var(--h2); } .l3 { fill: var(--h3); } .l4 { fill: var(--h4); }
.over { fill: var(--h5); } svg .wrong { fill: var(--bad); }
.cross { stroke: var(--card); stroke-width: 1.6; fill: none; pointer-events: none; }
.heat-key { display: flex; flex-wrap: wrap; gap: .25rem 1rem; }
svg.square { display: inline-block; width: .85rem; min-width: 0; vertical-align: -.1rem; }
.histograms { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr));
  gap: 1.25rem 1.5rem; }
figure { margin: 0; } figcaption { font-size: .88rem; overflow-wrap: anywhere; }
svg.histogram { max-width: none; min-width: 0; } svg path { fill: none; }
svg .eager { fill: var(--soft); fill-opacity: .25; } svg .floor { stroke: var(--line); }
svg .actual { stroke: var(--main); stroke-width: 1.8; } svg .actual.bad { stroke: var(--bad); }
.of-actual { background: var(--main); } .of-eager { background: var(--soft); opacity: .35; }
svg.walk { max-width: none; min-width: 40rem; } svg.walk text { font-size: 12px; }
svg .floor-line { stroke: var(--soft); stroke-width: 2; stroke-dasharray: 5 4; }
svg .error-line { stroke: var(--main); stroke-width: 2; } svg circle.out { fill: var(--bad); }
svg .ring, svg .pole { stroke: var(--bad); fill: none; } svg .pole { stroke-dasharray: 3 3; }
svg text.flag { fill: var(--bad); font-weight: 600; font-size: 13px; }
.walk-error { background: var(--main); } .walk-floor { background: var(--soft); }
.worst > dl { display: flex; flex-wrap: wrap; gap: .5rem 2.25rem; }
.charts { display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fit, minmax(min(100%,
  24rem), 1fr)); } figure { margin: 0; } figcaption { font-size: .92rem; font-weight: 600; }
.keys { display: flex; flex-wrap: wrap; gap: .1rem 1rem; font-weight: 400; color: var(--soft); }
svg.swatch { display: inline-block; width: 2rem; min-width: 0; height: .65rem;
  vertical-align: middle; }
svg.chart { max-width: 34rem; } svg.chart text { font-size: 10.5px; }
svg.chart .name { fill: var(--ink); }
svg .halo { paint-order: stroke; stroke: var(--card); stroke-width: 3px; }
svg .axis.strong { stroke: var(--soft); }
.main { --tone: var(--main); } .second { --tone: var(--warn); } .third { --tone: var(--good); }
.soft { --tone: var(--soft); } .fifth { --tone: var(--violet); } .sixth { --tone: var(--bad); }
.seventh { --tone: var(--teal); } .eighth { --tone: var(--rose); }
svg .curve { fill: none; stroke: var(--tone); stroke-width: 1.8; stroke-linejoin: round; }
svg .curve.second { stroke-dasharray: 6 3; } svg .curve.third { stroke-dasharray: 2 3; }
svg .curve.soft { stroke-dasharray: 12 3; } svg .curve.fifth { stroke-dasharray: 8 3 2 3; }
svg .curve.sixth { stroke-dasharray: 4 4; } svg .curve.seventh { stroke-dasharray: 2 3 2 3 8 3; }
svg .curve.eighth { stroke-dasharray: 12 3 4 3; } svg .span { stroke: var(--tone); opacity: .6; }
svg .dot, svg .column { fill: var(--tone, var(--main)); fill-opacity: .65; }
svg .odd { stroke: var(--warn); stroke-width: 1.6; }
.rows { display: grid; gap: .3rem; margin-top: .5rem; } section > figure { margin-top: 1rem; }
.across { overflow-x: auto; } .across tbody th { overflow-wrap: break-word; }
 .row { display: grid; gap: 0 1rem;
  grid-template-columns: minmax(6rem, 16rem) minmax(12rem, 1fr) minmax(6rem, 15rem);
  align-items: center; font-size: .92rem; } .row b, .row span { overflow-wrap: anywhere; }
.row b { font-weight: 600; } .row svg { max-width: none; } .row svg text { font-size: 10.5px; }
.patch { display: inline-block; width: .8rem; height: .8rem; vertical-align: -.08rem;
  background: var(--tone); opacity: .65; border-radius: 2px; }
svg .band.margin { fill: var(--line); fill-opacity: .55; } svg .band.noise { fill: var(--warn);
  fill-opacity: .22; } svg .whisker { stroke: var(--tone); stroke-width: 1.8; }
svg .diamond { fill: var(--tone); } svg .tick { stroke: var(--ink); stroke-width: 1.2; }
.sub { display: block; color: var(--soft); font-size: .9em; }
.number + .sub { white-space: nowrap; }
.wide tbody th { min-width: 7rem; }
svg .guide { fill: none; stroke: var(--soft); stroke-dasharray: 4 3; }
.scroll { overflow-x: auto; } .confusion { width: auto; } .confusion td, .confusion thead th {
  text-align: center; padding: .3rem .55rem; min-width: 2.2rem; }
.confusion .hit, .confusion .miss { background: color-mix(in srgb, var(--tone) calc(12% + 40% *
  var(--share)), transparent); } .hit { --tone: var(--good); } .miss { --tone: var(--bad);
  font-weight: 700; }
footer { color: var(--soft); font-size: .92rem; padding: 0 1.5rem; }
@media (max-width: 44rem) {
  header, section { padding: 1rem; } .seal { width: 3rem; height: 3rem; line-height: 3rem;
    font-size: 1.6rem; }
  header { column-gap: .75rem; } .lead, header dl { grid-column: 1 / -1; }
  .row { grid-template-columns: 1fr; padding-bottom: .4rem; }
  .row:last-child { padding: 0; }
  .route { grid-template-columns: 1fr auto; }
  .bar { grid-column: 1; grid-row: 2; } svg { min-width: 0; }
  .wide thead { position: absolute; width: 1px; height: 1px; overflow: hidden;
    clip-path: inset(50%); }
  .wide tbody, .wide tr, .wide tbody th, .wide td { display: block; border: 0; padding: .1rem 0; }
  .wide tbody tr { border-bottom: 1px solid var(--line); padding: .5rem 0; }
  .wide td { display: grid; grid-template-columns: 6.5rem minmax(0, 1fr);
    overflow-wrap: anywhere; } .wide td:empty { display: none; }
  .wide td::before { content: attr(data-label); color: var(--soft); }
}
@media print {
  :root { --paper: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #bbb; --good: #0b5a31;
    --bad: #9b1c15; --main: #2458c5; --second: #8fb0f0; --good-soft: #fff; --warn: #845400;
    --violet: #7b3fb5; --teal: #0a7a85; --rose: #c2327f; --bad-soft: #f4dedc; }
  * { print-color-adjust: exact; } main { padding: 0; max-width: none; } body { font-size: 10.5pt; }
  pre { white-space: pre-wrap; } .number + .sub { white-space: normal; }
  header, section { break-inside: auto; border-radius: 0; } tr, li, h2, h3 { break-inside: avoid; }
  h2, h3, caption { break-after: avoid; } figure { break-inside: avoid; }
  .charts { grid-template-columns: 1fr 1fr; } .across { overflow: visible; }
  .across th, .across td { padding-right: .5rem; font-size: .85em; }
  .across code { overflow-wrap: anywhere; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""
