# Tests of common.
