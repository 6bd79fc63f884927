"""`make tune`: which settings of a recipe do best on the validation rows, found by many trainings."""
