"""What keeps the box itself in order: backup and restore, the name on the network, the log of a command."""
