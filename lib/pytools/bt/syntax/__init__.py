"""The parts of the parser (``bt.parse``): tokens, types, expressions, statements, C."""
