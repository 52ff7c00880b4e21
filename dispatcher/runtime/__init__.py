"""Where tasks are born: the composition root, the channels' tasks and their supervisor."""
