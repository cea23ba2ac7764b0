"""Training of networks: first-order methods and Newton-CG, with their schedules and batches."""
