"""Sharded, resumable jobs that write Gram matrices and features: one runner for every kind of `Work`."""
