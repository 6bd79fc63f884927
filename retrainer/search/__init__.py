"""Which rows of one's own data are most like a picture, a text or a sound, by the features of a model."""
