"""Where rows come from, what is checked of them, and which of them are held out."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field, field_validator

from retrainer.settings.section import OpenSection, Section


class Source(OpenSection):
    # Classes are names, also where YAML reads them as numbers.
    model_config = ConfigDict(frozen=True, extra="allow", coerce_numbers_to_str=True)

    kind: str = Field(
        "", description="a file of retrainer/data/sources or plugins.x; empty: by the path's suffix"
    )
    path: str = Field("", description="file, directory, archive or s3:// address")
    test_path: str = Field("", description="your own test set, in the same form as `path`")
    validation: str = Field(
        "",
        description="your own validation set: the folder, file or list of this name; empty: val, valid,"
        " validation or dev beside train; none: such rows join the training rows",
    )
    text: str = Field("text", description="column of the text")
    text_pair: str = Field("text_pair", description="column of the second text, if there is one")
    image: str = Field("image", description="column with encoded image bytes, or paths beside the file")
    label: str = Field("label", description="column of the label (a list of them for multi-label)")
    label_separator: str = Field("", description="splits the label column into several labels, as in 'a|b'")
    group: str = Field("group", description="rows of one group stay in one split")
    time: str = Field("time", description="when the row arose")
    id: str = Field("id", description="your own key of the row")
    metadata: tuple[str, ...] = Field((), description="further columns to keep, for slices of the evaluation")
    classes: tuple[str, ...] = Field((), description="keep only these classes; empty keeps all")
    columns: dict[str, str] = Field(
        {},
        description="written by resolve: the columns that the task reads and their types, with a ? behind one"
        " that may be absent; empty: text, text_pair, image and labels",
    )
    digest: str = Field("", description="written by resolve: sha256 of the source's bytes")
    code_digest: str = Field("", description="written by resolve: sha256 of a plug-in's code")


class Split(Section):
    test: float = Field(
        0.2, ge=0, lt=1, description="share of rows for the test, by hash of content or group"
    )
    validation: float = Field(0.1, ge=0, lt=1, description="share of rows that choose the epoch")
    train_per_class: int = Field(0, ge=0, description="keep so many training rows a class; 0 keeps all")
    validation_per_class: int = Field(0, ge=0, description="the same for the validation rows")
    limit: int = Field(0, ge=0, description="keep so many rows in all, lowest hash first; 0 keeps all")
    salt: str = Field("", description="another word draws another split")
    by: Literal["hash", "time"] = Field(
        "hash", description="held out by hash, or the newest by `source.time`"
    )
    test_from: str = Field("", description="by time: first day of the test; empty: the newest share")


Level = Literal["error", "warn", "off"]


def _level_or_share(value: Any) -> Any:
    """Raises ValueError for what is neither a level nor a share between 0 and 1."""
    if isinstance(value, str) and value in get_args(Level):
        return value
    try:
        share = 0.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        share = 0.0
    if not 0 < share < 1:
        raise ValueError("expected error, warn, off, or the share from 0 to 1 beyond which the run stops")
    return share


# Of a check that can say of what share of the rows (or labels) it speaks.
Limit = Annotated[Level | float, BeforeValidator(_level_or_share)]


class Checks(Section):
    """What may be wrong with the rows. `error` stops the run, `warn` counts and reports, `off` does not look.
    A share, as 0.05, stops the run beyond that share and warns up to it.

    Rows that cannot be used are left out unless the run stops, each with its reason; the others are kept as
    they are.
    """

    empty: Limit = Field(0.05, description="no text, no image, no label; such rows are left out")
    broken: Limit = Field(0.05, description="undecodable, truncated or huge images and sounds; left out")
    encoding: Level = Field("warn", description="text once decoded wrongly, or with control characters")
    personal_data: Limit = Field(
        "warn",
        description="texts with e-mail addresses, IBANs, card, IP or phone numbers; the share is of rows",
    )
    too_long: Limit = Field(0.1, description="texts that are certainly cut at task.max_length")
    cut_texts: Limit = Field(
        0.1, description="texts that all end at one length, as a column's width cuts them"
    )
    unusual_images: Level = Field("warn", description="animated, CMYK, 16-bit, alpha, rotated: normalised")
    silent_sounds: Limit = Field("warn", description="recordings (WAV) of digital silence alone; they stay")
    boxes: Level = Field("warn", description="boxes outside of their image: cut; without area: left out")
    label_spelling: Limit = Field(
        0.001, description="classes that differ in case, space, punctuation; the share is of rarer spellings"
    )
    id_spelling: Level = Field(
        "warn", description="groups, or ids of own test rows, that are others' but for case, space or zeros"
    )
    unique_labels: Limit = Field(
        0.5, description="training rows whose label no other row has, as where the label is an id"
    )
    single_class: Level = Field("error", description="rows to train on of fewer than two classes")
    rare_class: Level = Field("warn", description="classes of fewer than `rare_class_rows` training rows")
    rare_class_rows: int = Field(10, ge=1, description="see rare_class")
    unseen_class: Limit = Field(
        0.02,
        description="classes of the test or validation that train never sees; the share is of its rows,"
        " without those of as many small classes as chance explains",
    )
    duplicates: Level = Field("warn", description="equal content and labels twice; one row stays")
    near_duplicates: Level = Field("warn", description="nearly equal content; such rows share one split")
    text_similarity: float = Field(
        0.8,
        gt=0.5,
        le=1,
        description="near duplicates: least Jaccard similarity of the texts' shingles; 1: the same words",
    )
    image_distance: int = Field(
        8, ge=0, le=12, description="near duplicates: most differing bits of the images' 64-bit hashes"
    )
    conflicting_labels: Limit = Field(0.02, description="equal content with other labels; none stays")
    test_overlap: Limit = Field(
        "error",
        description="your own test rows whose content or group training rows have too, which are left out",
    )
    near_test_overlap: Limit = Field(
        0.1, description="your own test rows that training rows are nearly equal to, which are left out"
    )
    validation_overlap: Limit = Field("warn", description="as test_overlap, of your own validation set")
    near_validation_overlap: Limit = Field(
        "warn", description="as near_test_overlap, of your own validation set"
    )
    label_errors: Level = Field("warn", description="labels that the model has good reason to doubt")
    leaks: Level = Field("error", description="the label written into what the model reads")
    shortcuts: Level = Field("warn", description="a column, a mark, a file's format that tells the class")
    shifted_labels: Level = Field("error", description="labels beside the row above or below their own")
    placeholder_labels: Level = Field("error", description="classes named nan, null, n/a")
    old_test: Level = Field("warn", description="own test rows that are older than the training rows")
    label_noise: Level = Field("warn", description="training labels that the rows like them contradict")
    label_noise_share: float = Field(
        0.04, ge=0, lt=1, description="label_noise: the share of wrong labels that is worth a word"
    )
    label_noise_rows: int = Field(
        10_000, ge=200, description="label_noise and shifted_labels look at so many training rows"
    )

    @field_validator("*", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        """YAML reads a bare `off` as false."""
        return "off" if value is False else value
