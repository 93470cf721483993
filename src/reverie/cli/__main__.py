"""`python -m reverie.cli`."""

import sys

from reverie.cli import main

sys.exit(main())
