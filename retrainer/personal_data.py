"""Personal data in texts, by their form: e-mail addresses, IBANs, card numbers, IP addresses, phone numbers.

Numbers with check digits count only where these are right: of IBANs by ISO 7064, and by the country's length;
of cards by Luhn's rule (ISO/IEC 7812-1). Of phone numbers those with a country's code are found, and North
American ones as people write them: other national forms look like any number. Names, postal addresses and
dates of birth are not found.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_EMAIL = re.compile(r"(?<![\w.+-])[\w.%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,}(?![\w-])")
_CARD = re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){12,18}(?![\w-]|\.\d)")
_IP = re.compile(
    r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?![\w:]|\.\d)"
)
_PHONE = re.compile(
    r"(?<![\w+.-])(?:\+[1-9](?:[ ./-]?\(?\d\)?){7,14}"
    r"|(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .-])[2-9]\d{2}[ .-]\d{4})(?![\w-]|\.\d)"
)
# The first digits of the networks that issue cards; an industry's first digit alone would let most through.
_ISSUERS = re.compile(r"3[47]|30[0-5]|3[689]|4|5[1-5]|2[2-7]|6011|64|65|62|35")
# Characters of an IBAN by country (the SWIFT registry); those of others are not found.
_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AT": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18,
    "EE": 20, "ES": 24, "FI": 18, "FR": 27, "GB": 22, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IL": 23,
    "IS": 26, "IT": 27, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MT": 31, "NL": 18, "NO": 15,
    "PL": 28, "PT": 25, "RO": 24, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TR": 26, "UA": 29,
}  # fmt: skip
_COUNTRIES = "|".join(f"{land}\\d\\d(?: ?[A-Z0-9]){{{size - 4}}}" for land, size in _IBAN_LENGTHS.items())
_IBAN = re.compile(rf"(?<![A-Za-z0-9])(?:{_COUNTRIES})(?![A-Za-z0-9])")


def without_personal_data(text: str) -> tuple[str, Counter[str]]:
    """The text with `[email]`, `[iban]`, `[card]`, `[ip]`, `[phone]` for what it holds, and how many of each.

    A text that this gave is left as it is.
    """
    found: Counter[str] = Counter()

    def masked(kind: str, holds: Callable[[str], bool]) -> Callable[[re.Match[str]], str]:
        def mask(match: re.Match[str]) -> str:
            if not holds(match[0]):
                return match[0]
            found[kind] += 1
            return f"[{kind}]"

        return mask

    for kind, pattern, holds in _KINDS:
        text = pattern.sub(masked(kind, holds), text)
    return text, found


def mask_columns(table: pa.Table, columns: Sequence[str] | Mapping[str, str]) -> pa.Table:
    """The table with those of the columns masked that it has; null stays null."""
    import pyarrow as pa

    for name in columns:
        if name in table.column_names:
            texts = [text and without_personal_data(text)[0] for text in table[name].to_pylist()]
            place = table.column_names.index(name)
            table = table.set_column(place, table.field(name), pa.array(texts, pa.string()))
    return table


def _is_iban(text: str) -> bool:
    plain = text.replace(" ", "")
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def _is_card(text: str) -> bool:
    digits = [int(character) for character in text if character.isdigit()]
    plain = "".join(map(str, digits))
    if not _ISSUERS.match(plain) or len(set(plain)) < 2:
        return False
    doubled = [2 * digit for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(digit - 9 if digit > 9 else digit for digit in doubled)) % 10 == 0


def _is_address(text: str) -> bool:
    """Of the internet at large: one of a private network names no person."""
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def _always(_: str) -> bool:
    return True


_KINDS: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("email", _EMAIL, _always),
    ("iban", _IBAN, _is_iban),
    ("card", _CARD, _is_card),
    ("ip", _IP, _is_address),
    ("phone", _PHONE, _always),
)
