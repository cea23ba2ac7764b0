"""Sharded, resumable jobs that write Gram matrices and features: one runner, which knows its work by a protocol."""
