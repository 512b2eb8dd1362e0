"""``python -m rankadapt``."""

from rankadapt.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
