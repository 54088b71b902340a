"""
Keys of events, by JMESPath, with the functions that Powertools for AWS Lambda adds to it.  (borrowed: jmespath)

    compile_key("powertools_json(body).id") ──► key_of(event)
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import zlib
from collections.abc import Callable
from typing import Any

from pyfaas.errors import ConfigurationError

_MOST_BYTES = 6_291_456  # of what was compressed: an event holds no more


@functools.lru_cache(maxsize=256)
def compile_key(expression: str) -> Callable[[Any], Any]:
    """Read an expression. Raises ValueError where it is wrong, and ConfigurationError where the library is missing."""
    try:
        import jmespath
        from jmespath import functions
    except ModuleNotFoundError:
        raise ConfigurationError(
            "idempotency= reads keys by JMESPath, which is not installed: pip install pyfaas[idempotency]"
        ) from None

    class Functions(functions.Functions):  # type: ignore[misc]
        """Those of Powertools."""

        @functions.signature({"types": ["string"]})  # type: ignore[untyped-decorator]
        def _func_powertools_json(self, text: str) -> Any:
            return json.loads(text)

        @functions.signature({"types": ["string"]})  # type: ignore[untyped-decorator]
        def _func_powertools_base64(self, text: str) -> str:
            return base64.b64decode(text).decode()

        @functions.signature({"types": ["string"]})  # type: ignore[untyped-decorator]
        def _func_powertools_base64_gzip(self, text: str) -> str:
            return zlib.decompressobj(31).decompress(base64.b64decode(text), _MOST_BYTES).decode()

    options = jmespath.Options(custom_functions=Functions())
    compiled = jmespath.compile(expression)

    def key_of(event: Any) -> Any:
        """Give what the expression gives; None where the event is of another form."""
        try:
            return compiled.search(event, options=options)
        except (ValueError, binascii.Error, zlib.error, RecursionError):
            return None

    return key_of
