"""The task, the trainer and everything between: loss, batches, checkpoints, stopping."""
