"""Sharded, resumable jobs that write Gram matrices and features: one runner for every kind of `Work`.

The rows of a matrix are divided into shards, files that are either complete or absent; a shard into bands of
consecutive rows; and a band into tiles, which are computed in parallel.
"""
