"""Projects: `retrainer new` makes one of the wheel's files, `retrainer upgrade` merges a newer wheel's.

The modules here need nothing but Python and git, so that a wheel works before anything is installed.
"""
