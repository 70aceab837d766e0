"""ASGI: routes, the request lifecycle, access control, problems, and the page."""
