"""Sharded, resumable jobs that write Gram matrices and features to files.

The rows of a matrix are divided into shards, which are files that are either complete or absent. A shard is divided
into bands of consecutive rows, and a band into tiles, which are computed in parallel. A `Work` computes the entries of
a tile. There is one for Gram matrices, one for features, and one that reads entries from files; the `runner` works with
all of them. The manifest is the description of a folder: its settings, its data and the division into shards.
"""
