"""Sessions on models, behind one interface."""
