"""Jobs: the queue, the worker processes, and the files of each job."""
