"""The page in a browser, which is open while the tests of this folder run: a package, so that pytest closes it."""
