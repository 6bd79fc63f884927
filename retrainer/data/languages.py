"""Which language a text is written in, as far as its script and its most frequent small words tell.

The method of small words: G. Grefenstette, Comparing two language identification schemes (JADT 1995). A text
that shows too few of them has no language here.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

_SMALL_WORDS = {
    "English": "the and of to is in my it that for have how what was with this are can not",
    "German": "der die das und ist ein eine einen einem mit auf dem den nicht ich im von zu sich für",
    "French": "le la les et est un une des dans du que je ne pas sur qui avec mon pour ce",
    "Spanish": "el la los las es un una de en que con por mi para se no del lo su al",
    "Italian": "il la di che è un una per con non del della sono mi ho gli nel alla come si",
    "Portuguese": "o os de que um uma em para com não do da meu minha no na ao se por eu",
    "Dutch": "de het een en is van op met niet ik dat voor zijn mijn te aan naar er bij",
    "Polish": "w na i z się nie do jest to że jak po za od mam są ale co",
    "Swedish": "en ett och är på att som med inte för den av jag till har det om min",
    "Danish": "en et og er på at som med ikke for den af jeg til har det om min",
    "Turkish": "bir ve bu için ne mi çok ile da de var daha gibi nasıl neden",
}
_LANGUAGES_OF: dict[str, list[str]] = {}
for _language, _words in _SMALL_WORDS.items():
    for _one in _words.split():
        _LANGUAGES_OF.setdefault(_one, []).append(_language)
_WORD = re.compile(r"\w+")
_LEAST_WORDS = 2
_CHARACTERS = 500  # of each text


def language_of(text: str) -> str:
    """A language, or a script that is not Latin; empty where nothing tells."""
    text = text[:_CHARACTERS].casefold()
    if script := _foreign_script(text):
        return script
    counts = Counter(language for word in _WORD.findall(text) for language in _LANGUAGES_OF.get(word, ()))
    ranked = [*counts.most_common(2), ("", 0), ("", 0)]
    (language, most), (_, second) = ranked[0], ranked[1]
    return language if most >= _LEAST_WORDS and most > second else ""


def languages_of(texts: Sequence[str]) -> list[str]:
    return [language_of(text) for text in texts]


def _foreign_script(text: str) -> str:
    """The script of most letters, in Unicode's words (Cyrillic, Cjk, Arabic); empty for Latin."""
    if text.isascii():
        return ""
    scripts = Counter(unicodedata.name(sign, "").partition(" ")[0] for sign in text if sign.isalpha())
    script = scripts.most_common(1)[0][0] if scripts else "LATIN"
    return "" if script == "LATIN" else script.capitalize()
