"""A server for the application, for those who have none: uvicorn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyfaas.errors import ConfigurationError

if TYPE_CHECKING:
    from pyfaas._sources.http.application import Application


def serve(application: Application, host: str, port: int, options: dict[str, Any]) -> None:
    """Serve until a signal ends it. Raises ConfigurationError where there is no uvicorn."""
    try:
        import uvicorn
    except ImportError:
        raise ConfigurationError("serve() needs uvicorn: pip install pyfaas[http]") from None
    # Compressing costs a WebSocket more memory than all the rest of it.
    uvicorn.run(application, host=host, port=port, **{"lifespan": "on", "ws_per_message_deflate": False, **options})
