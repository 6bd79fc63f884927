"""Which parts of an input an answer rests on, by Captum, and whether such attributions can be believed."""
