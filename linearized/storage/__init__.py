"""Storage on disk: atomic writes and locks, results, shards, Gram matrices and features."""
