"""The suite's experiments: settings in, a folder of results out."""
