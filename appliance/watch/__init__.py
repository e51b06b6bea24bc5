"""Watch folders: what lands in them is found, waited for, enhanced once and listed by its reason if it cannot be."""
