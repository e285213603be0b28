// What a transfer engine can be told, and the words of its calls.
//
// Thread safety: values. Ownership: self-contained; a Piece names memory of its caller.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "common/security/tls_options.h"

namespace mmc::engine {

struct EngineOptions {
  std::string url = "tcp://127.0.0.1:0";  // where others ask for what is lent; port 0: a free one
  bool same_host = true;                  // false: never shared memory
  std::chrono::milliseconds timeout{30'000};  // of a call that gives none; a transfer has 1 ns per byte more
  int tcp_connections = 4;                // per peer
  int tcp_threads = 2;                    // that serve others
  int copy_threads = 0;                   // helpers of big transfers through shared memory
  int async_threads = 8;                  // that carry submitted transfers
  // Of all connections, both ways. Own certificate and those of peers: role local.
  security::TlsOptions tls;
};

// One contiguous move between `local`, an address here, and `peer`, an address in the other process.
struct Piece {
  uint64_t local = 0;
  uint64_t peer = 0;
  uint64_t bytes = 0;
};

// A short message to another engine.
struct Note {
  std::string name;
  std::string text;
};

}  // namespace mmc::engine
