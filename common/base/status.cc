#include "common/base/status.h"

#include <algorithm>
#include <cstring>
#include <iterator>

namespace mmc {
namespace {

constexpr CodeInfo kCodes[] = {
#define MMC_CODE(name, value, recovery, meaning) {Code::name, #name, Recovery::recovery, meaning},
#include "common/base/status_codes.def"
#undef MMC_CODE
};

const CodeInfo* Find(Code code) {
  const auto* it = std::find_if(std::begin(kCodes), std::end(kCodes),
                                [code](const CodeInfo& info) { return info.code == code; });
  return it == std::end(kCodes) ? nullptr : it;
}

// "kNoSpace" -> "NO_SPACE".
std::string ScreamingName(std::string_view camel) {
  std::string out;
  for (char c : camel.substr(1)) {
    if (c >= 'A' && c <= 'Z') {
      if (!out.empty()) out.push_back('_');
      out.push_back(c);
    } else {
      out.push_back(static_cast<char>(c - 'a' + 'A'));
    }
  }
  return out;
}

struct NameTable {
  std::string names[std::size(kCodes)];
  NameTable() {
    for (size_t i = 0; i < std::size(kCodes); ++i) names[i] = ScreamingName(kCodes[i].name);
  }
};

}  // namespace

CodeTable AllCodes() { return {std::begin(kCodes), std::end(kCodes)}; }

std::string_view CodeName(Code code) {
  static const NameTable table;
  const CodeInfo* info = Find(code);
  return info == nullptr ? std::string_view("UNKNOWN") : table.names[info - std::begin(kCodes)];
}

std::string_view CodeMeaning(Code code) {
  const CodeInfo* info = Find(code);
  return info == nullptr ? std::string_view("a code of a newer version") : info->meaning;
}

Recovery RecoveryOf(Code code) {
  const CodeInfo* info = Find(code);
  return info == nullptr ? Recovery::kNone : info->recovery;
}

std::string_view RecoveryName(Recovery recovery) {
  switch (recovery) {
    case Recovery::kNone: return "none";
    case Recovery::kBackoff: return "backoff";
    case Recovery::kRefresh: return "refresh";
    case Recovery::kReconnect: return "reconnect";
    case Recovery::kAskOutcome: return "ask outcome";
    case Recovery::kDropReplica: return "drop replica";
  }
  return "none";
}

Code CodeFromWire(uint32_t value) {
  const Code code = static_cast<Code>(value);
  return Find(code) == nullptr ? Code::kInternal : code;
}

Status::Status(Code code, std::string message) {
  if (code != Code::kOk) rep_ = std::make_shared<const Rep>(Rep{code, std::move(message)});
}

const std::string& Status::message() const {
  static const std::string empty;
  return rep_ ? rep_->message : empty;
}

std::string Status::ToString() const {
  if (ok()) return "OK";
  std::string out(CodeName(code()));
  out += ": ";
  out += message().empty() ? std::string(CodeMeaning(code())) : message();
  return out;
}

Status Status::Annotate(std::string_view prefix) const {
  if (ok()) return *this;
  std::string text(prefix);
  text += ": ";
  text += message().empty() ? std::string(CodeMeaning(code())) : message();
  return Status(code(), std::move(text));
}

Status ErrnoStatus(std::string_view what, int err) {
  char buffer[128];
  const char* text = strerror_r(err, buffer, sizeof(buffer));
  return Status(Code::kIo, std::string(what) + ": " + text + " (errno " + std::to_string(err) + ")");
}

}  // namespace mmc
