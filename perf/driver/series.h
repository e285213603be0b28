// What a comparison run hands back: named series of figures, one figure per round, printed as one
// JSON object.
//
// Thread safety: none. Ownership: values.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/status.h"

namespace mmc::perf {

class Series {
 public:
  void Add(const std::string& name, double value) { rows_[name].push_back(value); }
  // {"name": [1.5, ...], ...}
  std::string Json() const;

 private:
  std::map<std::string, std::vector<double>> rows_;
};

inline double SecondsSince(TimePoint start) {
  return std::chrono::duration<double>(Clock::Real().Now() - start).count();
}

// The flags of a run: --name value pairs.
class Flags {
 public:
  // Errors: kInvalidArgument.
  static Result<Flags> Parse(int argc, char** argv, int first);
  std::string Text(const std::string& name, const std::string& fallback) const;
  uint64_t Int(const std::string& name, uint64_t fallback) const;

 private:
  std::map<std::string, std::string> values_;
};

// The runs. Each answers OK and fills `out`, or says what went wrong.
Status RunCopies(const Flags& flags,
                 Series* out);  // values of 8.58 MiB in 122 buffers, against memcpy
Status RunSizes(const Flags& flags, Series* out);       // 4 KiB .. 8 MiB, against a Redis server
Status RunRoundTrips(const Flags& flags, Series* out);  // one small call, against a bare Asio echo
Status RunMetaService(const Flags& flags,
                      Series* out);  // batched lookups and puts at the meta service
Status RunObjects(const Flags& flags, Series* out);   // many objects at the meta service alone
Status RunRestarts(const Flags& flags, Series* out);  // a client while services are killed
Status RunEchoServer();              // prints its port, serves until stdin ends

}  // namespace mmc::perf
