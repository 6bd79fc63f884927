"""The list of mistakes, and what a product should do of each, written down before anything was run:

    stop      it ends before a model is registered, and says why
    hold      a model may be made, and takes nobody's place until a person has looked; it is said why
    named     the closing table of the run names it, whatever becomes of the model
    harmless  nothing need be said; no model that is truly worse may take the champion's place

`says` is a pattern that the words shown to a person must fit (small letters) for the mistake to count as
named. How each happens to people is the docstring of its function in plants/.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from benchmarks.trust.careless.plants import contents, counts, handling, labels, overlap
from benchmarks.trust.careless.rows import IMAGE, SOUND, TEXT, Case, Month

Expected = Literal["stop", "hold", "named", "harmless"]
EVERY = (TEXT, IMAGE, SOUND)


@dataclass(frozen=True)
class Mistake:
    name: str
    expected: Expected
    says: str
    plant: Callable[[Case], Month]
    on: tuple[str, ...] = EVERY


_OVERLAP = r"test.overlap"
_LABELS = r"collapses|trivial|label.noise|shifted"
_TEXTS, _IMAGES, _SOUNDS = (TEXT,), (IMAGE,), (SOUND,)
_FILES, _NAMED = (IMAGE, SOUND), (TEXT, IMAGE)
MISTAKES = (
    Mistake("test rows in train", "stop", _OVERLAP, overlap.test_rows),
    Mistake(
        "test rows in train, saved again",
        "stop",
        r"test.overlap|near.test.overlap",
        overlap.test_rows_saved_again,
    ),
    Mistake(
        "the test file given as training file",
        "stop",
        r"copy of|is source\.path|test.overlap",
        overlap.train_on_test_file,
        _NAMED,
    ),
    Mistake(
        "training and test file swapped", "hold", r"trained on|rows [\d,]+ →", overlap.files_swapped, _NAMED
    ),
    Mistake(
        "warm start from a model that saw the test",
        "stop",
        r"learned from|trained on them|started from",
        overlap.warm_start,
        _SOUNDS,
    ),
    Mistake("groups forgotten", "named", r"group|speaker|same voice", overlap.speakers_forgotten, _SOUNDS),
    Mistake("every row three times", "hold", r"repeat another", counts.joined_three_times),
    Mistake("half of the rows gone", "hold", r"rows [\d,]+ → ", counts.truncated),
    Mistake("test set shrunk to a fifth", "hold", r"test rows [\d,]+ → ", counts.test_shrunk),
    Mistake("test set of easy rows", "hold", r"test rows [\d,]+ → ", counts.easy_test),
    Mistake("only easy rows are new", "harmless", "", counts.easy_rows),
    Mistake("last month's file again", "named", r"no new data|no new row|nothing new", counts.stale),
    Mistake("labels shifted by a row", "stop", r"shifted.labels", labels.labels_slipped, _TEXTS),
    Mistake("labels shifted by a file", "hold", _LABELS, labels.labels_slipped, _FILES),
    Mistake("a join that sorts one column", "hold", _LABELS, labels.labels_sorted),
    Mistake(
        "the test's labels shifted by a row",
        "hold",
        r"trivial|collapses|test.*label|label.*test",
        labels.test_labels_slipped,
    ),
    Mistake("one class mostly mislabelled", "hold", r"collapses|falls|label.noise", labels.class_mislabelled),
    Mistake("a fifth of the labels wrong", "named", r"label.noise", labels.fifth_mislabelled),
    Mistake("a class not exported", "stop", r"unseen.class", labels.class_not_exported),
    Mistake("a class gone", "hold", r"vanish|missing|gone", labels.class_gone),
    Mistake("two classes merged", "hold", r"vanish|missing|gone", labels.classes_merged),
    Mistake("a class is new", "hold", r"appear|new class|is new", labels.class_new),
    Mistake("a class in two spellings", "stop", r"label.spelling|spell", labels.spelled_twice, _NAMED),
    Mistake("the id as label", "stop", r"class", labels.label_is_id, _TEXTS),
    Mistake("classes renumbered", "hold", r"appear|vanish", labels.renumbered, _NAMED),
    Mistake("labels nan", "stop", r"placeholder.labels|nan", labels.labels_nan, _TEXTS),
    Mistake("all of one class", "stop", r"class", labels.one_class),
    Mistake("two annotators, two labels", "stop", r"conflicting", labels.two_annotators),
    Mistake("the champion's predictions as labels", "harmless", "", labels.predictions_as_labels),
    Mistake("the champion's predictions label the new rows", "harmless", "", labels.new_rows_predicted),
    Mistake("the label's name in the text", "stop", r"leaks", contents.label_in_text, _TEXTS),
    Mistake("a mark of its source on one class", "named", r"shortcuts|leaks", contents.source_marks_class),
    Mistake(
        "a column that gives the class away",
        "stop",
        r"leaks|shortcuts|conflicting",
        contents.leaky_column,
        _TEXTS,
    ),
    Mistake("a fifth empty", "stop", r"empty|broken|no audio|no image", contents.emptied),
    Mistake(
        "a fifth half written", "stop", r"broken|truncated|decode|cut short", contents.half_written, _FILES
    ),
    Mistake("encoding broken", "named", r"encoding", contents.mojibake, _TEXTS),
    Mistake("another encoding", "stop", r"utf-8", contents.other_encoding, _TEXTS),
    Mistake("HTML left in", "hold", r"characters|length", contents.html, _TEXTS),
    Mistake(
        "texts cut at 20 characters",
        "hold",
        r"characters|length|conflicting|duplicate",
        contents.cut_at_20,
        _TEXTS,
    ),
    Mistake("another language mixed in", "named", r"label.noise|language", contents.other_language, _TEXTS),
    Mistake("colours swapped", "harmless", "", contents.colours_swapped, _IMAGES),
    Mistake("thumbnails instead of images", "hold", r"pixels|size", contents.thumbnails, _IMAGES),
    Mistake(
        "another sampling rate in the header",
        "hold",
        r"rate|length|seconds|duration",
        contents.rate_wrong,
        _SOUNDS,
    ),
    Mistake("a fifth muted", "named", r"silen|empty|duplicate|conflicting|loud", contents.muted, _SOUNDS),
    Mistake("semicolons for commas", "stop", r"column", handling.semicolons, _TEXTS),
    Mistake("the label's column renamed", "stop", r"column", handling.column_renamed, _TEXTS),
    Mistake("a backup folder inside", "stop", r"old|conflicting|class", handling.backup_inside, _IMAGES),
    Mistake("a test older than the training rows", "named", r"old.test", handling.test_is_old, _TEXTS),
    Mistake(
        "learning rate × 100", "hold", r"collapses|trivial|falls|diverge|not finite", handling.rate_times_100
    ),
    Mistake("0 epochs", "stop", r"epochs", handling.no_epochs, _NAMED),
    Mistake("hardly trained", "hold", r"collapses|trivial|falls", handling.one_epoch),
    Mistake("ten seeds until one wins", "harmless", "", handling.until_it_wins, _SOUNDS),
)
