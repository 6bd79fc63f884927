"""The look of report.html. Light or dark by the reader's system; legible on a phone and on paper."""

from __future__ import annotations

CSS = """
:root { color-scheme: light dark;
  --page: #f5f5f2; --card: #ffffff; --ink: #1d2126; --quiet: #667080; --rule: #e4e4df; --grid: #ecece8;
  --own: #2a5bd7; --other: #8d95a3; --wrong: #c8501e; --good: #14713f; --good-soft: #e2f3e8;
  --wait: #8a5200; --wait-soft: #fbefd9; --over: #ffffff;
  --for1: #e3ecfd; --for2: #c3d6fb; --for3: #9dbcf8; --for4: #77a1f3;
  --not1: #fdebdf; --not2: #fad3ba; --not3: #f5b68f; --not4: #ee9866; }
@media (prefers-color-scheme: dark) { :root {
  --page: #14161a; --card: #1c2026; --ink: #e8eaed; --quiet: #98a2b0; --rule: #2d333c; --grid: #2a2f37;
  --own: #82a8ff; --other: #7d8796; --wrong: #f0925a; --good: #7ddba3; --good-soft: #173626;
  --wait: #f2c46d; --wait-soft: #3a2d13; --over: #14161a;
  --for1: #1f2d4d; --for2: #27407a; --for3: #2f52a3; --for4: #375ebb;
  --not1: #3a2618; --not2: #5a3618; --not3: #7b451a; --not4: #914e19; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 980px; margin: 0 auto; padding: 36px 20px 60px; }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 0 0 14px; letter-spacing: -0.005em; }
p { margin: 0 0 10px; }
.quiet, figcaption, .facts dt { color: var(--quiet); }
.quiet, figcaption { font-size: 13.5px; }
section > .quiet:last-child { margin-bottom: 0; }
section > * + .quiet, section > * + .scroll { margin-top: 14px; }
section > h2 + .quiet { margin-top: -8px; }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; padding: 22px 24px;
  margin-top: 18px; }
.top { display: flex; flex-wrap: wrap; gap: 14px 24px; align-items: flex-start;
  justify-content: space-between; }
.verdict { border-radius: 99px; padding: 5px 16px; font-weight: 650; font-size: 15px; white-space: nowrap; }
.champion { background: var(--good-soft); color: var(--good); }
.challenger { background: var(--wait-soft); color: var(--wait); }
.reasons { margin: 14px 0 0; padding-left: 20px; }
.note { border-left: 3px solid var(--wait); padding: 2px 0 2px 12px; margin: 14px 0 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.card { border: 1px solid var(--rule); border-radius: 9px; padding: 13px 15px; }
.card b { display: block; font-size: 25px; line-height: 1.25; font-weight: 620; }
.card:first-child b { color: var(--own); }
.card { font-variant-numeric: tabular-nums; }
.card span { font-size: 13px; color: var(--quiet); display: block; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
th { text-align: left; font-weight: 550; color: var(--quiet); font-size: 12.5px; }
th, td { padding: 7px 10px 7px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
td.fails { color: var(--wrong); font-weight: 600; } td.holds { color: var(--good); }
.num { text-align: right; white-space: nowrap; }
.scroll { overflow-x: auto; }
.scroll svg { max-width: none; }
.scroll svg.wide { width: 100%; min-width: 620px; }
td.label { overflow-wrap: anywhere; min-width: 120px; }
.bar { display: inline-block; height: 7px; border-radius: 4px; background: var(--own); vertical-align: top; }
.track { display: inline-block; width: 84px; height: 7px; border-radius: 4px; background: var(--grid);
  margin-left: 9px; vertical-align: middle; line-height: 0; text-align: left; }
svg { display: block; max-width: 100%; height: auto; font-family: inherit; overflow: visible; }
svg text { fill: var(--ink); font-size: 13px; }
svg .tick, svg .legend { fill: var(--quiet); font-size: 11.5px; }
svg .value { font-variant-numeric: tabular-nums; font-weight: 550; }
svg .grid { stroke: var(--grid); stroke-width: 1; }
svg .range { stroke-width: 3; stroke-linecap: round; }
svg line.own { stroke: var(--own); } svg circle.own { fill: var(--own); }
svg line.other { stroke: var(--other); } svg circle.other { fill: var(--other); }
svg text.own { font-weight: 650; }
svg .floor { stroke: var(--wrong); stroke-width: 2; }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
svg .line.s0 { stroke: var(--own); } svg .dot.s0 { fill: var(--own); }
svg .line.s1 { stroke: var(--wrong); } svg .dot.s1 { fill: var(--wrong); }
svg .kept { stroke: var(--quiet); stroke-width: 1; stroke-dasharray: 3 3; }
svg .cell { fill: var(--grid); fill-opacity: .55; } svg rect.right { fill: var(--own); }
svg rect.wrong { fill: var(--wrong); }
svg .count { font-size: 11.5px; font-variant-numeric: tabular-nums; } svg .count.over { fill: var(--over); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 18px 28px; }
.pair.sides { grid-template-columns: 1fr 1fr; gap: 10px 18px; }
figure { margin: 0; }
figcaption { margin-bottom: 8px; }
.misses { display: grid; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); gap: 12px; }
.misses.images { grid-template-columns: repeat(auto-fill, minmax(148px, 1fr)); }
.miss { border: 1px solid var(--rule); border-radius: 9px; padding: 12px 14px; font-size: 14px;
  overflow-wrap: anywhere; }
.miss img { display: block; width: 100%; max-width: 144px; height: auto; border-radius: 6px;
  margin: 0 auto 9px; background: #fff; }
.miss img.enlarged { image-rendering: pixelated; }
.miss blockquote { margin: 0 0 9px; }
.miss p { margin: 0; font-size: 13px; color: var(--quiet); }
.miss .given { color: var(--wrong); font-weight: 600; unicode-bidi: isolate; }
.miss .true { color: var(--good); font-weight: 600; unicode-bidi: isolate; }
.miss .nearest { margin: 9px 0 0; padding: 8px 0 0; border-top: 1px solid var(--rule); font-size: 13px; }
.miss .nearest li { margin: 3px 0 0; } .miss ul.nearest { list-style: none; }
.miss .nearest img { display: inline-block; width: 40px; margin: 0 7px 0 0; vertical-align: middle; }
mark { color: inherit; background: none; border-radius: 3px; padding: 0 1px;
  -webkit-print-color-adjust: exact; print-color-adjust: exact; }
mark[class^="not"] { text-decoration: underline dotted; text-underline-offset: 3px; }
.for1 { background: var(--for1); } .for2 { background: var(--for2); }
.for3 { background: var(--for3); } .for4 { background: var(--for4); }
.not1 { background: var(--not1); } .not2 { background: var(--not2); }
.not3 { background: var(--not3); } .not4 { background: var(--not4); }
svg rect.for { fill: var(--own); } svg rect.not { fill: var(--wrong); }
details summary { cursor: pointer; color: var(--own); font-size: 14px; margin-top: 10px; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; margin: 0; font-size: 13.5px; }
.facts dd { margin: 0; overflow-wrap: anywhere; }
code { font: 12.5px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
@media (max-width: 560px) { .facts { grid-template-columns: 1fr; } section { padding: 18px 16px; } }
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""
