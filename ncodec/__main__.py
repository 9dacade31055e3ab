"""`python -m ncodec` is `ncodec`."""

from ncodec.cli.main import main

if __name__ == "__main__":
    main()
