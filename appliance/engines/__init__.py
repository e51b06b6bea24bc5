"""The engines of a box: the command that looks after them, and who builds those that are wanted."""
