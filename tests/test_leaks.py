"""Splits without leaks: what is alike or of one group is in one split, by hash and by time, later too."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrainer.data.similar import similar_texts
from retrainer.data.splits import components, content_keys, normalised
from retrainer.data.times import instant
from retrainer.errors import UserError
from retrainer.formats.dataset import Dataset
from retrainer.formats.names import SPLITS
from retrainer.formats.row_keys import read_row_keys
from retrainer.settings import Checks
from tests.raw_rows import Row, run, scratch, told, where, words

LEAST = Checks().text_similarity
QUESTIONS = [
    "please tell me why the payment with my card was declined at the shop on the corner yesterday",
    "how long does it take until money that my employer sends from abroad arrives in this account",
    "somebody has stolen my phone in Lisbon and I want to block every device that is logged in",
    "is there a fee for changing dollars into yen at the weekend when all the markets are closed",
    "I moved house last month, where can I change the address to which you send new plastic cards",
    "the machine swallowed three notes of fifty and printed a receipt over one hundred only",
    "my daughter turns sixteen next week, may she have an account with a limit of her own",
    "what documents prove who I am if neither passport nor driving licence is valid any longer",
]
ENDINGS = ["", "!", "so", "now", "?!", "ok"]


def near_row(stem: int, ending: int, **more: object) -> Row:
    """Rows of one stem are near-duplicates of each other, those of two stems are not."""
    return {"text": f"{QUESTIONS[stem]} {ENDINGS[ending]}", "labels": ["p" if stem % 2 else "q"], **more}


STEMS, FORMS = st.integers(0, 7), st.integers(0, len(ENDINGS) - 1)
GROUPS = st.sampled_from([None, None, "g", "h", "i"])
TIMES = st.sampled_from([f"2024-01-{day:02d}" for day in range(1, 29)])
ROW = st.builds(near_row, STEMS, FORMS, group=GROUPS)
TIMED = st.builds(near_row, STEMS, FORMS, group=GROUPS, time=TIMES)
BASE = [
    {"text": f"base {n}", "labels": ["p" if n % 2 else "q"], "time": f"2023-{1 + n % 12:02d}-05"}
    for n in range(40)
]


def by_content(folder: Path) -> dict[str, str]:
    """Normalised text → its split."""
    dataset = Dataset(folder / "out")
    return {normalised(text): name for name in SPLITS for text in dataset.split(name)["text"].to_pylist()}


def assert_no_leak(folder: Path) -> None:
    homes = by_content(folder)
    texts = sorted(homes)
    for one, other in similar_texts(texts, LEAST).tolist():
        assert homes[texts[one]] == homes[texts[other]]
    groups: dict[str, set[str]] = {}
    for name in SPLITS:
        for row in Dataset(folder / "out").split(name).to_pylist():
            if row.get("group"):
                groups.setdefault(row["group"], set()).add(name)
    assert all(len(splits) == 1 for splits in groups.values())


@pytest.mark.parametrize("by", ["hash", "time"])
def test_no_group_no_twin_and_no_near_duplicate_is_in_two_splits(by):
    @settings(max_examples=15, deadline=None)
    @given(rows=st.lists(TIMED, max_size=25), own=st.lists(TIMED, max_size=4))
    def holds(rows: list[Row], own: list[Row]) -> None:
        test = [{"text": "base test", "labels": ["p"]}, *own] if own else None
        with scratch() as folder:
            manifest = run(folder, [*BASE, *rows], test, by=by, test=0.3)
            assert_no_leak(folder)
            total = len(BASE) + len(rows) + len(test or [])
            assert sum(manifest["rows"].values()) + sum(manifest["dropped"].values()) == total
            assert len(where(folder)) == total

    holds()


@pytest.mark.parametrize("by", ["hash", "time"])
def test_the_order_of_rows_moves_none_and_changes_no_hash(by):
    @settings(max_examples=10, deadline=None)
    @given(rows=st.lists(TIMED, max_size=25), seed=st.randoms(use_true_random=False))
    def holds(rows: list[Row], seed: object) -> None:
        ordered = [*BASE, *rows]
        shuffled = seed.sample(ordered, len(ordered))
        with scratch() as one, scratch() as other:
            first, second = run(one, ordered, by=by), run(other, shuffled, by=by)
            assert first["content_sha256"] == second["content_sha256"]
            assert by_content(one) == by_content(other)
            assert (one / "out/row_keys.parquet").read_bytes() == (
                other / "out/row_keys.parquet"
            ).read_bytes()

    holds()


def linked(rows: list[Row], timed: bool) -> list[bytes]:
    """The component of each row, as preprocessing finds it."""
    keys = [normalised(row["text"]) for row in rows]
    near = pairs_of(sorted(set(keys)))
    times = [instant(row["time"]) for row in rows] if timed else None
    return components([key.encode() for key in keys], [row.get("group") for row in rows], near, times)


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(ROW, max_size=20), new=st.lists(st.integers(0, 30), min_size=1, max_size=5))
def test_a_new_row_like_no_other_moves_nothing(rows, new):
    fresh = [{"text": f"something new {n}", "labels": ["p"]} for n in new]
    with scratch() as folder:
        run(folder, [*BASE, *rows])
        before = by_content(folder)
        run(folder, [*BASE, *rows, *fresh])
        assert before.items() <= by_content(folder).items()


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=20), new=st.lists(ROW, min_size=1, max_size=5))
def test_new_rows_move_only_what_they_are_linked_to(rows, new):
    before, after = linked(rows, timed=False), linked([*rows, *new], timed=False)
    touched = set(after[len(rows) :])
    for old, now in zip(before, after, strict=False):
        assert old == now or now in touched


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(TIMED, min_size=1, max_size=20), new=st.lists(TIMED, min_size=1, max_size=5))
def test_with_times_a_later_row_moves_nothing_unless_it_makes_two_components_one(rows, new):
    later = [{**row, "time": "2025-02-03"} for row in new]
    before, after = linked(rows, timed=True), linked([*rows, *later], timed=True)
    joined: dict[bytes, set[bytes]] = {}
    for old, now in zip(before, after, strict=False):
        joined.setdefault(now, set()).add(old)
    for old, now in zip(before, after, strict=False):
        assert old == now or len(joined[now]) > 1
        assert now in joined[now]  # of components that became one, the place of the oldest stays


@settings(max_examples=12, deadline=None)
@given(rows=st.lists(TIMED, max_size=20), stems=st.lists(STEMS, min_size=1, max_size=3))
def test_with_times_later_near_duplicates_leave_every_split_as_it_was(rows, stems):
    lone = [{**row, "group": None} for row in rows]
    later = [near_row(stem, 0, time="2025-02-03") for stem in stems]
    with scratch() as folder:
        run(folder, [*BASE, *lone])
        before = by_content(folder)
        run(folder, [*BASE, *lone, *later])
        after = by_content(folder)
        # A contradiction leaves the data; what stays, stays where it was.
        assert all(after.get(text, split) == split for text, split in before.items())


def test_with_ids_that_count_near_duplicates_of_the_same_day_move_nothing(tmp_path):
    """As they do without: of one day's rows the smallest key leads, and a new one may have it."""
    day = {"time": "2024-02-03"}
    rows = [near_row(stem, 0, **day, id=str(9 + stem)) for stem in range(len(QUESTIONS))]
    new = [
        near_row(stem, form, **day, id=str(100 + stem))
        for stem in range(len(QUESTIONS))
        for form in (1, 2, 3)
    ]

    def moved(ids: bool) -> int:
        found = []
        for number, part in enumerate((rows, [*rows, *new])):
            part = part if ids else [{**row, "id": None} for row in part]
            run(tmp_path / f"{ids}{number}", [*BASE, *part])
            found.append(by_content(tmp_path / f"{ids}{number}"))
        return sum(split != found[1][text] for text, split in found[0].items())

    assert moved(ids=True) == 0 < moved(ids=False)


def test_the_questions_are_near_in_all_their_forms_and_apart_from_each_other():
    texts = [near_row(stem, form)["text"] for stem in range(len(QUESTIONS)) for form in range(len(ENDINGS))]
    homes = components([text.encode() for text in texts], [None] * len(texts), pairs_of(texts))
    assert len(set(homes)) == len(QUESTIONS)
    assert all(
        len(set(homes[start : start + len(ENDINGS)])) == 1 for start in range(0, len(texts), len(ENDINGS))
    )


def pairs_of(texts: list[str]) -> list[tuple[bytes, bytes]]:
    return [
        (texts[one].encode(), texts[other].encode()) for one, other in similar_texts(texts, LEAST).tolist()
    ]


# --- one by one -------------------------------------------------------------------------------------------


def test_the_smallest_key_leads_a_group_before_any_row_and_the_oldest_before_both():
    a, b, c = b"a", b"b", b"c"
    assert components([c, b], [None, None], [(b, c)]) == [b, b]
    grouped = components([a, c], [None, "g"], [(a, c)])
    assert grouped == components([c], ["g"]) * 2
    assert components([a, c], [None, None], [(a, c)], [5, 4]) == [c, c]
    assert components([a, c], [None, None], [(a, c)], [5, None]) == [a, a]
    assert components([a, c], [None, None], [(a, c)], [5, 5], ["10", "9"]) == [c, c]
    assert components([a, c], [None, "g"], [(a, c)], [5, 5], ["9", "10"]) == [a, a]
    assert components([a, c], [None, None], [(a, c)], [5, 5], ["x", "w"]) == [a, a]
    assert components([a, c], [None, None], [(a, c)], None, ["10", "9"]) == [a, a]
    assert components([a, b, c], [None] * 3, [(a, b), (b, c)]) == [a] * 3


def test_near_duplicates_of_an_own_test_row_are_not_trained_on(tmp_path):
    rows = [
        near_row(0, 0),
        near_row(0, 1, group="g"),
        {"text": "in the group", "labels": ["p"], "group": "g"},
        *words(40),
    ]
    manifest = run(tmp_path, rows, [near_row(0, 3), near_row(0, 4)])
    found = where(tmp_path)
    assert [found[f"a.csv:row {n}"] for n in (1, 2, 3)] == ["near-duplicate of a test row"] * 3
    assert [found[f"t.csv:row {n}"] for n in (1, 2)] == ["test"] * 2
    assert "test_overlap" not in told(manifest)
    assert told(manifest)["near_test_overlap"] == (
        3,
        "training rows, left out, are nearly equal, or linked, to 2 of your 2 test rows",
    )
    with pytest.raises(
        UserError, match=r"^checks\.near_test_overlap: 3 .*\(a\.csv:row 1, a\.csv:row 2, a\.csv:row 3\)"
    ):
        run(tmp_path, rows, [near_row(0, 3)], checks=Checks(near_test_overlap="error"))


def test_without_the_check_near_duplicates_go_where_they_fall(tmp_path):
    rows = [{**near_row(0, 0), "text": f"{QUESTIONS[0]} {n}"} for n in range(60)]
    rows = [{**row, "labels": ["p" if n % 2 else "q"]} for n, row in enumerate(rows)]
    run(tmp_path, [*words(40), *rows])
    assert len({where(tmp_path)[f"a.csv:row {n}"] for n in range(41, 101)}) == 1
    run(tmp_path, [*words(40), *rows], checks=Checks(near_duplicates="off"))
    assert len({where(tmp_path)[f"a.csv:row {n}"] for n in range(41, 101)}) == 3


def test_of_exact_duplicates_the_oldest_row_is_kept(tmp_path):
    for times in (["2024-05-01", "2023-05-01", None], [None, "2023-05-01", "2024-05-01"]):
        twins = [{"text": "Twin", "labels": ["odd"], "time": time, "id": time} for time in times]
        run(tmp_path, [*twins, *words(40)])
        assert [where(tmp_path)[f"a.csv:row {n}"] for n in (1, 3)] == ["duplicate"] * 2


def test_pairs_of_texts_are_near_only_as_pairs(tmp_path):
    second = [
        {"text_pair": text} for text in ("quite another question about the loan", "how do I open an account")
    ]
    rows = [near_row(0, 0) | second[0], near_row(0, 1) | second[0], near_row(0, 2) | second[1]]
    manifest = run(tmp_path, [*words(40, text_pair="x"), *rows])
    (found,) = [found for found in manifest["checks"] if found["name"] == "near_duplicates"]
    assert found["count"] == 1 and set(found["examples"][0].split(" ~ ")) == {"a.csv:row 41", "a.csv:row 42"}


def test_row_keys_stand_in_the_order_of_the_rows_and_change_no_content_hash(tmp_path):
    manifest = run(tmp_path, words(60))
    keys = read_row_keys(tmp_path / "out")
    assert {name: len(of_split) for name, of_split in keys.items()} == manifest["rows"]
    for name in SPLITS:
        expected = content_keys(Dataset(tmp_path / "out").split(name), ("text",))
        assert keys[name].tolist() == [int.from_bytes(key[:8], "little") for key in expected]
    again = run(tmp_path, [*words(60)], own_test=None)
    other = run(tmp_path, [{**row, "text": row["text"].upper()} for row in words(60)])
    assert again["content_sha256"] == manifest["content_sha256"] != other["content_sha256"]
    for name, of_split in read_row_keys(
        tmp_path / "out"
    ).items():  # case is no content: the same keys, in order
        assert of_split.tolist() == keys[name].tolist()


# --- by time ----------------------------------------------------------------------------------------------


def daily(count: int, **more: object) -> list[Row]:
    return [
        {
            "text": f"text {n}",
            "labels": ["odd" if n % 2 else "even"],
            "time": f"2024-{1 + n // 28:02d}-{1 + n % 28:02d}",
            **more,
        }
        for n in range(count)
    ]


def newest_and_oldest(folder: Path) -> dict[str, tuple[str, str]]:
    found = {}
    for name in SPLITS:
        times = sorted(Dataset(folder / "out").split(name)["time"].to_pylist())
        found[name] = (times[0], times[-1])
    return found


def test_the_newest_are_the_test_and_before_them_the_validation(tmp_path):
    manifest = run(tmp_path, daily(100), by="time", test=0.2, validation=0.1)
    assert manifest["rows"] == {"train": 70, "validation": 10, "test": 20}
    border = newest_and_oldest(tmp_path)
    assert border["train"][1] < border["validation"][0] <= border["validation"][1] < border["test"][0]


def test_a_border_may_be_a_day(tmp_path):
    for text in ("2024-03-01", "2024-03", "2024-02-29T22:30:00-01:30"):
        manifest = run(tmp_path, daily(100), by="time", test_from=text)
        assert manifest["rows"] == {"train": 46, "validation": 10, "test": 44}
        assert newest_and_oldest(tmp_path)["test"][0] == "2024-03-01"


def test_a_component_goes_by_its_newest_row(tmp_path):
    rows = daily(100)
    rows[3]["group"] = rows[99]["group"] = "patient"
    rows[5] = {**near_row(1, 0), "time": rows[5]["time"]}
    rows[98] = {**near_row(1, 1), "time": rows[98]["time"]}
    run(tmp_path, rows, by="time", test_from="2024-04-01")
    found = where(tmp_path)
    assert {found[f"a.csv:row {n}"] for n in (4, 6, 99, 100)} == {"test"}
    assert_no_leak(tmp_path)


def test_with_a_fixed_border_new_rows_move_no_old_ones(tmp_path):
    run(tmp_path, daily(100), by="time", test_from="2024-03-20", validation=0)
    before = by_content(tmp_path)
    newer = [{**row, "text": f"new {n}"} for n, row in enumerate(daily(120)[100:])]
    run(tmp_path, [*daily(100), *newer], by="time", test_from="2024-03-20", validation=0)
    after = by_content(tmp_path)
    assert before.items() <= after.items() and {after[f"new {n}"] for n in range(20)} == {"test"}


def test_rows_of_one_day_are_not_parted(tmp_path):
    rows = [{**row, "time": f"2024-01-{1 + n // 25:02d}"} for n, row in enumerate(daily(100))]
    manifest = run(tmp_path, rows, by="time", test=0.3, validation=0.2)
    assert manifest["rows"] == {"train": 50, "validation": 25, "test": 25}
    with pytest.raises(UserError, match="no row of 100 is left to test on"):
        run(tmp_path, [{**row, "time": "2024-01-01"} for row in rows], by="time")


def test_an_own_test_set_needs_no_times(tmp_path):
    manifest = run(tmp_path, daily(100), [{"text": "mine", "labels": ["odd"]}], by="time", validation=0.1)
    assert manifest["rows"] == {"train": 90, "validation": 10, "test": 1}
    assert newest_and_oldest_of(tmp_path, "train") < newest_and_oldest_of(tmp_path, "validation")


def newest_and_oldest_of(folder: Path, name: str) -> str:
    return max(Dataset(folder / "out").split(name)["time"].to_pylist())


@pytest.mark.parametrize(
    ("rows", "own_test", "split", "message"),
    [
        (daily(9) + words(1), None, {"by": "time"}, r"a\.csv:row 10 cannot be placed: it has no time"),
        (
            daily(9) + words(1, time="last May"),
            None,
            {"by": "time"},
            r"a\.csv:row 10 .*'last May'.*source\.time",
        ),
        (words(9), None, {"by": "time"}, r"split\.by: time, and the rows have none; set source\.time"),
        (daily(9), None, {"by": "time", "test_from": "spring"}, r"split\.test_from: 'spring' is no date"),
        (daily(9), None, {"by": "time", "test_from": "2030-01-01"}, "set split.test_from to an earlier day"),
        (daily(9), None, {"test_from": "2024-01-01"}, r"test_from divides by time; set split\.by: time"),
        (daily(9), daily(2), {"by": "time", "test_from": "2024-01-01"}, "both choose the test; give one"),
    ],
)
def test_rows_that_a_split_by_time_cannot_divide_are_named(tmp_path, rows, own_test, split, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path, rows, own_test, **split)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02", 86_400),
        ("1970", 0),
        ("1970-02", 31 * 86_400),
        (" 1970-01-01T00:01:00Z ", 60),
        ("1970-01-01 00:00:01.500000", 1.5),
        ("1970-01-01 00:00:01.500000000", 1.5),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01 02:00:00 +01:00", 3600),
        ("1969-12-31", -86_400),
        *(
            (text, None)
            for text in ("", None, "now", "1612121200000", "20240101", "2024-13-01", "2024-02-30", "12:00")
        ),
    ],
)
def test_times_are_iso(text, seconds):
    assert instant(text) == (None if seconds is None else seconds * 1_000_000)
