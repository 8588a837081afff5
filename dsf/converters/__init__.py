"""One file = one family of modules that `dsf.convert` knows; found by their registry, nothing is listed here."""
