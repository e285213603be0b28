#include "client_sdk/cli/trace.h"

#include <sys/stat.h>

#include <boost/json.hpp>
#include <cerrno>
#include <cmath>

namespace mmc::cli {
namespace {

namespace json = boost::json;

Status Malformed(std::string message) { return Status(Code::kMalformed, std::move(message)); }

// A whole number below `limit`; other programs write times as 12.0, so a fraction of zero is let
// through.
bool ReadNumber(const json::value& value, uint64_t* out) {
  if (const int64_t* n = value.if_int64(); n != nullptr && *n >= 0) {
    *out = static_cast<uint64_t>(*n);
    return true;
  }
  if (const uint64_t* n = value.if_uint64()) {
    *out = *n;
    return true;
  }
  return false;
}

Result<uint64_t> Field(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  if (value == nullptr) return Malformed("field '" + std::string(name) + "' is missing");
  uint64_t number = 0;
  if (const double* real = value->if_double(); real != nullptr && *real >= 0 && *real <= 1e15) {
    return static_cast<uint64_t>(std::floor(*real));
  }
  if (!ReadNumber(*value, &number) || number > kMaxTraceNumber) {
    return Malformed("field '" + std::string(name) + "' is not a number from 0 to 2^50");
  }
  return number;
}

}  // namespace

Result<TraceRequest> ParseTraceLine(std::string_view line) {
  if (line.size() > kMaxTraceLine) return Malformed("the line is longer than 1 MiB");
  json::parse_options options;
  options.max_depth = 8;
  json::error_code error;
  const json::value value =
      json::parse(json::string_view(line.data(), line.size()), error, {}, options);
  if (error) return Malformed("not a JSON object: " + error.message());
  const json::object* object = value.if_object();
  if (object == nullptr) return Malformed("not a JSON object");

  TraceRequest request;
  MMC_ASSIGN_OR_RETURN(request.timestamp_ms, Field(*object, "timestamp"));
  MMC_ASSIGN_OR_RETURN(request.input_length, Field(*object, "input_length"));
  MMC_ASSIGN_OR_RETURN(request.output_length, Field(*object, "output_length"));
  const json::value* ids = object->if_contains("hash_ids");
  if (ids == nullptr || !ids->is_array())
    return Malformed("field 'hash_ids' is missing or not a list");
  const json::array& list = ids->get_array();
  if (list.size() > kMaxTraceBlocks) {
    return Malformed("'hash_ids' has " + std::to_string(list.size()) +
                     " blocks, at most 16384 are allowed");
  }
  request.hash_ids.reserve(list.size());
  for (const json::value& id : list) {
    uint64_t number = 0;
    if (!ReadNumber(id, &number)) {
      return Malformed("'hash_ids' entry " + std::to_string(request.hash_ids.size()) +
                       " is not a whole number >= 0");
    }
    request.hash_ids.push_back(number);
  }
  return request;
}

Result<TraceReader> TraceReader::Open(const std::string& path) {
  TraceReader reader;
  reader.path_ = path == "-" ? "stdin" : path;
  reader.file_.reset(path == "-" ? stdin : std::fopen(path.c_str(), "re"));
  if (reader.file_ == nullptr) return ErrnoStatus("cannot open trace '" + path + "'", errno);
  struct stat info {};
  if (fstat(fileno(reader.file_.get()), &info) == 0) {
    if (S_ISDIR(info.st_mode)) return ErrnoStatus("cannot read trace '" + path + "'", EISDIR);
    if (S_ISREG(info.st_mode)) reader.bytes_total_ = static_cast<uint64_t>(info.st_size);
  }
  return reader;
}

Result<bool> TraceReader::ReadLine() {
  buffer_.clear();
  int c = EOF;
  while (buffer_.size() <= kMaxTraceLine && (c = getc_unlocked(file_.get())) != EOF && c != '\n') {
    buffer_.push_back(static_cast<char>(c));
  }
  if (std::ferror(file_.get()) != 0) return ErrnoStatus("reading trace '" + path_ + "'", errno);
  if (buffer_.empty() && c == EOF) return false;
  bytes_read_ += buffer_.size() + (c == '\n' ? 1 : 0);
  ++line_;
  if (!buffer_.empty() && buffer_.back() == '\r') buffer_.pop_back();
  return true;
}

Result<std::optional<TraceRequest>> TraceReader::Next() {
  while (true) {
    MMC_ASSIGN_OR_RETURN(const bool more, ReadLine());
    if (!more) return std::optional<TraceRequest>();
    if (buffer_.find_first_not_of(" \t") == std::string::npos) continue;
    Result<TraceRequest> request = ParseTraceLine(buffer_);
    if (!request.ok()) return request.status().Annotate(path_ + ":" + std::to_string(line_));
    return std::optional<TraceRequest>(std::move(*request));
  }
}

}  // namespace mmc::cli
