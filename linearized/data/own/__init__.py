"""Loading of the user's own data, from files (`--data=TEXT`) or from arrays in Python, as a `Dataset`.

The value of `--data` is processed in three steps:

1. `formats` finds the reader of its format (`readers` has one module for each). The reader returns arrays or a table
   (`arrays.OwnArrays`).
2. `prepare` determines the task, converts labels to class numbers and splits the rows into train and test rows.
3. `source.OwnSource` has the interface of `linearized.data.source.Source`: its `load` selects the requested rows, fits
   transformations on the train rows, and returns the `Dataset`.

The result of steps 1 and 2 stays in memory, because the checks of settings need the task and the shape of the rows.

A run is identified by the digest of the content, not by the value of `--data`. The same file at another path therefore
gives the same run, and a changed file gives another run. `kernel_gen` also stores the value of `--data`, so that its
folders state their origin.
"""
