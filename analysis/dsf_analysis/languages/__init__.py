"""Regular languages: automata, their syntactic monoids, and what a network must do to recognise them."""
