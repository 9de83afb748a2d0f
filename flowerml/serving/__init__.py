"""A classifier behind an endpoint: the pyfunc, the wire format, a client."""
