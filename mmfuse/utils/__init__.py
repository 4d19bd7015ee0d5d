"""Files, terminals, processes and other things that know nothing of the field."""
