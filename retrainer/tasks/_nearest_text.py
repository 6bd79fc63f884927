"""What a translation memory gives: the translation of the training text that is most like the source.

Likeness is the cosine of TF-IDF vectors of words. Legend: N test rows, M training rows.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

# Test rows compared at once: their likenesses to all training rows are held in memory.
_ROWS_AT_ONCE = 256


def nearest_translations(train: pa.Table, test: pa.Table) -> pa.Table:
    """`prediction`: for each test row the `target_text` of the most similar training row.

    Of equally similar ones the first; where no word is shared, the first training row's.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    known = [text or "" for text in train["text"].to_pylist()]
    vectors = TfidfVectorizer(token_pattern=r"(?u)\w+", sublinear_tf=True)
    try:
        memory = vectors.fit_transform(known).T.tocsr()  # [words, M]
    except ValueError:  # no training text has a single word
        return pa.table({"prediction": pa.array([""] * len(test), pa.string())})
    asked = vectors.transform([text or "" for text in test["text"].to_pylist()])  # [N, words]
    parts = range(0, asked.shape[0], _ROWS_AT_ONCE)
    found = [(asked[start : start + _ROWS_AT_ONCE] @ memory).argmax(axis=1) for start in parts]
    places = np.concatenate([np.asarray(part).ravel() for part in found]) if found else np.zeros(0, np.int64)
    return pa.table({"prediction": train["target_text"].take(pa.array(places.astype(np.int64)))})
