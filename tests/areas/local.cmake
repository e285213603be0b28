# Tests of local.
