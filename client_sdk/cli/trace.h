// Reads request traces: JSON lines {"timestamp": ms, "input_length": tokens, "output_length":
// tokens, "hash_ids": [block, ...]}, where each id names one block of 512 tokens and equal ids are
// equal prefixes.
//
// Strict and bounded: a line has at most 1 MiB, a request at most 16,384 blocks; blank lines are
// skipped, fields beside these four are ignored. Thread safety: TraceReader is for one thread at a
// time. Ownership: it owns its file.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"

namespace mmc::cli {

inline constexpr size_t kMaxTraceLine = 1 << 20;
inline constexpr size_t kMaxTraceBlocks = 16384;
inline constexpr uint64_t kMaxTraceNumber = uint64_t{1} << 50;

struct TraceRequest {
  uint64_t timestamp_ms = 0;
  uint64_t input_length = 0;
  uint64_t output_length = 0;
  std::vector<uint64_t> hash_ids;
};

// Errors: kMalformed; the message says what is wrong with which field.
Result<TraceRequest> ParseTraceLine(std::string_view line);

class TraceReader {
 public:
  // "-" is stdin. Errors: kIo.
  static Result<TraceReader> Open(const std::string& path);

  // The next request, or nullopt at the end. Errors: kMalformed, naming file and line; kIo.
  Result<std::optional<TraceRequest>> Next();

  uint64_t line() const { return line_; }
  uint64_t bytes_read() const { return bytes_read_; }
  // Of the whole file; 0 when it is not a regular file.
  uint64_t bytes_total() const { return bytes_total_; }

 private:
  struct Close {
    void operator()(std::FILE* file) const {
      if (file != stdin) std::fclose(file);
    }
  };
  // False at the end of the file.
  Result<bool> ReadLine();

  std::string path_;
  std::unique_ptr<std::FILE, Close> file_;
  std::string buffer_;
  uint64_t line_ = 0;
  uint64_t bytes_read_ = 0;
  uint64_t bytes_total_ = 0;
};

}  // namespace mmc::cli
