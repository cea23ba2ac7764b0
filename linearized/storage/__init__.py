"""What lies on disk: files that are whole or absent, results, shards, Gram matrices and features."""
