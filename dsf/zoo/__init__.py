"""One file = one architecture; found by their registry (dsf.architectures), nothing is listed here."""
