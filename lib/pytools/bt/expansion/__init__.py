"""The parts of ``bt.expand``: imports, macros, options, attach points."""
