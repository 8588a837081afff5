"""A "yes": what single heads can be made to do, how they are put together, and the stack that is run."""
