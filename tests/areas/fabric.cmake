# Tests of fabric.
