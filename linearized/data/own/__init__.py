"""Data of the user's own, files (`--data=TEXT`) or arrays from Python, which become a `Dataset` like the suite's data.

A text of `--data` is processed in three steps:

1. The reader of the format that fits the text (`formats`) returns arrays or a table (`arrays.OwnArrays`); `readers` has
   one module for each format.
2. `prepare` determines the task, converts labels to class numbers and splits the rows into train and test rows.
3. `source.OwnSource` has the interface of `linearized.data.source.Source`: its `load` selects the requested rows, fits
   transformations on the train rows, and returns the `Dataset`.

Steps 1 and 2 are done once per process and content, because settings need the task and the shape of the rows.

The key of a run contains the digest of the content, not the text of `--data`: the same file at another path gives the
same run, and a changed file gives another one. `kernel_gen` stores the text, so that its folders state their origin.
"""
