// Outcome of an operation: Code (a number that travels), Status (code + one line of text), Result<T>.
//
// Thread safety: values; const methods may be called from any thread. Ownership: self-contained.
// OK allocates nothing. A message names the thing, the value and the remedy, in one line.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace mmc {

enum class Code : uint32_t {
#define MMC_CODE(name, value, recovery, meaning) name = value,
#include "common/base/status_codes.def"
#undef MMC_CODE
};

// What a caller should do about a code; retry loops read this and nothing else.
enum class Recovery : uint8_t {
  kNone,         // final: report it
  kBackoff,      // the same call again, later
  kRefresh,      // ask the meta service for the location (or leader) again, then retry
  kReconnect,    // connect (and open the session or join) again, then retry
  kAskOutcome,   // the effect is unknown: ask before doing it again
  kDropReplica,  // read another replica and report this one
};

struct CodeInfo {
  Code code;
  const char* name;  // "kNoSpace" -> "NO_SPACE"
  Recovery recovery;
  const char* meaning;
};

// Every code, in the order of status_codes.def.
struct CodeTable {
  const CodeInfo* begin;
  const CodeInfo* end;
};
CodeTable AllCodes();

// Unknown numbers (from a newer peer) answer "UNKNOWN" / kNone.
std::string_view CodeName(Code code);
std::string_view CodeMeaning(Code code);
Recovery RecoveryOf(Code code);
std::string_view RecoveryName(Recovery recovery);
// A number from the wire; one that is not in the table becomes kInternal.
Code CodeFromWire(uint32_t value);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code) : Status(code, std::string()) {}  // NOLINT: a code is a status
  Status(Code code, std::string message);

  static Status Ok() { return Status(); }

  bool ok() const { return rep_ == nullptr; }
  Code code() const { return rep_ ? rep_->code : Code::kOk; }
  const std::string& message() const;
  Recovery recovery() const { return RecoveryOf(code()); }
  // "NO_SPACE: pool dram of 3 nodes is full and leased"; "OK" when ok.
  std::string ToString() const;
  // The same status with "prefix: " before its message; OK stays OK.
  Status Annotate(std::string_view prefix) const;

  friend bool operator==(const Status& a, const Status& b) { return a.code() == b.code(); }

 private:
  struct Rep {
    Code code;
    std::string message;
  };
  std::shared_ptr<const Rep> rep_;
};

// Status of a failed system call: kIo with "what: strerror (errno N)".
Status ErrnoStatus(std::string_view what, int err);

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}               // NOLINT: a value is a result
  Result(Status status) : status_(std::move(status)) {        // NOLINT: a failure is a result
    if (status_.ok()) status_ = Status(Code::kInternal, "Result made from an OK status without a value");
  }
  Result(Code code) : Result(Status(code)) {}  // NOLINT

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  Code code() const { return status_.code(); }

  // REQUIRES: ok().
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return std::move(*value_); }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return std::move(*value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }
  T value_or(T other) const { return value_ ? *value_ : std::move(other); }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace mmc

#define MMC_CONCAT_INNER(a, b) a##b
#define MMC_CONCAT(a, b) MMC_CONCAT_INNER(a, b)

// Returns the status out of the calling function when it is not OK.
#define MMC_RETURN_IF_ERROR(expr)                   \
  do {                                              \
    if (::mmc::Status mmc_status_ = (expr); !mmc_status_.ok()) return mmc_status_; \
  } while (false)

// MMC_ASSIGN_OR_RETURN(auto x, MakeX());
#define MMC_ASSIGN_OR_RETURN(lhs, expr) MMC_ASSIGN_OR_RETURN_INNER(MMC_CONCAT(mmc_result_, __LINE__), lhs, expr)
#define MMC_ASSIGN_OR_RETURN_INNER(tmp, lhs, expr) \
  auto tmp = (expr);                               \
  if (!tmp.ok()) return tmp.status();              \
  lhs = std::move(tmp).value()
