"""The look of every page. Light or dark by the reader's system; legible on a phone and on paper."""

from __future__ import annotations

# Dark colours are for screens alone: paper is white.
_COLOURS = """
:root { color-scheme: light dark;
  --page: #f5f5f2; --card: #ffffff; --ink: #1d2126; --quiet: #596270; --rule: #e4e4df; --grid: #e6e6e1;
  --own: #2a5bd7; --other: #7b8493; --wrong: #b8430f; --good: #14713f; --good-soft: #e2f3e8;
  --wait: #7d4a00; --wait-soft: #fbefd9; --wrong-soft: #fce8df; --calm-soft: #ebecef; --over: #ffffff;
  --heat: 42 91 215; --heat-wrong: 208 92 20; --most: 0.68;
  --s2: #14713f; --s3: #7a3fb0; --s4: #8a6100; --s5: #0b7285;
  --for1: #e3ecfd; --for2: #c3d6fb; --for3: #9dbcf8; --for4: #77a1f3;
  --not1: #fdebdf; --not2: #fad3ba; --not3: #f5b68f; --not4: #ee9866; }
@media screen and (prefers-color-scheme: dark) { :root {
  --page: #14161a; --card: #1c2026; --ink: #e8eaed; --quiet: #a3acb9; --rule: #2d333c; --grid: #2f353e;
  --own: #8fb1ff; --other: #8b95a5; --wrong: #f59a6c; --good: #7ddba3; --good-soft: #173626;
  --wait: #f2c46d; --wait-soft: #3a2d13; --wrong-soft: #43261a; --calm-soft: #2b3038; --over: #14161a;
  --heat: 62 104 200; --heat-wrong: 168 78 30; --most: 0.8;
  --s2: #7ddba3; --s3: #c9a1f0; --s4: #e3bb5c; --s5: #6fd0e3;
  --for1: #1f2d4d; --for2: #27407a; --for3: #2f52a3; --for4: #375ebb;
  --not1: #3a2618; --not2: #5a3618; --not3: #7b451a; --not4: #914e19; } }
"""
_TEXT = """
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: break-word;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 980px; margin: 0 auto; padding: 32px 20px 60px; }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 0 0 14px; letter-spacing: -0.005em; }
h3 { font-size: 15px; margin: 18px 0 8px; }
p { margin: 0 0 10px; }
a { color: var(--own); }
:focus-visible { outline: 3px solid var(--own); outline-offset: 2px; border-radius: 3px; }
.quiet, figcaption, .facts dt { color: var(--quiet); }
.quiet, figcaption { font-size: 13.5px; }
section > .quiet:last-child { margin-bottom: 0; }
section > * + .quiet, section > * + .scroll { margin-top: 14px; }
section > h2 + .quiet { margin-top: -8px; }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; padding: 20px 24px;
  margin-top: 16px; }
.top { display: flex; flex-wrap: wrap; gap: 10px 24px; align-items: flex-start;
  justify-content: space-between; }
.top .quiet { margin-bottom: 0; }
.verdict { border-radius: 99px; padding: 5px 16px; font-weight: 650; font-size: 15px; white-space: nowrap; }
.champion { background: var(--good-soft); color: var(--good); }
.challenger { background: var(--wait-soft); color: var(--wait); }
.answers { margin: 0; }
.answers > div { display: grid; grid-template-columns: 150px 1fr; gap: 2px 16px; padding: 9px 0;
  border-bottom: 1px solid var(--rule); }
.answers > div:first-child { padding-top: 0; }
.answers > div:last-child { border-bottom: 0; padding-bottom: 0; }
.answers dt { font-weight: 600; } .answers dd { margin: 0; }
.answers b { border-radius: 6px; padding: 1px 8px; margin-right: 4px; }
.answers .good b { background: var(--good-soft); color: var(--good); }
.answers .wait b { background: var(--wait-soft); color: var(--wait); }
.answers .bad b { background: var(--wrong-soft); color: var(--wrong); }
.answers .calm b { background: var(--calm-soft); color: var(--ink); }
.reasons { margin: 0; padding-left: 20px; }
.note { border-left: 3px solid var(--wait); padding: 2px 0 2px 12px; margin: 14px 0 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px; }
.card { border: 1px solid var(--rule); border-radius: 9px; padding: 13px 15px; }
.card b { display: block; font-size: 25px; line-height: 1.25; font-weight: 620; }
.card:first-child b { color: var(--own); }
.card { font-variant-numeric: tabular-nums; }
.card span { font-size: 13px; color: var(--quiet); display: block; }
figure { margin: 0; }
figcaption { margin-bottom: 8px; }
details summary { cursor: pointer; color: var(--own); font-size: 14px; margin-top: 10px; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; margin: 0; font-size: 13.5px; }
.facts dd { margin: 0; overflow-wrap: anywhere; }
code { font: 12.5px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
"""
_TABLES = """
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
th { text-align: left; font-weight: 550; color: var(--quiet); font-size: 12.5px; vertical-align: bottom; }
th, td { padding: 7px 12px 7px 0; border-bottom: 1px solid var(--rule); }
td { vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
tr:last-child td { border-bottom: 0; }
td.fails { color: var(--wrong); font-weight: 600; } td.holds { color: var(--good); }
th.num, td.num { text-align: right; padding-left: 10px; } td.num { white-space: nowrap; }
.scroll { overflow-x: auto; }
td.label { overflow-wrap: anywhere; min-width: 120px; }
td audio { width: 210px; height: 36px; }
.bar { display: inline-block; height: 7px; border-radius: 4px; background: var(--own); vertical-align: top; }
.track { display: inline-block; width: 84px; height: 7px; border-radius: 4px; background: var(--grid);
  margin-left: 9px; vertical-align: middle; line-height: 0; text-align: left; }
.heat { width: auto; border-spacing: 2px; border-collapse: separate; }
.heat th, .heat td { border: 0; padding: 2px; font-size: 12px; text-align: center; vertical-align: middle; }
.heat th { color: var(--ink); font-weight: 450; }
.heat th[scope="row"] { text-align: right; padding-right: 6px; background: var(--card); position: sticky;
  left: 0; max-width: 150px; overflow-wrap: anywhere; }
.heat thead th { vertical-align: bottom; }
.heat thead span { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left;
  max-height: 160px; }
.heat tbody td { min-width: 21px; width: 44px; height: 34px; border-radius: 4px; background: var(--grid); }
.heat .right { background: rgb(var(--heat) / calc(var(--shade) * var(--most))); }
.heat .wrong { background: rgb(var(--heat-wrong) / calc(var(--shade) * var(--most))); }
"""
_CHARTS = """
svg { display: block; font-family: inherit; overflow: visible; }
svg.chart { width: 100%; height: auto; }
svg text { fill: var(--ink); font-size: 13px; }
svg .tick { fill: var(--quiet); font-size: 11.5px; }
svg .grid { stroke: var(--grid); stroke-width: 1; }
svg .range { stroke-width: 3; stroke-linecap: round; }
svg line.own { stroke: var(--own); } svg circle.own { fill: var(--own); }
svg line.other { stroke: var(--other); } svg circle.other { fill: var(--other); }
svg .floor { stroke: var(--wrong); stroke-width: 2; }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
svg .line.s0 { stroke: var(--own); } svg .dot.s0 { fill: var(--own); }
svg .line.s1 { stroke: var(--wrong); } svg .dot.s1 { fill: var(--wrong); }
svg .line.s2 { stroke: var(--s2); stroke-dasharray: 8 4; } svg .dot.s2 { fill: var(--s2); }
svg .line.s3 { stroke: var(--s3); stroke-dasharray: 2 4; } svg .dot.s3 { fill: var(--s3); }
svg .line.s4 { stroke: var(--s4); stroke-dasharray: 10 4 2 4; } svg .dot.s4 { fill: var(--s4); }
svg .line.s5 { stroke: var(--s5); stroke-dasharray: 4 3; } svg .dot.s5 { fill: var(--s5); }
svg .kept { stroke: var(--quiet); stroke-width: 1; stroke-dasharray: 3 3; }
svg rect.right { fill: var(--own); }
svg rect.for { fill: var(--own); } svg rect.not { fill: var(--wrong); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 18px; margin: 0 0 8px; padding: 0;
  font-size: 12.5px; color: var(--quiet); }
.legend li { display: flex; align-items: center; gap: 7px; overflow-wrap: anywhere; }
.key { width: 22px; height: 12px; flex: none; }
.ranges { list-style: none; margin: 0; padding: 0; font-size: 14px; }
.ranges li { display: grid; grid-template-columns: minmax(90px, 30%) 1fr 70px; column-gap: 18px; }
.ranges .name { padding: 6px 0; overflow-wrap: anywhere; } .ranges .own .name { font-weight: 650; }
.ranges .value { padding: 6px 0; text-align: right; font-weight: 550; font-variant-numeric: tabular-nums; }
.plot { position: relative; min-height: 32px; grid-column: 2; }
.plot svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.axis .plot { min-height: 20px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr));
  gap: 18px 28px; }
.pair.sides { grid-template-columns: 1fr 1fr; gap: 10px 18px; }
"""
_EXAMPLES = """
.misses { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(270px, 100%), 1fr)); gap: 12px; }
.misses.images { grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); }
.misses > figure img { display: block; width: 100%; height: auto; border-radius: 6px; margin-bottom: 6px; }
.miss { border: 1px solid var(--rule); border-radius: 9px; padding: 12px 14px; font-size: 14px;
  overflow-wrap: anywhere; }
.miss img { display: block; width: 100%; max-width: 144px; height: auto; border-radius: 6px;
  margin: 0 auto 9px; background: #fff; }
.miss img.enlarged { image-rendering: pixelated; }
.miss audio { width: 100%; height: 36px; }
.miss blockquote { margin: 0 0 9px; }
.miss p { margin: 0; font-size: 13px; color: var(--quiet); }
.miss .given { color: var(--wrong); font-weight: 600; unicode-bidi: isolate; }
.miss .true { color: var(--good); font-weight: 600; unicode-bidi: isolate; }
.miss .nearest { margin: 9px 0 0; padding: 8px 0 0; border-top: 1px solid var(--rule); font-size: 13px; }
.miss .nearest li { margin: 3px 0 0; } .miss ul.nearest { list-style: none; }
.miss .nearest li:has(img) { position: relative; padding-left: 48px; min-height: 42px; }
.miss .nearest img { position: absolute; left: 0; width: 40px; margin: 0; }
mark { color: var(--ink); background: none; border-radius: 3px; padding: 0 1px;
  -webkit-print-color-adjust: exact; print-color-adjust: exact; }
mark[class^="not"] { text-decoration: underline dotted; text-underline-offset: 3px; }
.for1 { background: var(--for1); } .for2 { background: var(--for2); }
.for3 { background: var(--for3); } .for4 { background: var(--for4); }
.not1 { background: var(--not1); } .not2 { background: var(--not2); }
.not3 { background: var(--not3); } .not4 { background: var(--not4); }
"""
# A row of a table becomes a card: its texts below each other, its numbers side by side, each with its name.
_PHONE = """
@media screen and (max-width: 700px) {
  main { padding: 20px 12px 40px; } section { padding: 16px 14px; } h1 { font-size: 23px; }
  .answers > div { grid-template-columns: 1fr; padding: 8px 0; }
  .facts { grid-template-columns: 1fr; }
  .ranges li { grid-template-columns: 1fr auto; row-gap: 0; padding-top: 4px; }
  .ranges .plot { grid-area: 2 / 1 / 3 / 3; min-height: 22px; } .ranges .name, .ranges .value { padding: 0; }
  .rows, .rows tbody { display: block; }
  .rows thead { position: absolute; width: 1px; height: 1px; overflow: hidden;
    clip-path: inset(50%); }
  .rows tr { display: grid; grid-template-columns: repeat(auto-fit, minmax(66px, 1fr));
    gap: 4px 8px;
    padding: 10px 0; border-bottom: 1px solid var(--rule); }
  .rows tr:last-child { border-bottom: 0; }
  .rows td, .rows td.num { border: 0; padding: 0; min-width: 0; grid-column: 1 / -1; text-align: left;
    overflow-wrap: anywhere; }
  .rows td.num { grid-column: auto; white-space: normal; }
  .rows td:empty { display: none; }
  .rows td:first-child { font-weight: 600; }
  td[data-head]:not([data-head=""]):not(:first-child)::before { content: attr(data-head); display: block;
    color: var(--quiet); font-size: 12px; font-weight: 400; line-height: 1.3; }
  .track { display: block; width: 100%; max-width: 84px; margin: 4px 0 0; }
  .heat tbody td { height: 28px; } .heat th, .heat td { padding: 1px; font-size: 11.5px; }
  svg.chart .tick { font-size: 13px; }
  td audio { width: 100%; }
}
"""
_PAPER = """
@page { margin: 14mm 12mm; }
@media print {
  body { background: #fff; font-size: 12px; } main { max-width: none; padding: 0; }
  section { padding: 12px 14px; margin-top: 10px; }
  h2, h3, figcaption, summary { break-after: avoid; }
  tr, figure, .miss, .card, .ranges li, .answers > div, .note, blockquote { break-inside: avoid; }
  thead { display: table-header-group; }
  .scroll { overflow: visible; } th, td { padding: 4px 6px 4px 0; font-size: 11px; }
  td.num { white-space: normal; } td.label { min-width: 0; }
  @supports selector(::details-content) {
    details::details-content { content-visibility: visible; } summary { display: none; }
  }
  audio { display: none; }
  .bar, .track, .heat td, .verdict, .answers b, svg { -webkit-print-color-adjust: exact;
    print-color-adjust: exact; }
  .heat tbody td { width: auto; height: 22px; min-width: 0; font-size: 9px; }
}
"""
CSS = "".join((_COLOURS, _TEXT, _TABLES, _CHARTS, _EXAMPLES, _PHONE, _PAPER))
