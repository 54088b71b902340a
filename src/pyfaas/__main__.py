"""``python -m pyfaas``."""

import sys

from pyfaas.cli import main

sys.exit(main())
