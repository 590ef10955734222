"""`python -m netspec`, for where the script is not on the path."""

import sys

from netspec.cli import main

sys.exit(main())
