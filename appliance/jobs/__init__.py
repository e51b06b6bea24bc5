"""Jobs: the queue, the processes that work it off, and what is kept of each job."""
