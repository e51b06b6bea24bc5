"""The page in a browser, which stays open while the tests of this folder run: a package, so that pytest closes it."""
