"""`python -m camelid` is the command `camelid`."""

from camelid.cli.main import main

if __name__ == "__main__":
    main()
