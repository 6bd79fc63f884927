"""Probes for shortcuts, one file each: does one simple thing about a row give its class away?

`probe(rows)` of each file yields a `Shortcut` for every such thing. The rule is read off one half of the
training rows and judged on the other half, so that what came by chance is not reported.
`retrainer.data.shortcuts` runs them.
"""
