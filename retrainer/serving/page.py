"""The page that the scoring server shows at its address: to try the model by hand.

One HTML file without a library. It asks /invocations as any client does, so its answers are the server's.
What an answer rests on it finds by occlusion (Zeiler and Fergus 2014; of texts, Li et al. 2016): it asks
again without each word, each square of the picture, or each stretch of the sound, and shows how far the
probability of the answer falls.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping

_STYLE = """
:root { color-scheme: light dark; --for: 42 91 215; --not: 208 92 20;
  --page: #f5f5f2; --card: #fff; --ink: #1d2126; --quiet: #596270; --rule: #8d929b; --own: #2a5bd7;
  --wrong: #b8430f; --over: #fff; }
@media (prefers-color-scheme: dark) { :root { --for: 62 104 200; --not: 168 78 30;
  --page: #14161a; --card: #1c2026; --ink: #e8eaed; --quiet: #a3acb9; --rule: #747d8b; --own: #8fb1ff;
  --wrong: #f59a6c; --over: #14161a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: anywhere;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { margin: 0 auto; max-width: 680px; padding: 24px 16px 60px; }
h1 { font-size: 22px; margin: 0 0 4px; } p { margin: 4px 0 12px; }
label { display: block; font-weight: 600; margin: 14px 0 4px; }
textarea, input { width: 100%; font: inherit; padding: 10px; color: var(--ink); background: var(--card);
  border: 1px solid var(--rule); border-radius: 8px; } textarea { min-height: 90px; }
button { font: inherit; font-weight: 600; padding: 9px 20px; min-height: 44px; margin: 12px 8px 0 0;
  color: var(--ink); background: var(--card); border: 1px solid var(--rule); border-radius: 8px;
  cursor: pointer; }
#ask { color: var(--over); background: var(--own); border-color: var(--own); }
button:disabled { opacity: 0.6; cursor: default; }
:focus-visible { outline: 3px solid var(--own); outline-offset: 2px; }
img, canvas, audio { max-width: 100%; display: block; margin-top: 8px; }
canvas, img { min-width: min(220px, 100%); image-rendering: auto; }
#answer { font-size: 20px; font-weight: 650; margin: 18px 0 6px; }
.share { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 2fr) 4em; gap: 10px;
  align-items: center; }
meter { width: 100%; } .quiet { color: var(--quiet); font-size: 14px; }
.wrong { color: var(--wrong); font-weight: 600; }
mark { color: inherit; border-radius: 3px; }
.bars { display: flex; height: 40px; gap: 2px; } .bars i { flex: 1; }
"""

_SCRIPT = r"""
const columns = JSON.parse(document.getElementById("columns").textContent);
const make = (name, more = {}) => Object.assign(document.createElement(name), more);
const at = (id) => document.getElementById(id);
const values = {};                                  // column -> what is sent
const RATE = 16000, GRID = 7, STRETCHES = 16, MOST_WORDS = 60, MOST_SIDE = 256;

function base64(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
}
async function taken(column, blob) {                // a file, or a recording
  values[column.name] = base64(new Uint8Array(await blob.arrayBuffer()));
  const kind = column.kind === "image" ? "img" : "audio";
  const shown = make(kind, {src: URL.createObjectURL(blob), controls: true});
  at("shown-" + column.name).replaceChildren(shown);
}
function wav(samples) {                             // [-1, 1] -> 16 bit, one channel
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const word = (place, text) => [...text].forEach((sign, i) => view.setUint8(place + i, sign.charCodeAt(0)));
  word(0, "RIFF"); view.setUint32(4, 36 + 2 * samples.length, true); word(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, RATE, true); view.setUint32(28, 2 * RATE, true); view.setUint16(32, 2, true);
  view.setUint16(34, 16, true); word(36, "data"); view.setUint32(40, 2 * samples.length, true);
  samples.forEach((x, i) => view.setInt16(44 + 2 * i, Math.max(-1, Math.min(1, x)) * 32767, true));
  return new Blob([view], {type: "audio/wav"});
}
async function heard(data) {                        // any sound that the browser reads, at RATE, one channel
  const sound = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(data);
  return Array.from(sound.getChannelData(0));
}
async function record(column, button) {
  if (button.recorder) { button.recorder.stop(); return; }
  const stream = await navigator.mediaDevices.getUserMedia({audio: true});
  const recorder = button.recorder = new MediaRecorder(stream), parts = [];
  recorder.ondataavailable = (event) => parts.push(event.data);
  recorder.onstop = guarded(async () => {
    stream.getTracks().forEach((track) => track.stop());
    button.recorder = null; button.textContent = "Speak";
    await taken(column, wav(await heard(await new Blob(parts).arrayBuffer())));
  });
  recorder.start(); button.textContent = "Stop";
}
function field(column) {
  const label = make("label", {textContent: column.name, htmlFor: "in-" + column.name});
  const shown = make("div", {id: "shown-" + column.name});
  if (column.kind === "image" || column.kind === "audio") {
    const file = make("input", {type: "file", id: "in-" + column.name, accept: column.kind + "/*"});
    file.onchange = guarded(() => taken(column, file.files[0]));
    const speak = make("button", {type: "button", textContent: "Speak", id: "speak-" + column.name});
    speak.onclick = guarded(() => record(column, speak));
    return [label, file, ...(column.kind === "audio" ? [speak] : []), shown];
  }
  const number = column.kind === "number";
  const box = make(number ? "input" : "textarea", {id: "in-" + column.name});
  if (number) Object.assign(box, {type: "number", step: "any"});
  box.dir = "auto";
  box.oninput = () => { values[column.name] = parsed(column.kind, box.value); };
  return [label, box];
}
function parsed(kind, text) {
  if (kind === "number") return Number(text);
  if (kind === "string") return text;
  const parts = text.split(",").map((part) => part.trim());
  return kind === "numbers" ? parts.map(Number) : parts;
}
async function ask(rows, params) {
  const body = JSON.stringify({dataframe_records: rows, ...params});
  const headers = {"Content-Type": "application/json"};
  const answer = await fetch("invocations", {method: "POST", body, headers});
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.message);
  return found.predictions;
}
function guarded(call) {                            // what goes wrong is said on the page
  return async (...given) => {
    at("error").textContent = "";
    try { await call(...given); } catch (error) { at("error").textContent = error.message; }
  };
}
function share(name, value) {
  const row = make("div", {className: "share"}), percent = (100 * value).toFixed(1) + "%";
  const bar = make("meter", {value, max: 1, ariaLabel: `${name}: ${percent}`});
  row.append(make("bdi", {textContent: name}), bar, percent);
  return row;
}
let asked = null;                                   // {row, decided}: what was answered last
const decidedOf = (one) => one.label ?? one.labels?.join(", ") ?? null;
const busy = (call) => async () => {              // no second question before the answer to the first
  const buttons = [at("ask"), at("explain")];
  buttons.forEach((button) => { button.disabled = true; });
  await call();
  buttons.forEach((button) => { button.disabled = false; });
};
const show = guarded(async () => {
  at("answer").textContent = ""; at("shares").replaceChildren(); at("why").replaceChildren();
  at("explain").hidden = true;
  const missing = columns.find((column) => values[column.name] === undefined);
  if (missing) throw new Error(`${missing.name}: nothing is given`);
  const row = {...values}, [one] = await ask([row], {params: {top_k: 5}});
  const decided = decidedOf(one), first = Object.values(one)[0];
  at("answer").textContent = decided ?? (typeof first === "object" ? JSON.stringify(first) : `${first}`);
  at("shares").replaceChildren(...Object.entries(one.probabilities ?? {}).map((entry) => share(...entry)));
  asked = {row, label: one.label};
  at("explain").hidden = !(one.label && one.probabilities && PARTS[columns[0].kind]);
});

// What it rests on: each part is taken away, and the loss of probability is its weight.
const PARTS = {string: wordsWithout, image: squaresWithout, audio: stretchesWithout};
const strength = (value, largest) => largest ? (0.6 * Math.abs(value) / largest).toFixed(2) : 0;
const tint = (value, largest) => `rgb(var(--${value > 0 ? "for" : "not"}) / ${strength(value, largest)})`;
function painted(part, value, largest) {
  part.style.background = tint(value, largest); part.title = value.toFixed(3);
  return part;
}
const explain = guarded(async () => {
  const {row, label} = asked, column = columns[0];
  const {whole, without, draw} = await PARTS[column.kind](row[column.name]);
  const found = await ask([whole, ...without].map((value) => ({...row, [column.name]: value})), {});
  const [all, ...left] = found.map((one) => one.probabilities[label]);
  const weights = left.map((value) => all - value);
  at("why").replaceChildren(draw(weights, Math.max(...weights.map(Math.abs))), make("p", {className: "quiet",
    textContent: `Blue parts speak for ${label}, orange ones against it. The stronger the colour, the more`
      + " its probability changes without that part."}));
});
function wordsWithout(text) {
  const parts = text.split(/(\s+)/);
  const places = parts.flatMap((part, i) => part.trim() ? [i] : []).slice(0, MOST_WORDS);
  const draw = (weights, largest) => {
    const shown = make("p", {dir: "auto"});
    parts.forEach((part, i) => {
      const place = places.indexOf(i), word = make(place < 0 ? "span" : "mark", {textContent: part});
      if (place >= 0) painted(word, weights[place], largest);
      shown.append(word);
    });
    return shown;
  };
  return {whole: text, without: places.map((i) => parts.filter((_, j) => j !== i).join("")), draw};
}
async function squaresWithout() {
  const image = at("shown-" + columns[0].name).querySelector("img"); await image.decode();
  const scale = Math.min(1, MOST_SIDE / Math.max(image.naturalWidth, image.naturalHeight));
  const sides = [image.naturalWidth, image.naturalHeight];
  const [width, height] = sides.map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = make("canvas", {width, height, role: "img", ariaLabel: "the picture, coloured"});
  const pen = canvas.getContext("2d", {willReadFrequently: true});
  const bounds = (n, side) => [Math.round(n * side / GRID), Math.round((n + 1) * side / GRID)];
  const squares = [...Array(GRID * GRID).keys()].map((n) => {
    const [left, right] = bounds(n % GRID, width), [top, bottom] = bounds(Math.floor(n / GRID), height);
    return [left, top, right - left, bottom - top];
  });
  const fresh = () => pen.drawImage(image, 0, 0, width, height);
  const sent = () => canvas.toDataURL("image/png").split(",")[1];
  fresh(); const whole = sent(), pixels = pen.getImageData(0, 0, width, height).data, mean = [0, 0, 0];
  pixels.forEach((value, i) => { if (i % 4 < 3) mean[i % 4] += value / (pixels.length / 4); });
  const without = squares.map((square) => {
    fresh(); pen.fillStyle = `rgb(${mean.map(Math.round)})`; pen.fillRect(...square); return sent();
  });
  const draw = (weights, largest) => {
    fresh(); const style = getComputedStyle(document.documentElement);
    weights.forEach((value, i) => {
      pen.fillStyle = tint(value, largest).replace(/var\((.*?)\)/, (_, name) => style.getPropertyValue(name));
      pen.fillRect(...squares[i]);
    });
    return canvas;
  };
  return {whole, without, draw};
}
async function stretchesWithout(sent) {
  const samples = await heard(Uint8Array.from(atob(sent), (sign) => sign.charCodeAt(0)).buffer);
  const coded = async (given) => base64(new Uint8Array(await wav(given).arrayBuffer()));
  const step = Math.ceil(samples.length / STRETCHES), without = [];
  for (let start = 0; start < samples.length; start += step)
    without.push(await coded(samples.map((x, i) => (i >= start && i < start + step ? 0 : x))));
  const draw = (weights, largest) => {
    const shown = make("div", {className: "bars", role: "img", ariaLabel: "the sound, from left to right"});
    shown.append(...weights.map((value) => painted(make("i"), value, largest)));
    return shown;
  };
  return {whole: await coded(samples), without, draw};
}
at("fields").append(...columns.flatMap(field));
at("ask").onclick = busy(show); at("explain").onclick = busy(explain);
"""


def page(uri: str, columns: Mapping[str, str]) -> str:
    """The page of a model: `columns` are its inputs by the names that callers use → their types' words."""
    listed = json.dumps([{"name": name, "kind": word} for name, word in columns.items()])
    listed = listed.replace("<", "\\u003c")  # no name ends the script
    title = html.escape(uri)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><style>{_STYLE}</style></head><body><main>
<h1>{title}</h1>
<p>Try the model: give it something below, and ask.</p>
<p class="quiet">What you give goes to the server that showed this page, and nowhere else.</p>
<div id="fields"></div>
<button type="button" id="ask">Ask</button>
<p id="error" class="wrong" role="alert"></p>
<div id="answer" role="status"></div><div id="shares"></div>
<button type="button" id="explain" hidden>Why this answer?</button><div id="why"></div></main>
<script type="application/json" id="columns">{listed}</script><script>{_SCRIPT}</script>
</body></html>
"""
