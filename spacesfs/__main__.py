"""``python -m spacesfs`` is the same as ``spacesfs``."""

import sys

from spacesfs.cli.main import main

sys.exit(main())
