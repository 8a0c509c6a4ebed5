"""``python -m ocrsdk``."""

from ocrsdk.cli import main

if __name__ == "__main__":
    main()
