"""Task families: data, head, per-example loss and metrics of each."""
