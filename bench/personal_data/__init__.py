"""Personal data found in labelled sentences: our patterns beside presidio's, in one run."""
