"""HTTP in and out: the only room that knows aiohttp.web.

It turns a dialect's request into an Invocation and a Reply or error back into that dialect.
`wire.py` decides, pure; the `*_api.py` files each speak one dialect and never import each other. No
body past its limit is ever collected, no traceback or path is ever sent. It calls the service it is
given (`server.Service`), and nothing else.
"""
