"""What runs in the fresh interpreters: standard library only, and nothing of the rest of the package."""
