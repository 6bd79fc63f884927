"""`make init`: looks at a folder or file, says what it found, and writes a recipe for it.

`look` finds out what lies there (`folders`, `tables`; `columns` tells what a table's columns are for), and
`recipe` writes it down. Only files' names, headers and a table's first rows are read: whether each row can be
used is what ingest finds out.
"""
