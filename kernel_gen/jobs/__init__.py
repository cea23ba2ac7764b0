"""Sharded, resumable jobs that write Gram matrices."""
