"""Rows that are nearly equal, found without comparing all with all; each pair is then judged by itself.

A pair is a decision about two rows alone: whatever else the data holds, two rows are near duplicates or are
not. The arithmetic that decides is on whole numbers, so the same rows give the same pairs on any machine; of
sounds it is on rounded ones, far from where rounding could decide.

What matters of the pairs is their connected components. Of many rows that are all alike, not every pair is
given, only enough to link them: ten thousand copies do not give fifty million pairs. A row is compared with
1,024 of a bucket at most, so where more rows than that share all their buckets, a pair may be missed. Texts
that differ in their numbers alone are near duplicates only while they are few (`spelling`).
"""

from retrainer.data.similar.images import image_similarity, similar_images
from retrainer.data.similar.sounds import similar_sounds, sound_similarity
from retrainer.data.similar.texts import similar_texts, text_similarity

__all__ = [
    "image_similarity",
    "similar_images",
    "similar_sounds",
    "similar_texts",
    "sound_similarity",
    "text_similarity",
]
