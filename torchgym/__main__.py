"""`python -m torchgym` is the `torchgym` command."""

import sys

from torchgym.cli import main

if __name__ == "__main__":
    sys.exit(main())
