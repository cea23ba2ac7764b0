"""Data of the user's own: `--data=TEXT` and arrays from Python become a `Dataset`, as the published sets do.

A text goes through three steps:

1. The format that fits it (`formats`) reads arrays or a table (`arrays.OwnArrays`); one module each in `readers`.
2. `prepare` finds out what is to be learned, codes the labels and divides the rows into train and test rows.
3. `source.OwnSource` has the interface of `linearized.data.source.Source`: its `load` takes the rows that are asked
   for, fits what must be fitted on the train rows, and returns the `Dataset`.

Steps 1 and 2 are done once per process and content, because settings ask for the task and the shape of the rows.

The key of a run holds the digest of the content, not the text of `--data`: the same file at another place names the
same run, and a file that was changed names another one. `kernel_gen` keeps the text, by which its folders say what they
were made from.
"""
