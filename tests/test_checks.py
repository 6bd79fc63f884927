"""Every check at every level: error stops and names, warn counts, off does not look; and no row is lost."""

from __future__ import annotations

import io
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from retrainer.data.classes import chance, check_division, spelt_alike
from retrainer.data.images import look_at
from retrainer.data.sources._columns import encoded_array
from retrainer.data.texts import wrongly_encoded
from retrainer.errors import UserError
from retrainer.findings import Findings
from retrainer.settings import Checks, Task
from retrainer.tasks._decode_image import decode_image
from tests.raw_rows import TEXT, WARN, Row, run, told, where, words

IMAGES = Task(kind="image_classification")


def png(seed: int, **options: object) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(noise).save(buffer, "PNG", **options)
    return buffer.getvalue()


def pictures(count: int) -> list[Row]:
    return [
        {"image": {"bytes": png(n), "path": None}, "labels": ["odd" if n % 2 else "even"]}
        for n in range(count)
    ]


def alpha() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA", (8, 8), (200, 0, 0, 128)).save(buffer, "PNG")
    return buffer.getvalue()


LONG = "the quick brown fox jumps over the lazy dog and runs away from the hunter in the green wood today"
# Check → rows besides forty sound ones, own test rows, the task, how many it finds.
CASES: dict[str, tuple[list[Row], list[Row] | None, Task, int]] = {
    "empty": ([{"text": " ", "labels": ["odd"]}, {"text": "x", "labels": None}], None, TEXT, 2),
    "broken": ([{"image": {"bytes": b"no image", "path": None}, "labels": ["odd"]}], None, IMAGES, 1),
    "encoding": (
        [{"text": "cafÃ© a\x07", "labels": ["odd"]}, {"text": "\ufffd", "labels": ["odd"]}],
        None,
        TEXT,
        2,
    ),
    "too_long": ([{"text": LONG, "labels": ["odd"]}], None, Task(max_length=8), 1),
    "unusual_images": ([{"image": {"bytes": alpha(), "path": None}, "labels": ["odd"]}], None, IMAGES, 1),
    "label_spelling": ([{"text": f"o {n}", "labels": ["ODD "]} for n in range(30)], None, TEXT, 1),
    "rare_class": ([{"text": "a rare one", "labels": ["rare"], "group": "g"}], None, TEXT, 1),
    "duplicates": ([{"text": "Text 3", "labels": ["odd"]}], None, TEXT, 1),
    "conflicting_labels": ([{"text": "Text 3", "labels": ["even"]}], None, TEXT, 2),
    "near_duplicates": (
        [{"text": LONG, "labels": ["odd"]}, {"text": LONG + "!!", "labels": ["odd"]}],
        None,
        TEXT,
        1,
    ),
    "unseen_class": ([], [{"text": "x", "labels": ["new"]}, *words(44)[41:]], TEXT, 1),
    "near_test_overlap": (
        [{"text": LONG, "labels": ["odd"]}],
        [{"text": LONG + "!!", "labels": ["odd"]}, *words(44)[41:]],
        TEXT,
        1,
    ),
    "test_overlap": ([], [{"text": "text 3", "labels": ["odd"]}, *words(6)[4:]], TEXT, 3),
}


def rows_of(name: str) -> tuple[list[Row], list[Row] | None, Task, int]:
    rows, own_test, task, count = CASES[name]
    return [*rows, *(pictures(40) if task is IMAGES else words(40))], own_test, task, count


@pytest.mark.parametrize("name", CASES)
def test_a_check_that_warns_counts(tmp_path, name):
    rows, own_test, task, count = rows_of(name)
    manifest = run(tmp_path, rows, own_test, task, WARN.model_copy(update={name: "warn"}))
    assert told(manifest)[name][0] == count
    (found,) = [found for found in manifest["checks"] if found["name"] == name]
    assert found["level"] == "warn" and 1 <= len(found["examples"]) <= 5
    assert len(where(tmp_path)) == len(rows) + len(own_test or [])


@pytest.mark.parametrize("name", CASES)
def test_a_check_that_is_an_error_stops_and_names_setting_number_and_rows(tmp_path, name):
    rows, own_test, task, count = rows_of(name)
    with pytest.raises(UserError) as caught:
        run(tmp_path, rows, own_test, task, WARN.model_copy(update={name: "error"}))
    line = str(caught.value)
    assert line.startswith(f"checks.{name}: {count} ") and line.endswith(f"or set checks: {{{name}: warn}}")
    named = "a.csv:row" in line or name in ("label_spelling", "rare_class", "unseen_class")
    assert "\n" not in line and named
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", CASES)
def test_a_check_that_is_off_does_not_look(tmp_path, name):
    rows, own_test, task, _ = rows_of(name)
    manifest = run(tmp_path, rows, own_test, task, WARN.model_copy(update={name: "off"}))
    assert [found["level"] for found in manifest["checks"] if found["name"] == name] == ["off"]
    assert name not in told(manifest)
    unusable = {"empty": 2, "broken": 1}.get(name, 0)
    assert sum(manifest["dropped"].values()) == unusable
    assert sum(manifest["rows"].values()) == len(rows) + len(own_test or []) - unusable


def test_a_single_class_may_be_allowed(tmp_path):
    rows = [{"text": f"t {n}", "labels": ["x"]} for n in range(30)]
    with pytest.raises(UserError, match=r"^checks\.single_class: 1 class only \('x'\)"):
        run(tmp_path, rows)
    assert told(run(tmp_path, rows, checks=Checks(single_class="warn")))["single_class"][0] == 1
    assert "single_class" not in told(run(tmp_path, rows, checks=Checks(single_class="off")))


def test_without_any_label_nothing_can_be_learnt_whatever_the_levels(tmp_path):
    rows = [{"text": f"t {n}", "labels": []} for n in range(30)]
    with pytest.raises(UserError, match="the training rows have no class"):
        run(tmp_path, rows, task=Task(multi_label=True), checks=Checks(single_class="off"))


def test_the_schema_is_kept_as_it_came(tmp_path):
    rows = [*words(38, id="7"), {"text": "a", "labels": None}, {"text": None, "labels": ["odd"]}]
    schema = run(tmp_path, [{**row, "group": None if n % 2 else f"g{n}"} for n, row in enumerate(rows)])[
        "schema"
    ]
    assert schema["text"] == {"type": "text", "absent": 0.025}
    assert schema["labels"] == {"type": "list of words", "absent": 0.025}
    assert schema["group"]["absent"] == 0.5 and schema["id"]["absent"] == 0.05


# --- texts ------------------------------------------------------------------------------------------------

FINE = [
    "café», „Ä“ é… NÃO Â quoi ESPAÑA» Spaß»",
    "“quoted” – don’t 2€ à–la I’ll â",
    "Ελλάδα Привет 日本語 😀",
    "two\nlines\tand a tab\r\n",
]
MISREAD = ["café", "don’t – “x”", "Привет мир", "日本語", "so 😀", "Ελλάδα", "naïve €", "à la carte"]


def flaws(texts: list[str]) -> list[str]:
    found = wrongly_encoded(pa.chunked_array([texts]))
    return ["".join(kind for kind, wrong in found.items() if wrong[row]) for row in range(len(texts))]


def test_sound_texts_of_many_scripts_have_no_flaw():
    assert flaws(FINE) == [""] * len(FINE)


@pytest.mark.parametrize("codec", ["latin-1", "cp1252"])
def test_utf8_that_was_read_as_latin1_is_found(codec):
    misread = [text.encode().decode(codec, "ignore" if codec == "cp1252" else "strict") for text in MISREAD]
    assert flaws(misread).count("of UTF-8 read as Latin-1") >= len(MISREAD) - 1


@pytest.mark.parametrize("control", ["\x00", "\x07", "\x1b", "\x7f", "\x85"])
def test_control_characters_are_found(control):
    assert flaws([f"a{control}b"]) == ["with control characters"]


def test_pairs_are_cut_together(tmp_path):
    rows = words(40, text_pair="three more words")
    rows[0]["text_pair"] = "now there are seven more words here"
    assert told(run(tmp_path, rows, task=Task(max_length=8)))["too_long"][0] == 1


# --- images -----------------------------------------------------------------------------------------------


def upright() -> Image.Image:
    """Eight by eight, another colour in each quarter."""
    image = Image.new("RGB", (8, 8), (250, 10, 10))
    image.paste((10, 250, 10), (4, 0, 8, 4))
    image.paste((10, 10, 250), (0, 4, 4, 8))
    return image


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def turned(orientation: int) -> bytes:
    note = Image.Exif()
    note[0x0112] = orientation
    return saved(upright().transpose(TURNS[orientation]), exif=note)


def deep_png() -> bytes:
    """16 bits a channel, RGB: Pillow cannot write it, so its chunks are put together here."""
    import struct
    import zlib

    pixels = np.asarray(upright()).astype(np.uint16) * 257
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def moving() -> bytes:
    return saved(upright(), "GIF", save_all=True, append_images=[Image.new("RGB", (8, 8))])


UNUSUAL = {
    **{f"rotated {n}": (turned(n), ("rotated",)) for n in TURNS},
    "alpha": (saved(upright().convert("RGBA")), ("alpha",)),
    "palette with a hole": (saved(upright().quantize(8), transparency=7), ("alpha",)),
    "animated gif": (moving(), ("animated",)),
    "animated webp": (
        saved(upright(), "WEBP", lossless=True, save_all=True, append_images=[Image.new("RGB", (8, 8))]),
        ("animated",),
    ),
    "pages of a tiff": (
        saved(upright(), "TIFF", save_all=True, append_images=[Image.new("RGB", (8, 8))]),
        ("animated",),
    ),
    "16-bit": (deep_png(), ("16-bit",)),
    "cmyk": (saved(upright().convert("CMYK"), "TIFF"), ("CMYK",)),
    "plain": (saved(upright()), ()),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_image_is_counted_and_decodes_upright_in_plain_colours(name):
    data, unusual = UNUSUAL[name]
    (look,) = look_at(pa.chunked_array([encoded_array([data])]))
    assert (look.reason, look.size, look.unusual) == (None, (8, 8), unusual)
    pixels = decode_image(data, (8, 8), 3, name)
    np.testing.assert_allclose(pixels.transpose(1, 2, 0), np.asarray(upright()), atol=8)


def test_sixteen_bit_grey_and_cmyk_of_a_camera():
    deep = Image.fromarray(np.full((8, 8), 40_000, np.uint16))
    cmyk = Image.new("CMYK", (8, 8), (0, 0, 0, 255))
    looks = look_at(pa.chunked_array([encoded_array([saved(deep), saved(cmyk, "JPEG")])]))
    assert [look.unusual for look in looks] == [("16-bit",), ("CMYK",)]


def test_a_telephones_second_picture_does_not_make_a_photo_move():
    photo = saved(upright(), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    (look,) = look_at(pa.chunked_array([encoded_array([photo])]))
    assert (look.reason, look.unusual) == (None, ())


def test_pixels_without_a_grey_or_rgb_meaning_are_left_out():
    numbers = saved(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF")
    lab = saved(Image.new("LAB", (8, 8)), "TIFF")
    looks = look_at(pa.chunked_array([encoded_array([numbers, lab])]))
    assert [look.reason for look in looks] == ["no grey or RGB image"] * 2


MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F", "LAB"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG", "WEBP", "BMP", "GIF"])
def test_what_preprocessing_lets_pass_can_be_decoded(mode, form):
    try:
        data = saved(Image.new(mode, (8, 8)), form)
    except (OSError, ValueError, KeyError):
        pytest.skip(f"no {form} of {mode}")
    (look,) = look_at(pa.chunked_array([encoded_array([data])]))
    if look.reason is None:
        assert decode_image(data, (8, 8), 3, "x").shape == (3, 8, 8)


# --- classes ----------------------------------------------------------------------------------------------


def test_names_spelt_twice_are_found_and_numbers_stay_apart():
    apart = ["-1", "0", "1", "+1", "1.5", "15", "+", "-", "a", "C", "C++", "C#", ">50K", "<=50K", "AA", "AA+"]
    assert spelt_alike([*apart, "कल", "काल"]) == []
    twice = ["Card arrival", "card_arrival", "card-arrival", "e mail", "e-mail", "x 1", "x_1", "Ä", "ä"]
    assert [len(names) for names in spelt_alike(twice)] == [3, 2, 2, 2]


def test_a_share_that_chance_hardly_gives_is_told(tmp_path):
    def odd(tested: int, by_chance: bool = True) -> list[str]:
        findings = Findings(Checks())
        counts = {"train": {"a": 800, "b": 100 - tested}, "validation": {}, "test": {"a": 200, "b": tested}}
        check_division(counts, by_chance, findings)
        return [f"{found.name}: {', '.join(found.examples)}" for found in findings.found]

    assert odd(20) == odd(32) == odd(9) == odd(60, by_chance=False) == []
    assert odd(60) == ["class_shares: b: 60 of 100"] and odd(3) == ["class_shares: b: 3 of 100"]
    rows = [{"text": f"t {n}", "labels": [f"c{n % 4}"]} for n in range(2000)]
    assert "class_shares" not in told(run(tmp_path, rows))


def test_a_class_without_test_rows_is_told_and_the_shares_are_kept(tmp_path):
    manifest = run(tmp_path, [*words(60), {"text": "alone", "labels": ["lonely"], "group": "g0"}])
    assert told(manifest)["class_without_test"] == (1, "classes that no test row has")
    assert manifest["class_shares"]["lonely"] == {"train": 1.0, "validation": 0.0, "test": 0.0}
    for divided in manifest["class_shares"].values():
        assert math.isclose(sum(divided.values()), 1, abs_tol=1e-5)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 400), st.floats(0.01, 0.99), st.data())
def test_chance_is_the_exact_binomial_tail(total, share, data):
    count = data.draw(st.integers(0, total))

    def term(k: int) -> float:
        return math.comb(total, k) * share**k * (1 - share) ** (total - k)

    beyond = range(count + 1) if count <= total * share else range(count, total + 1)
    assert math.isclose(
        chance(count, total, share), min(1, 2 * math.fsum(map(term, beyond))), rel_tol=1e-6, abs_tol=1e-200
    )
