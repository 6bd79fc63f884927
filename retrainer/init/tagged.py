"""Tagged sentences as what a recipe needs to know: CoNLL files, and JSON lines with a list of words."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from retrainer.data.sources import conll, jsonl
from retrainer.data.sources._columns import given_parts
from retrainer.data.sources._splits import TEST, TRAIN, VALIDATION
from retrainer.errors import UserError
from retrainer.formats.tags import is_span_tag, spans
from retrainer.init.found import Found, class_counts, shown
from retrainer.settings import Source
from retrainer.texts import plural

# Sentences that are looked at.
_MOST = 20_000
_LENGTHS = (32, 64, 128, 256)
# Word pieces of a word on average, and the marks around a sentence (English, BERT's vocabulary).
_TOKENS_A_WORD, _MARKS = 1.4, 2
_OWN = {TEST: "your own test set", VALIDATION: "your own validation set"}
_TOKENS, _TAGS = ("tokens", "words"), ("tags", "ner_tags", "pos_tags", "chunk_tags", "labels")


class Tagged(NamedTuple):
    """A sentence, as far as it is looked at here."""

    words: int
    tags: list[str]
    document: int = 0


def look_at_conll(path: Path) -> Found | None:
    """A file, or a folder of such; None where it is no CoNLL file with tags that come again."""
    source = Source.parse({"kind": "conll", "path": str(path)}, "source")
    try:
        parts = given_parts(source, conll.SUFFIXES)
        training = next(file for file, split in parts if split == TRAIN)
        found = [
            Tagged(len(one.words), one.tags, one.document)
            for one in islice(conll.sentences(training, source), _MOST)
        ]
    except (UserError, StopIteration):
        return None
    tags = {tag for one in found for tag in one.tags}
    if len(found) < 2 or 2 * len(tags) > sum(one.words for one in found):
        return None
    facts = [f"{file.name} is {_OWN[split]}" for file, split in parts if split in _OWN and path.is_dir()]
    if (documents := found[-1].document) > 1:
        facts.append(f"{plural(documents, 'document')}, each a group that shares a split")
    return _found(path, {"kind": "conll", "path": str(path)}, found, facts)


def look_at_token_lists(path: Path) -> Found | None:
    """A JSONL file whose rows have a list of words and one of tags; None where they have not."""
    columns, _ = jsonl.first_rows(path, _MOST)
    lists = {name: values for name, values in columns.items() if all(isinstance(v, list) for v in values)}
    words = next((name for name in _TOKENS if name in lists), "")
    tags = next((name for name in _TAGS if name in lists), "")
    if not words or not tags:
        return None
    source = {"kind": "tokens_jsonl", "path": str(path)}
    source |= {"text": words} if words != "tokens" else {}
    source |= {"tags": tags} if tags != "tags" else {}
    rows = zip(lists[words], lists[tags], strict=True)
    found = [Tagged(len(one), [str(tag) for tag in other]) for one, other in rows]
    facts = []
    if all(tag.isdecimal() for one in found for tag in one.tags):
        facts.append("tags are numbers: name them by source.tag_names, as [O, B-PER, I-PER]")
    return _found(path, source, found, facts)


def _found(path: Path, source: dict[str, Any], found: list[Tagged], facts: list[str]) -> Found:
    tags = Counter(tag for one in found for tag in one.tags)
    of_spans = all(map(is_span_tag, tags))
    kinds = Counter(kind for one in found for kind, _, _ in spans(one.tags)) if of_spans else tags
    counts = class_counts(kinds).partition(": ")[2]
    facts = [f"{plural(len(kinds), 'type')} of {'spans' if of_spans else 'words'}: {counts}", *facts]
    facts += [f"the first {_MOST:,} sentences were looked at"] if len(found) == _MOST else []
    lengths = sorted(int(one.words * _TOKENS_A_WORD) + _MARKS for one in found)
    common = lengths[int(0.95 * (len(lengths) - 1))]
    task = {
        "kind": "sequence_tagging",
        "max_length": next((length for length in _LENGTHS if common <= length), _LENGTHS[-1]),
        "spans": of_spans,
    }
    others = [tag for tag in tags if not is_span_tag(tag)]
    chosen = {
        "task.max_length": f"19 of 20 sentences have up to about {common} tokens",
        "task.spans": "tags begin and go on (B-, I-)" if of_spans else f"plain tags: {shown(others, 3)}",
    }
    count = f"{plural(len(found), 'sentence')} of {plural(sum(tags.values()), 'word')}"
    return Found(f"{path}: {count} ({source['kind']})", source, task, tuple(facts), chosen)
