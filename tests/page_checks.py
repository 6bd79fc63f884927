"""What a real browser measures of a page: widths, contrasts, order of headings; and its first screen."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from tests.browser import Page

# The screens that pages are made for: width and height in pixels.
DESKTOP, PHONE = (1200, 850), (390, 844)
MOST_BYTES = 150_000

# Elements that stand out of the screen without a frame that scrolls, and frames that scroll by no keyboard.
_WIDTHS = """(() => {
  const wide = document.scrollingElement.clientWidth, out = [], frames = [], scrolled = [];
  for (const one of document.querySelectorAll("body *")) {
    const box = one.getBoundingClientRect(), frame = one.closest(".scroll");
    const hidden = !box.width || getComputedStyle(one).clipPath !== "none" || one.closest("thead");
    const name = `${one.tagName}.${one.getAttribute("class") ?? ""}`;
    if (!hidden && !frame && (box.right > wide + 1 || box.left < -1)) out.push(name);
    if (one.scrollWidth > one.clientWidth + 1 && one.matches(".scroll")) {
      scrolled.push([...one.children].map((child) => child.className.baseVal ?? child.className).join());
      if (one.tabIndex < 0) frames.push(name);
    }
  }
  return {page: document.scrollingElement.scrollWidth, screen: wide, out, frames, scrolled};
})()"""

# Each text with the colours below its middle, from the page's to its own.
_CONTRASTS = """(() => {
  const parsed = (text) => (text.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  const over = (below, [r, g, b, a = 1]) => [r, g, b].map((part, i) => part * a + below[i] * (1 - a));
  const light = (part) => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const shine = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
  const poor = [];
  let measured = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement, range = document.createRange();
    range.selectNodeContents(walker.currentNode);
    const box = range.getClientRects()[0];
    if (!walker.currentNode.data.trim() || !box?.width || one.closest("script, title, meter")) continue;
    const stack = document.elementsFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    if (!stack.includes(one)) continue;
    measured += 1;
    const drawn = one.ownerSVGElement !== null && one instanceof SVGElement;
    let ground = [255, 255, 255];
    for (const layer of stack.slice(stack.indexOf(one)).reverse())
      ground = over(ground, parsed(getComputedStyle(layer).backgroundColor));
    const style = getComputedStyle(one), ink = over(ground, parsed(drawn ? style.fill : style.color));
    const [least, most] = [shine(ground), shine(ink)].sort((a, b) => a - b);
    const ratio = (most + 0.05) / (least + 0.05), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) poor.push(`${ratio.toFixed(2)} ${walker.currentNode.data.trim()}`);
  }
  return {poor, measured};
})()"""

# What a screen reader goes by.
_STRUCTURE = """(() => {
  const wrong = [], levels = [...document.querySelectorAll("h1, h2, h3, h4")].map((one) => +one.tagName[1]);
  levels.forEach((level, i) => { if (level > (levels[i - 1] ?? 0) + 1) wrong.push(`h${level} at ${i}`); });
  if (levels.filter((level) => level === 1).length !== 1) wrong.push("not one h1");
  if (!document.documentElement.lang) wrong.push("no language");
  if (!document.querySelector("main")) wrong.push("no main");
  const named = (one) => one.ariaLabel || one.labels?.length || one.textContent.trim() || one.title;
  for (const one of document.querySelectorAll("img:not([alt])")) wrong.push("img without alt");
  const reached = "button, input, textarea, summary, a, audio, [tabindex], meter";
  for (const one of document.querySelectorAll(reached))
    if (!named(one)) wrong.push(`${one.tagName} without a name`);
  for (const one of document.querySelectorAll("svg"))
    if (!one.closest("[aria-hidden=true]") && !one.ariaLabel) wrong.push("svg without a name");
  for (const one of document.querySelectorAll("th"))
    if (!one.textContent.trim()) wrong.push("th without a text");
  return wrong;
})()"""


def opened(
    tab: Page, address: str, size: tuple[int, int], colours: str = "light", paper: bool = False
) -> None:
    """The page in a window of that size, in light or dark, on a screen or as it is printed."""
    scheme = [{"name": "prefers-color-scheme", "value": colours}]
    tab.call("Emulation.setEmulatedMedia", features=scheme, media="print" if paper else "screen")
    tab.resize(*size)
    tab.open(address)


def widths(tab: Page) -> dict[str, Any]:
    """`page` and `screen` in pixels; `out`: elements off-screen; `scrolled`: classes of what stands in the
    frames that scroll; `frames`: those that no key scrolls."""
    return dict(tab.evaluate(_WIDTHS))


def poor_contrasts(tab: Page, width: int) -> list[str]:
    """Texts below WCAG's AA, with their ratio; the window is made as high as the page to see them all.

    The ground is what CSS paints: a text over an SVG's shapes is compared with what lies behind the SVG.
    """
    tab.resize(width, int(tab.evaluate("document.scrollingElement.scrollHeight")))
    found = tab.evaluate(_CONTRASTS)
    assert found["measured"] > 5, "the page has texts, and they are seen"
    return list(found["poor"])


def structure(tab: Page) -> list[str]:
    return list(tab.evaluate(_STRUCTURE))


def screen(tab: Page, path: Path) -> None:
    """The window as a PNG of 128 colours, and of less than MOST_BYTES."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(io.BytesIO(tab.picture())) as picture:
        picture.convert("RGB").quantize(128).save(path, "PNG", optimize=True)
    assert path.stat().st_size < MOST_BYTES, f"{path.name}: {path.stat().st_size:,} bytes"
