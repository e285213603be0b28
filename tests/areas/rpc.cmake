# Tests of rpc.
