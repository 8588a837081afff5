"""`python -m dsf` is the command `dsf`."""

from .cli import main

if __name__ == "__main__":
    main()
