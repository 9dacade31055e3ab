"""`python -m ncodec.training.dct`."""

from ncodec.training.dct.program import main

if __name__ == "__main__":
    main()
