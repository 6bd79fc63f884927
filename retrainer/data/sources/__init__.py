"""Readers of sources, a file each; the file's name is `source.kind`.

A reader has two functions, as in `mnist.py`, a short one: `files(source)` lists what its bytes depend on,
`read(source)` yields tables of rows. Which suffix of a path asks for which reader: `_KIND_BY_SUFFIX` in
`retrainer/data/fingerprint.py`. A reader of yours: docs/extending.md.
"""
