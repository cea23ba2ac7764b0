"""Sharded, resumable jobs that write Gram matrices and features to files.

The rows of a matrix are divided into shards, files that are either complete or absent; a shard into bands of
consecutive rows; and a band into tiles, which are computed in parallel. A `Work` computes the entries of a tile: of a
Gram matrix, of features, or read from files. The `runner` is the same for all of them. The manifest is the description
of a folder: its settings, its data and the division into shards.
"""
