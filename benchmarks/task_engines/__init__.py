"""One engine of tasks in each module: how it takes tasks that do nothing, and how one process of it works."""
